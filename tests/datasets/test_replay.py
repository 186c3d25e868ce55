"""Loading dialogues from every form that users and researchers have them in."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from personalagent.datasets.replay import load_dialogues, parse_dialogues
from personalagent.dialogue import Turn
from personalagent.errors import DataError
from tests.conftest import ROOT

USER = {"role": "user", "content": "I'm vegan."}
ASSISTANT = {"role": "assistant", "content": "Noted."}


def turns(text: str) -> list[Turn]:
    """Return the turns of the only dialogue of a text."""
    (dialogue,) = parse_dialogues(text, "chat.json")
    return [turn for session in dialogue.sessions for turn in session.turns]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([USER, ASSISTANT]),
        json.dumps([USER, ASSISTANT], indent=2),
        json.dumps([[USER, ASSISTANT]]),
        f"{json.dumps(USER)}\n{json.dumps(ASSISTANT)}\n",
        json.dumps({"messages": [{"role": "system", "content": "Be kind."}, USER, ASSISTANT]}),
        json.dumps({"messages": [USER, {"role": "tool", "content": "I hate tea."}, ASSISTANT]}, indent=2),
        json.dumps({"conversation_id": "x", "conversation": [USER, ASSISTANT], "language": "English"}),
        json.dumps([USER, ASSISTANT, {"role": "assistant", "content": None}]),
    ],
)
def test_messages_are_paired_to_turns_and_only_the_user_speaks_for_the_user(text: str) -> None:
    assert turns(text) == [Turn("I'm vegan.", "Noted.")]


def test_json_lines_of_lists_are_dialogues_with_ids_of_their_own() -> None:
    text = f"{json.dumps([USER])}\n\n{json.dumps([USER, USER])}"
    dialogues = parse_dialogues(text, "my chats.jsonl")
    assert [(d.dialogue_id, d.turn_count) for d in dialogues] == [("my-chats-1", 1), ("my-chats-2", 2)]
    assert dialogues[1].sessions[0].session_id == "my-chats-2/1"


def test_our_records_keep_their_ids_and_sessions() -> None:
    dialogue = load_dialogues(str(ROOT / "data/corpus/dialogues/g.jsonl"))[7]
    assert dialogue.dialogue_id == "g-08"
    assert [session.session_id for session in dialogue.sessions] == ["g-08/1", "g-08/2"]
    assert dialogue.turn_count == 8
    assert dialogue.sessions[0].turns[0].utterance == "Hi! Could you help me word a thank you note for a blender?"
    assert (dialogue.sessions[0].turns[0].response or "").startswith("Sure!")


@pytest.mark.parametrize("rejected", ["Cool.", ["Cool.", "Nice."]])
def test_aloe_goes_on_with_the_reply_that_was_chosen(rejected: object) -> None:
    def turn(chosen: str) -> dict[str, object]:
        replies = {"preferred": "How old is Pixel?", "rejected": rejected}
        return {"user": "My cat is asleep.", "assistant": replies, "chosen": chosen, "inferred_profile": "He has a cat.",
                "inferred_personality": "None"}  # fmt: skip

    record = {
        "profile": '"He has a cat."\n',
        "personality": '"He is calm."',
        "conversations": [turn("preferred"), turn("rejected")],
    }
    assert turns(json.dumps(record)) == [Turn("My cat is asleep.", "How old is Pixel?"), Turn("My cat is asleep.", "Cool.")]


def test_an_aloe_persona_file_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"profile.jsonl:1: expected a dialogue, got a plain text: an ALOE persona file"):
        parse_dialogues('"He is 22."\n"She is 45." "He is 37."', "profile.jsonl")


PREFERENCE = {"preference": "I dislike reptiles.", "question": "Which pet suits me?", "explanation": "No snakes."}


def test_prefeval_explicit_states_the_preference_then_asks() -> None:
    assert turns(json.dumps([PREFERENCE])) == [Turn("I dislike reptiles."), Turn("Which pet suits me?")]


def test_prefeval_choice_based_reveals_it_by_a_selection() -> None:
    conversation = {
        "query": "Pets?",
        "assistant_options": "1 or 2?",
        "user_selection": "Option 2.",
        "assistant_acknowledgment": "Good.",
    }
    record = {**PREFERENCE, "implicit_query": "Pets?", "options": ["a", "b"], "conversation": conversation}
    assert turns(json.dumps([record])) == [Turn("Pets?", "1 or 2?"), Turn("Option 2.", "Good."), Turn("Which pet suits me?")]


def test_prefeval_persona_driven_counts_from_zero_past_nine() -> None:
    conversation = {str(n): {"user": f"u{n}", "assistant": f"a{n}"} for n in (10, 0, 2, 1, 3, 4, 5, 6, 7, 8, 9)}
    said = [turn.utterance for turn in turns(json.dumps([{**PREFERENCE, "persona": "a chef", "conversation": conversation}]))]
    assert said == [*(f"u{n}" for n in range(11)), "Which pet suits me?"]


def test_standard_input_and_a_byte_order_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + json.dumps([USER]).encode())))
    (dialogue,) = load_dialogues("-")
    assert (dialogue.dialogue_id, dialogue.turn_count) == ("standard-input", 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected at least one dialogue, got an empty file"),
        ("[]", "expected at least one dialogue, got an empty file"),
        ('[{"role": "user"}]', "expected the content of message 1 to be text, got NoneType"),
        ('[{"role": "me", "content": "hi"}]', "got the role 'me'; roles: system, user, assistant, tool"),
        ('[{"role": "user", "content": ""}]', "expected what the user said in turn 1, got no text"),
        ('[{"role": "assistant", "content": "hi"}]', "expected at least one user message"),
        ("[7]", "got a JSON int"),
        ('{"x": 1}', "got the fields x"),
        ('{"sessions": [{}]}', "expected the field 'turns', got none"),
        ('{"sessions": 3}', "one whose fields have other types"),
        ('[\n {"role": "user",\n]', "chat.json:3: expected a JSON array, object or JSON Lines"),
        ('{"messages": []}\n{"messages"\n', "chat.json:2: expected a JSON array, object or JSON Lines"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_dialogue_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_dialogues(text, "chat.json")
    assert says in str(refused.value)


def test_a_file_that_is_absent_or_in_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_dialogues(str(tmp_path / "absent.json"))
    path = tmp_path / "latin.json"
    path.write_bytes(b'[\n{"role": "user", "content": "caf\xe9"}]')
    with pytest.raises(DataError, match=r"latin.json:2: expected UTF-8, got byte 0xe9 at position 34"):
        load_dialogues(str(path))
