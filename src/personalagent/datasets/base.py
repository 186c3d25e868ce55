"""What every data set gives: labelled turns, personas and requests, as frozen records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from personalagent.errors import DataError
from personalagent.parsing import Fact
from personalagent.profile import Source

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class LabelledTurn:
    """One utterance and what it newly reveals."""

    utterance: str
    facts: tuple[Fact, ...]
    sources: tuple[Source, ...] = ()
    """Stated or implied, in the order of ``facts``."""
    response: str | None = None
    rejected: str | None = None
    """A reply that ignores what is known, where the data set has one."""
    wrong: tuple[Fact, ...] = ()
    """What a policy had inferred instead, before the user put it right; empty where nobody did."""


@dataclass(frozen=True, slots=True)
class LabelledRequest:
    """A request, the slots that a good answer needs, and which of them the dialogue has revealed."""

    request: str
    needs: tuple[str, ...]
    known: tuple[str, ...]
    missing: tuple[str, ...]
    question: str | None
    explanation: str
    reference: str
    violating: str


@dataclass(frozen=True, slots=True)
class PersonaSlot:
    """One slot value of a simulated user, revealed in the dialogue or not."""

    path: str
    value: str
    polarity: str


@dataclass(frozen=True, slots=True)
class LabelledDialogue:
    """One persona's sessions and requests."""

    dialogue_id: str
    sessions: tuple[tuple[LabelledTurn, ...], ...]
    requests: tuple[LabelledRequest, ...]
    persona: tuple[PersonaSlot, ...]


def read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ``(file:line, record)`` of a JSON Lines file.

    Raises:
        DataError: the file is missing, is not UTF-8, or a line is not a JSON object.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"expected a readable JSON Lines file, got {error.strerror}: {path}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8, got byte {error.object[error.start]:#x} at position {error.start} of {path}; re-encode it"
        ) from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: expected one JSON object a line, got text that does not parse ({error.msg}); mend the line"
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected a JSON object, got {type(record).__name__}; mend the line")
        yield where, record
