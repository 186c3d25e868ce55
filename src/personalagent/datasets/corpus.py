"""Our corpus: dialogues with turn-level gold, single labelled turns, request twins, and the phrase bank (``data/``, see its card)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from personalagent.datasets.base import LabelledDialogue, LabelledRequest, LabelledTurn, PersonaSlot, Split, read_jsonl
from personalagent.errors import DataError
from personalagent.parsing import Fact
from personalagent.profile import OpKind, Polarity, Source


@dataclass(frozen=True, slots=True)
class SingleTurn:
    """A labelled turn on its own, with the profile before it."""

    turn_id: str
    profile: tuple[PersonaSlot, ...]
    turn: LabelledTurn
    tag: str
    """reveal, third_party, hypothetical, pasted or empty."""


@dataclass(frozen=True, slots=True)
class SingleRequest:
    """A labelled request on its own, with the profile that is known; its twin differs in whether the deciding slot is."""

    request_id: str
    pair: str
    """What both twins share; the id of a request without twin."""
    profile: tuple[PersonaSlot, ...]
    request: str
    needs: tuple[str, ...]
    missing: tuple[str, ...]
    question: str | None
    explanation: str


@dataclass(frozen=True, slots=True)
class BareRequest:
    """A request and the slots that decide a good answer, whatever is known; only trained on."""

    request_id: str
    request: str
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhraseRecord:
    """Patterns of one slot, with ``{v}`` for the value and ``{old}`` for an earlier one."""

    slot: str
    values: tuple[str, ...]
    labels: Mapping[str, str]
    """The schema's label of a natural phrase, for enum and scale slots."""
    patterns: Mapping[str, tuple[str, ...]]
    """By kind: explicit, implied, negative, update, retract, third_party, hypothetical, requests, answers."""
    question: str | None
    held_out: frozenset[str] = frozenset()
    """Kinds whose only pattern is kept from training, so that something is left to measure."""

    def trained(self, kind: str) -> tuple[str, ...]:
        """Return the patterns of a kind that training may use: all but the last, or the only one unless it is held out."""
        patterns = self.patterns[kind]
        return patterns[:-1] if len(patterns) > 1 else () if kind in self.held_out else patterns

    def unseen(self, kind: str) -> tuple[str, ...]:
        """Return the pattern of a kind that training never uses; empty where the only one is trained on."""
        return self.patterns[kind][-1:] if len(self.patterns[kind]) > 1 or kind in self.held_out else ()


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything in ``data/corpus``, and the split by persona that is written down beside it."""

    dialogues: tuple[LabelledDialogue, ...]
    turns: tuple[SingleTurn, ...]
    bank: tuple[PhraseRecord, ...]
    held_out: Mapping[str, Split]
    """``dev`` or ``test`` by dialogue, turn or pair id; every other id is ``train``."""
    requests: tuple[SingleRequest, ...] = ()
    needs: tuple[BareRequest, ...] = ()

    def dialogues_of(self, split: Split) -> tuple[LabelledDialogue, ...]:
        """Return the dialogues of one split, in file order."""
        return tuple(d for d in self.dialogues if self.held_out.get(d.dialogue_id, "train") == split)

    def turns_of(self, split: Split) -> tuple[SingleTurn, ...]:
        """Return the single turns of one split, in file order."""
        return tuple(t for t in self.turns if self.held_out.get(t.turn_id, "train") == split)

    def requests_of(self, split: Split) -> tuple[SingleRequest, ...]:
        """Return the single requests of one split, in file order; twins are never in two."""
        return tuple(r for r in self.requests if self.held_out.get(r.pair, "train") == split)


def load_corpus(folder: Path) -> Corpus:
    """Load ``dialogues/``, ``turns/``, ``requests/``, ``needs/``, ``bank/`` and ``split.json`` of a corpus folder.

    Raises:
        DataError: a file is missing or a record lacks a field.
    """
    split_file = folder / "split.json"
    if not split_file.is_file():
        raise DataError(f"expected a corpus folder with split.json, got {folder}; give the path of the repository's data/corpus")
    return Corpus(
        dialogues=tuple(read_dialogues(sorted((folder / "dialogues").glob("*.jsonl")))),
        turns=tuple(read_turns(sorted((folder / "turns").glob("*.jsonl")))),
        bank=_read_bank(folder / "bank"),
        held_out=_checked(split_file.name, _splits, _read_json(split_file)),
        requests=tuple(read_requests(sorted((folder / "requests").glob("*.jsonl")))),
        needs=tuple(
            _checked(where, _bare, r) for path in sorted((folder / "needs").glob("*.jsonl")) for where, r in read_jsonl(path)
        ),
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected JSON in UTF-8, got a file that cannot be read ({error}): {path}; restore it") from error


def _splits(record: Mapping[str, Any]) -> Mapping[str, Split]:
    held_out: dict[str, Split] = {}
    for split in ("dev", "test"):
        held_out |= dict.fromkeys((*record["dialogues"][split], *record["turns"][split], *record["requests"][split]), split)
    return held_out


def _read_bank(folder: Path) -> tuple[PhraseRecord, ...]:
    """Read the phrase bank; ``held_out.json`` lists, by kind, the slots whose only pattern is never trained on."""
    file = folder / "held_out.json"
    kinds: Mapping[str, Sequence[str]] = _read_json(file)["kinds"] if file.is_file() else {}
    records = [_checked(where, _phrases, record) for path in sorted(folder.glob("*.jsonl")) for where, record in read_jsonl(path)]
    return tuple(replace(r, held_out=frozenset(kind for kind, slots in kinds.items() if r.slot in slots)) for r in records)


def read_dialogues(paths: Iterable[Path]) -> list[LabelledDialogue]:
    """Read dialogue records.

    Raises:
        DataError: a record lacks a field or holds an unknown operation or polarity.
    """
    return [_checked(where, _dialogue, record) for path in paths for where, record in read_jsonl(path)]


def read_turns(paths: Iterable[Path]) -> list[SingleTurn]:
    """Read single-turn records; raises as ``read_dialogues``."""
    return [_checked(where, _single, record) for path in paths for where, record in read_jsonl(path)]


def read_requests(paths: Iterable[Path]) -> list[SingleRequest]:
    """Read request records; raises as ``read_dialogues``."""
    return [_checked(where, _twin, record) for path in paths for where, record in read_jsonl(path)]


def _checked(where: str, build: Any, record: Mapping[str, Any]) -> Any:
    try:
        return build(record)
    except KeyError as error:
        raise DataError(f"{where}: expected the field {error.args[0]!r}, got none; add it") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: expected a corpus record, got one that does not fit: {error}; see data/README.md") from error


def _dialogue(record: Mapping[str, Any]) -> LabelledDialogue:
    return LabelledDialogue(
        dialogue_id=str(record["id"]),
        sessions=tuple(tuple(map(_turn, session["turns"])) for session in record["sessions"]),
        requests=tuple(map(_request, record.get("requests") or ())),
        persona=_persona(record["persona"]["slots"]),
    )


def _persona(slots: Sequence[Mapping[str, Any]]) -> tuple[PersonaSlot, ...]:
    return tuple(PersonaSlot(slot["slot"], str(slot["value"]), str(slot.get("polarity", "neutral"))) for slot in slots)


def _turn(record: Mapping[str, Any]) -> LabelledTurn:
    inferred = record["inferred"]
    replies = record.get("assistant") or {}
    return LabelledTurn(
        utterance=str(record["user"]),
        facts=tuple(map(_fact, inferred)),
        sources=tuple(Source(fact.get("kind", "stated")) for fact in inferred),
        response=replies.get("preferred"),
        rejected=replies.get("rejected"),
        wrong=tuple(map(_fact, record.get("wrong") or ())),
    )


def _fact(record: Mapping[str, Any]) -> Fact:
    op, polarity = OpKind(record.get("op", "add")), Polarity(record.get("polarity", "neutral"))
    return Fact(str(record["slot"]), str(record["value"]), str(record["quote"]), op, polarity)


def _request(record: Mapping[str, Any]) -> LabelledRequest:
    return LabelledRequest(
        request=str(record["request"]),
        needs=tuple(record["needs"]),
        known=tuple(record["known"]),
        missing=tuple(record["missing"]),
        question=record.get("question"),
        explanation=str(record["explanation"]),
        reference=str(record["reference"]),
        violating=str(record["violating"]),
    )


def _single(record: Mapping[str, Any]) -> SingleTurn:
    return SingleTurn(str(record["id"]), _persona(record.get("profile") or ()), _turn(record), str(record.get("tag", "reveal")))


def _twin(record: Mapping[str, Any]) -> SingleRequest:
    return SingleRequest(
        request_id=str(record["id"]),
        pair=str(record.get("pair") or record["id"]),
        profile=_persona(record["profile"]),
        request=str(record["request"]),
        needs=tuple(record["needs"]),
        missing=tuple(record["missing"]),
        question=record.get("question"),
        explanation=str(record["explanation"]),
    )


def _bare(record: Mapping[str, Any]) -> BareRequest:
    return BareRequest(str(record["id"]), str(record["request"]), tuple(record["needs"]))


_KINDS = ("explicit", "implied", "negative", "update", "retract", "third_party", "hypothetical", "requests", "answers")


def _phrases(record: Mapping[str, Any]) -> PhraseRecord:
    labels = {**(record.get("value_map") or {}), **(record.get("enum_map") or {})}
    return PhraseRecord(
        slot=str(record["slot"]),
        values=tuple(map(str, record["values"])),
        labels={str(phrase): str(label) for phrase, label in labels.items()},
        patterns={kind: tuple(record.get(kind) or ()) for kind in _KINDS},
        question=record.get("question"),
    )
