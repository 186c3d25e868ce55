"""Whole conversations through the agent, and the questions in them that should not have been asked.

A transcript is what one user types, message by message; each says whether a clarifying question in the reply may come or would be
wrong, and why: in a greeting, in thanks, in an emergency, right after a refusal, after "stop asking me things", where no preference decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personalagent.agent import PersonalAgent
from personalagent.datasets.base import read_jsonl
from personalagent.errors import DataError


@dataclass(frozen=True, slots=True)
class TranscriptTurn:
    """What the user types, and why a question would be wrong; None where one may come."""

    utterance: str
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Transcript:
    """One conversation of one user."""

    transcript_id: str
    theme: str
    turns: tuple[TranscriptTurn, ...]


@dataclass(frozen=True, slots=True)
class TranscriptRow:
    """What the agent did with one message."""

    transcript_id: str
    theme: str
    utterance: str
    why_not: str | None
    question: str | None
    asked_for: str | None

    @property
    def is_wrong(self) -> bool:
        """Whether a question came where none may."""
        return self.why_not is not None and self.question is not None


def load_transcripts(path: Path) -> list[Transcript]:
    """Read transcripts from JSON Lines.

    Raises:
        DataError: the file cannot be read or a record lacks a field.
    """
    return [_transcript(where, record) for where, record in read_jsonl(path)]


def _transcript(where: str, record: Mapping[str, Any]) -> Transcript:
    try:
        turns = tuple(
            TranscriptTurn(str(turn["user"]), None if turn["may_ask"] else str(turn["why"])) for turn in record["turns"]
        )
        return Transcript(str(record["id"]), str(record["theme"]), turns)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where}: expected id, theme and turns of user, may_ask and why, got a record without {error}; mend it"
        ) from error


async def play(transcript: Transcript, agent: PersonalAgent) -> list[TranscriptRow]:
    """Play a transcript as a user of its own.

    Raises:
        LLMError: the responder gave no answer.
    """
    rows = []
    for turn in transcript.turns:
        reply = await agent.chat(transcript.transcript_id, turn.utterance)
        asked = reply.assessment.ask_for if reply.assessment else None
        rows.append(
            TranscriptRow(transcript.transcript_id, transcript.theme, turn.utterance, turn.why_not, reply.question, asked)
        )
    return rows


def summarise_transcripts(rows: Sequence[TranscriptRow]) -> dict[str, Any]:
    """Count wrong questions by what makes them wrong, and questions where one may come."""
    of_kind = Counter(row.why_not for row in rows if row.why_not)
    wrong = Counter(row.why_not for row in rows if row.is_wrong)
    open_rows = [row for row in rows if row.why_not is None]
    return {
        "conversations": len({row.transcript_id for row in rows}),
        "turns": len(rows),
        "wrong_questions": wrong.total(),
        "wrong_by_kind": {kind: {"wrong": wrong[kind], "turns": count} for kind, count in sorted(of_kind.items())},
        "conversations_with_a_wrong_question": len({row.transcript_id for row in rows if row.is_wrong}),
        "questions_where_one_may_come": sum(row.question is not None for row in open_rows),
        "turns_where_one_may_come": len(open_rows),
    }
