"""What was said: messages on the wire, turns, sessions."""

from __future__ import annotations

from personalagent.dialogue import Message, Turn, turns_of


def test_a_message_goes_on_the_wire_as_role_and_content() -> None:
    assert Message("user", "Hello").as_wire() == {"role": "user", "content": "Hello"}


def test_each_user_message_is_paired_with_the_answer_that_follows_it() -> None:
    messages = [Message("user", "a"), Message("assistant", "A"), Message("user", "b"), Message("assistant", "B")]
    assert turns_of(messages) == (Turn("a", "A"), Turn("b", "B"))


def test_two_user_messages_in_a_row_are_two_turns() -> None:
    assert turns_of([Message("user", "a"), Message("user", "b"), Message("assistant", "B")]) == (Turn("a"), Turn("b", "B"))


def test_system_and_tool_messages_are_not_the_users_words() -> None:
    messages = [Message("system", "be brief"), Message("user", "a"), Message("tool", "42"), Message("assistant", "A")]
    assert turns_of(messages) == (Turn("a", "A"),)


def test_a_greeting_of_the_agent_makes_no_turn_and_a_second_answer_is_not_the_first() -> None:
    messages = [Message("assistant", "Welcome"), Message("user", "a"), Message("assistant", "A"), Message("assistant", "A2")]
    assert turns_of(messages) == (Turn("a", "A"),)


def test_no_message_makes_no_turn() -> None:
    assert turns_of([]) == ()
