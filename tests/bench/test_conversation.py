"""The history is shown as it was said, and cut from its oldest end where the context is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.bench.conversation import Conversation, Decoding, fitted, in_turns, messages_of, tokens_of
from personalagent.config import Settings
from personalagent.dialogue import Message, Turn
from personalagent.errors import LLMRefused
from personalagent.llm.base import Completion, FinishReason, Usage, open_llm
from personalagent.llm.scripted import ScriptedLLM
from tests.bench.systems.parts import LENGTH, SEASICK, example

REQUEST = Message("user", "And now?")


def contents(llm: ScriptedLLM, call: int) -> list[str]:
    """What a call's messages say, the system message left out."""
    return [message.content for message in llm.calls[call].messages[1:]]


def test_sessions_are_listed_as_messages_and_an_unanswered_turn_joins_the_next() -> None:
    messages = messages_of([(Turn("a", "b"), Turn("c")), (Turn("d", "e"),)])
    assert [(m.role, m.content) for m in messages] == [
        ("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d"), ("assistant", "e")
    ]  # fmt: skip
    assert [m.content for m in in_turns(messages)] == ["a", "b", "c\n\nd", "e"]


def test_tokens_are_estimated_from_characters() -> None:
    assert tokens_of(Message("user", "12345678")) == 2 + 4
    assert tokens_of(Message("user", "1234日本")) == 1 + 2 + 4


def test_the_oldest_messages_go_first_and_the_rest_begins_with_the_user() -> None:
    history = [Message("user", "x" * 40), Message("assistant", "y" * 40), Message("user", "z" * 40)]  # 14 tokens each
    assert fitted(history, 42) == history
    assert fitted(history, 41) == history[2:]
    assert fitted(history, 13) == []


async def test_a_history_that_fits_is_shown_whole_and_nothing_is_said_of_it() -> None:
    llm = ScriptedLLM(["ok"])
    conversation = Conversation(example(SEASICK), llm, Decoding())
    assert await conversation.ask(Message("user", conversation.request)) == "ok"
    assert [(m.role, m.content) for m in llm.calls[0].messages] == [
        ("system", "You are a helpful assistant."),
        ("user", "I get seasick on any boat."),
        ("assistant", "I will keep that in mind."),
        ("user", "My cat is called Pim."),
        ("assistant", "A fine name."),
        ("user", "How do I get to the island?" + LENGTH),
    ]
    assert (llm.calls[0].max_tokens, llm.calls[0].temperature, llm.calls[0].seed) == (300, 0.0, 0)
    assert (conversation.trace, conversation.cut_messages) == ([], 0)


async def test_what_the_context_has_no_room_for_is_counted_and_shown() -> None:
    """60 of context - 20 for the reply - 11 system - 6 request leaves 23: the last two messages are 10 + 7."""
    llm = ScriptedLLM(["ok"])
    conversation = Conversation(example(SEASICK), llm, Decoding(context_tokens=60))
    await conversation.ask(REQUEST, max_tokens=20)
    assert contents(llm, 0) == ["My cat is called Pim.", "A fine name.", "And now?"]
    assert conversation.cut_messages == 2
    assert conversation.trace == ["context full (60 tokens): left out the oldest 2 of 4 messages of the history"]


async def test_a_request_that_the_endpoint_refuses_as_too_long_is_sent_with_less() -> None:
    llm = ScriptedLLM([LLMRefused("too long", status=400, is_too_long=True), "ok"])
    conversation = Conversation(example(SEASICK), llm, Decoding())
    assert await conversation.ask(REQUEST) == "ok"
    assert [len(contents(llm, call)) for call in (0, 1)] == [5, 1]
    assert conversation.cut_messages == 4


async def test_a_reply_that_broke_off_for_want_of_room_is_asked_for_again_with_less() -> None:
    """The history has 39 tokens; 39 - 80 / 16 = 34 holds its last two messages."""
    broken = Completion("half a", Usage(60, 4), finish_reason=FinishReason.LENGTH)
    llm = ScriptedLLM([broken, Completion("whole", Usage(40, 4))])
    conversation = Conversation(example(SEASICK), llm, Decoding(context_tokens=80))
    assert await conversation.ask(REQUEST, max_tokens=20) == "whole"
    assert [len(contents(llm, call)) for call in (0, 1)] == [5, 3]


async def test_a_reply_that_is_as_long_as_it_may_be_is_kept() -> None:
    llm = ScriptedLLM([Completion("long", Usage(60, 20), finish_reason=FinishReason.LENGTH)])
    assert await Conversation(example(SEASICK), llm, Decoding()).ask(REQUEST, max_tokens=20) == "long"


@pytest.mark.parametrize("is_too_long", [True, False])
async def test_what_cannot_be_helped_by_less_history_is_an_error(is_too_long: bool) -> None:
    llm = ScriptedLLM([LLMRefused("no", status=400, is_too_long=is_too_long)])
    sessions = () if is_too_long else (SEASICK,)
    with pytest.raises(LLMRefused):
        await Conversation(example(*sessions), llm, Decoding()).ask(REQUEST)


@pytest.mark.model
async def test_the_embedded_model_refuses_what_is_too_long_in_a_way_that_is_understood(qwen: Path) -> None:
    """The run believes in 9,000 tokens of context where there are 4,096."""
    llm = open_llm("embedded", "responder", Settings(models_dir=qwen.parent, embedded_threads=1))
    session = (Turn("Read this: " + "seven green boats " * 1_600, "I did."), Turn("My cat is called Pim.", "A fine name."))
    conversation = Conversation(example(session), llm, Decoding(context_tokens=9_000))
    assert "Pim" in await conversation.ask(Message("user", "What is my cat called?"), max_tokens=16)
    assert conversation.cut_messages == 2
    await llm.aclose()
