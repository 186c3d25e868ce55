"""Fifty conversations, played through the agent: first against a policy that finds a need in everything, so that only rules hold it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import pytest

from personalagent import Message, PersonalAgent, ScriptedLLM, Settings
from personalagent.bench.transcripts import Transcript, TranscriptRow, load_transcripts, play, summarise_transcripts
from personalagent.errors import DataError
from tests.conftest import ROOT

FILE = ROOT / "tests" / "data" / "transcripts.jsonl"
NEEDS = ("diet.foods", "travel.destinations_planned", "music.genres", "fitness.activities", "reading.genres", "work.schedule")
RULES_OWN = {"emergency", "goodbye", "muted", "refusal"}
"""Where no question may come whatever the policy says; that a request needs no preference, or a statement is one, only a policy can tell."""


@pytest.fixture(scope="module")
def transcripts() -> list[Transcript]:
    return load_transcripts(FILE)


def needy() -> ScriptedLLM:
    """Return a policy that infers nothing and needs another slot every time."""
    slots = cycle(NEEDS)

    def answer(messages: Sequence[Message]) -> str:
        is_request = "Request:" in messages[-1].content
        return f"<needs>{next(slots)}</needs>" if is_request else "<classification>none</classification>"

    return ScriptedLLM(answer)


async def played(transcript: Transcript, folder: Path) -> list[TranscriptRow]:
    settings = Settings.load(
        database_url=f"sqlite:///{folder / transcript.transcript_id}.db", consent="all", questions_per_session=99
    )
    agent = PersonalAgent(settings, policy=needy(), responder=ScriptedLLM(lambda messages: "Here you are."))
    try:
        return await play(transcript, agent)
    finally:
        await agent.aclose()


def test_there_are_fifty_conversations_of_every_theme(transcripts: list[Transcript]) -> None:
    assert len(transcripts) == len({transcript.transcript_id for transcript in transcripts}) == 50
    assert Counter(transcript.theme for transcript in transcripts) == {
        "greetings and small talk": 10,
        "thanks and goodbyes": 8,
        "emergencies": 10,
        "repeated refusals": 10,
        "changes of mind": 6,
        "stop asking": 6,
    }


async def test_rules_alone_keep_a_needy_policy_from_wrong_questions(transcripts: list[Transcript], tmp_path: Path) -> None:
    rows = [row for transcript in transcripts for row in await played(transcript, tmp_path)]
    wrong = [(row.transcript_id, row.why_not, row.utterance) for row in rows if row.is_wrong]
    assert [each for each in wrong if each[1] in RULES_OWN] == []
    assert len(wrong) <= 30, wrong
    asked = summarise_transcripts(rows)
    assert asked["questions_where_one_may_come"] >= 0.6 * asked["turns_where_one_may_come"]


def test_wrong_questions_are_counted_by_kind() -> None:
    rows = [
        TranscriptRow("a", "t", "hi", "greeting", "What?", "music.genres"),
        TranscriptRow("a", "t", "a song?", None, "Which?", "music.genres"),
        TranscriptRow("b", "t", "thanks", "thanks", None, None),
        TranscriptRow("b", "t", "a book?", None, None, None),
    ]
    assert summarise_transcripts(rows) == {
        "conversations": 2,
        "turns": 4,
        "wrong_questions": 1,
        "wrong_by_kind": {"greeting": {"wrong": 1, "turns": 1}, "thanks": {"wrong": 0, "turns": 1}},
        "conversations_with_a_wrong_question": 1,
        "questions_where_one_may_come": 1,
        "turns_where_one_may_come": 2,
    }


def test_a_record_without_a_field_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"id": "x", "theme": "y", "turns": [{"user": "hi"}]}', "utf-8")
    with pytest.raises(
        DataError, match=r"t.jsonl:1: expected id, theme and turns of user, may_ask and why, got a record without 'may_ask'"
    ):
        load_transcripts(file)
