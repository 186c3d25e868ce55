"""Checks of corpus records against the schema: dialogues, single turns, single requests and the phrase bank."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personalagent.datasets.base import read_jsonl
from personalagent.profile import OpKind, Polarity
from personalagent.schema import AskPolicy, ProfileSchema

TURNS = range(7, 13)
"""How many turns a dialogue has."""
_OPS = (OpKind.ADD, OpKind.UPDATE, OpKind.RETRACT)
_TAGS = ("reveal", "third_party", "hypothetical", "pasted", "empty")
_PATTERNS = {"explicit": 5, "implied": 4, "negative": 0, "update": 1, "retract": 0, "third_party": 1, "hypothetical": 1}
"""Fewest patterns of each kind that must hold ``{v}``."""


@dataclass(slots=True)
class ValidationReport:
    """What was read and what is wrong with it."""

    records: int = 0
    turns: int = 0
    empty_turns: int = 0
    requests: int = 0
    sufficient_requests: int = 0
    slots: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """``(file:line, what is wrong)``."""


def validate(paths: Sequence[Path], schema: ProfileSchema) -> ValidationReport:
    """Check JSON Lines files of dialogue, single-turn, request or phrase-bank records.

    Raises:
        DataError: a file cannot be read or a line is not a JSON object.
    """
    report = ValidationReport()
    for path in paths:
        for where, record in read_jsonl(path):
            report.records += 1
            try:
                problems = list(_checks(record, schema, report))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                missing = f"the field {error.args[0]!r} is missing" if isinstance(error, KeyError) else f"does not fit: {error}"
                problems = [missing]
            report.problems += [(where, problem) for problem in problems]
    return report


def _checks(record: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport) -> Iterator[str]:
    if "sessions" in record:
        yield from _dialogue(record, schema, report)
    elif "user" in record and "inferred" in record:
        yield from _single(record, schema, report)
    elif "request" in record and "profile" not in record:
        report.requests += 1
        yield from (f"unknown slot {path}" for path in sorted(set(record["needs"]) - set(schema.slots)))
        if not record.get("id"):
            yield "the field 'id' is missing"
    elif "request" in record:
        yield from _twin(record, schema, report)
    elif "slot" in record:
        yield from _phrases(record, schema, report)
    else:
        yield f"is no dialogue (sessions), turn (user, inferred), request or phrase-bank record (slot); fields: {', '.join(sorted(record))}"


def _dialogue(record: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport) -> Iterator[str]:
    for name in ("id", "style", "persona", "sessions", "requests"):
        if name not in record:
            yield f"the field {name!r} is missing"
            return
    persona = {slot["slot"] for slot in record["persona"]["slots"]}
    yield from (f"unknown persona slot {path}" for path in sorted(persona - set(schema.slots)))
    turns = [turn for session in record["sessions"] for turn in session["turns"]]
    seen: set[str] = set()
    for number, turn in enumerate(turns, 1):
        if "preferred" not in turn["assistant"]:
            yield f"turn {number}: no preferred reply"
        yield from (f"turn {number}: {problem}" for problem in _facts(turn, schema, report, seen))
    if len(turns) not in TURNS:
        yield f"{len(turns)} turns instead of {TURNS.start} to {TURNS.stop - 1}"
    if all(turn["inferred"] for turn in turns):
        yield "no turn without inference"
    if not any("rejected" in turn["assistant"] for turn in turns):
        yield "no rejected reply"
    if len(record["requests"]) < 3:
        yield "fewer than 3 requests"
    for number, request in enumerate(record["requests"], 1):
        yield from (f"request {number}: {problem}" for problem in _request(request, schema, report, seen, persona))


def _single(record: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport) -> Iterator[str]:
    if record.get("tag", "reveal") not in _TAGS:
        yield f"unknown tag {record['tag']!r}; one of {', '.join(_TAGS)}"
    before = {slot["slot"] for slot in record.get("profile") or ()}
    yield from (f"unknown profile slot {path}" for path in sorted(before - set(schema.slots)))
    yield from _facts(record, schema, report, before)
    if not record.get("id"):
        yield "the field 'id' is missing"


def _twin(record: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport) -> Iterator[str]:
    before = {slot["slot"] for slot in record["profile"]}
    report.requests += 1
    report.sufficient_requests += not record["missing"]
    yield from (f"unknown slot {path}" for path in sorted((before | set(record["needs"])) - set(schema.slots)))
    if sorted(record["needs"]) != sorted([*record["known"], *record["missing"]]):
        yield "needs are not known and missing together"
    if {*record["known"]} - before or {*record["missing"]} & before:
        yield "what is known must stand in the profile, what is missing must not"
    if bool(record["missing"]) != bool(record["question"]):
        yield "a question belongs to something missing"
    if not record.get("id"):
        yield "the field 'id' is missing"


def _facts(turn: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport, seen: set[str]) -> Iterator[str]:
    """Check what a turn is labelled with; ``seen`` collects the slots that were revealed so far."""
    report.turns += 1
    report.empty_turns += not turn["inferred"]
    for fact in turn["inferred"]:
        path = fact["slot"]
        if path not in schema.slots:
            yield f"unknown slot {path}"
            continue
        report.slots[path] += 1
        if fact["quote"] not in turn["user"]:
            yield f"the quote of {path} is not verbatim: {fact['quote']!r}"
        if fact["polarity"] not in tuple(Polarity):
            yield f"unknown polarity {fact['polarity']!r}"
        if fact["op"] not in _OPS:
            yield f"unknown operation {fact['op']!r}"
        if fact.get("kind", "stated") not in ("stated", "implied"):
            yield f"unknown kind {fact['kind']!r}"
        if fact["op"] == OpKind.RETRACT and path not in seen:
            yield f"retracts {path}, which was never added"
        seen.add(path)


def _request(
    request: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport, seen: set[str], persona: set[str]
) -> Iterator[str]:
    needs, known, missing = set(request["needs"]), set(request["known"]), set(request["missing"])
    report.requests += 1
    report.sufficient_requests += bool(request["sufficient"])
    yield from (f"unknown slot {path}" for path in sorted(needs - set(schema.slots)))
    if known | missing != needs or known & missing:
        yield "known and missing together are not needs"
    yield from (f"the known slot {path} was never inferred" for path in sorted(known - seen))
    yield from (f"the missing slot {path} was inferred" for path in sorted(missing & seen))
    yield from (f"the missing slot {path} is not in persona.slots" for path in sorted(missing - persona))
    if request["sufficient"] != (not missing):
        yield "sufficient does not fit missing"
    if missing and not request.get("question"):
        yield "no question"
    yield from (f"no {name}" for name in ("explanation", "reference", "violating") if not request.get(name))


def _phrases(record: Mapping[str, Any], schema: ProfileSchema, report: ValidationReport) -> Iterator[str]:
    slot = schema.slots.get(record["slot"])
    if slot is None:
        yield f"unknown slot {record['slot']}"
        return
    report.slots[slot.path] += 1
    if not 6 <= len(record["values"]) <= 14:
        yield f"{len(record['values'])} values instead of 6 to 14"
    for kind, fewest in {**_PATTERNS, "requests": 4}.items():
        if len(record.get(kind) or ()) < fewest:
            yield f"{kind}: fewer than {fewest}"
    for kind in (*_PATTERNS, "answers"):
        for pattern in record.get(kind) or ():
            if "{v}" not in pattern and kind != "hypothetical":
                yield f"{kind}: no {{v}} in {pattern!r}"
            odd = sorted(set(re.findall(r"\{(\w+)\}", pattern)) - {"v", "old"})
            yield from (f"{kind}: odd placeholder {name!r}" for name in odd)
    if "{v}" not in record["fact"]:
        yield "fact without {v}"
    if slot.ask is not AskPolicy.NEVER and not record.get("question"):
        yield "no question"
