"""What a policy wrote, as typed facts, or a named outcome.

Two notations carry the same content. The *compact* one is what the trained policy writes, a line per fact, each with the number of the
clause (``clauses.py``) that proves it::

    new
    1 household.size_members: lives alone
    2 diet.restrictions avoid: coriander
    4 location.city update: Porto

The *general* one is for instruct models (paper section C.3): three tagged blocks, of which ``<classification>`` has a line per fact,
``path | op | polarity | value | quote``.

A judge's verdict is a JSON object or a ``<verdict>`` block with a line per name, ``name: label``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from personalagent.clauses import clause_of
from personalagent.profile import OpKind, Polarity, value_tokens

NOTHING = "none"
"""What the policy writes for a turn that reveals nothing, or a request that needs nothing."""
SOMETHING = "new"
"""What the trained policy writes before the facts of a turn: one token decides between something and nothing, so that the many ways
in which facts can begin do not lose against the one way of saying that there are none."""


class ParseOutcome(StrEnum):
    """How reading a policy's output ended."""

    OK = "ok"
    EMPTY = "empty"
    """The output says that there is nothing."""
    PARTIAL = "partial"
    """Some lines could be read, others not."""
    TRUNCATED = "truncated"
    """The output hit the token limit; its last line was dropped."""
    DOUBTFUL = "doubtful"
    """The policy was not sure enough that there is anything; nothing is taken."""
    UNREADABLE = "unreadable"
    """Not one line could be read."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One operation as the policy wrote it: not yet checked against schema, utterance or profile."""

    path: str
    """Full path or ``group.slot``."""
    value: str
    quote: str
    op: OpKind = OpKind.ADD
    polarity: Polarity = Polarity.NEUTRAL


@dataclass(frozen=True, slots=True)
class ParsedFacts:
    """The facts of one output, in order, and how reading it ended."""

    outcome: ParseOutcome
    facts: tuple[Fact, ...] = ()
    unread: tuple[str, ...] = ()
    """Lines that could not be read."""


@dataclass(frozen=True, slots=True)
class ParsedNeeds:
    """The slots that an output names, most important first."""

    outcome: ParseOutcome
    paths: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedVerdict:
    """What a judge wrote under each name, as text."""

    outcome: ParseOutcome
    labels: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


_INFERRED_OPS = {"add": OpKind.ADD, "update": OpKind.UPDATE, "retract": OpKind.RETRACT}
_POLARITIES = {polarity.value: polarity for polarity in Polarity}
_COMPACT = re.compile(r"^(?P<clause>[0-9]{1,3}) (?P<path>[\w.]+)(?P<marks>(?: [a-z]+){0,2}): ?(?P<value>.+)$")
_SLOT_NAME = re.compile(r"^[\w]+(?:\.[\w]+){1,2}$")
_VERDICT_LINE = re.compile(r"^\W*(?P<name>[A-Za-z][\w \-]*?)[\s*`\"_]*[:=][\s*`\"_]*(?P<label>.*)$")
_FENCE = re.compile(r"^\s*```\w*\s*$")


def format_fact(fact: Fact, clauses: Sequence[str]) -> str:
    """Write a fact in the compact notation; ``parse_compact`` reads it back, with the whole clause as its quote.

    Raises ValueError where no clause shares a word with the fact's quote.
    """
    number = clause_of(fact.quote, clauses)
    if number is None:
        raise ValueError(f"expected a quote of the utterance, got {fact.quote!r}; correct the label")
    op = "" if fact.op is OpKind.ADD else f" {fact.op}"
    polarity = "" if fact.polarity is Polarity.NEUTRAL else f" {fact.polarity}"
    return f"{number} {fact.path}{op}{polarity}: {' '.join(fact.value.split())}"


def parse_compact(text: str, clauses: Sequence[str], *, truncated: bool = False) -> ParsedFacts:
    """Read the compact notation; a repeated line counts once, and a number that no clause has makes a line unreadable."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if truncated and lines:
        lines = lines[:-1]
    if [line.casefold().rstrip(".") for line in lines] == [NOTHING]:
        return ParsedFacts(ParseOutcome.EMPTY)
    lines = lines[1:] if lines[:1] == [SOMETHING] else lines
    facts = [_compact_fact(line, clauses) for line in lines]
    return _collect(lines, facts, truncated=truncated)


def _compact_fact(line: str, clauses: Sequence[str]) -> Fact | None:
    match = _COMPACT.match(line)
    if match is None or not 0 < int(match["clause"]) <= len(clauses):
        return None
    quote = _supporting(match["value"], clauses[int(match["clause"]) - 1], clauses)
    return _fact(match["path"], match["marks"].split(), match["value"], quote)


def _supporting(value: str, named: str, clauses: Sequence[str]) -> str:
    """Return the clause that the policy named; where it shares no word with the value and one other holds them all, that other."""
    words = value_tokens(value)
    if words & value_tokens(named):
        return named
    holding = [clause for clause in clauses if words and words <= value_tokens(clause)]
    return holding[0] if len(holding) == 1 else named


def _fact(path: str, marks: Sequence[str], value: str, quote: str) -> Fact | None:
    op, polarity = OpKind.ADD, Polarity.NEUTRAL
    for mark in marks:
        if mark in _INFERRED_OPS:
            op = _INFERRED_OPS[mark]
        elif mark in _POLARITIES:
            polarity = _POLARITIES[mark]
        else:
            return None
    value, quote = value.strip(), quote.strip()
    return Fact(path.strip(), value, quote, op, polarity) if value and quote and path.strip() else None


def parse_general(text: str, *, truncated: bool = False) -> ParsedFacts:
    """Read the ``<classification>`` block of an instruct model's three blocks."""
    block = _block(text, "classification")
    if block is None:
        return ParsedFacts(ParseOutcome.TRUNCATED if truncated else ParseOutcome.UNREADABLE, unread=tuple(text.splitlines()[:3]))
    lines = [line.strip().lstrip("-*• ").strip() for line in block.splitlines() if line.strip() and not _FENCE.match(line)]
    closed = "</classification>" in text.casefold()
    if truncated and not closed and lines:
        lines = lines[:-1]
    if not lines or [line.casefold().rstrip(".") for line in lines] == [NOTHING]:
        return ParsedFacts(ParseOutcome.TRUNCATED if truncated and not closed else ParseOutcome.EMPTY)
    return _collect(lines, [_general_fact(line) for line in lines], truncated=truncated and not closed)


def _general_fact(line: str) -> Fact | None:
    parts = [part.strip() for part in line.split("|", 4)]
    if len(parts) != 5:
        return None
    path, op, polarity, value, quote = parts
    return _fact(path.strip("`"), [op.casefold(), polarity.casefold()], value, quote.strip("\"'“”‘’ "))


def _collect(lines: Sequence[str], facts: Sequence[Fact | None], *, truncated: bool) -> ParsedFacts:
    unread = tuple(line for line, fact in zip(lines, facts, strict=True) if fact is None)
    read = tuple(dict.fromkeys(fact for fact in facts if fact is not None))
    if truncated:
        return ParsedFacts(ParseOutcome.TRUNCATED, read, unread)
    if not read:
        return ParsedFacts(ParseOutcome.UNREADABLE, unread=unread)
    return ParsedFacts(ParseOutcome.PARTIAL if unread else ParseOutcome.OK, read, unread)


def parse_needs(text: str, *, truncated: bool = False) -> ParsedNeeds:
    """Read one slot name per line (or ``none``), from the ``<needs>`` block where there is one."""
    block = _block(text, "needs")
    lines = [line.strip().strip("-*•` ").strip() for line in (text if block is None else block).splitlines()]
    lines = [line for line in lines if line and not _FENCE.match(line)]
    if truncated and lines:
        lines = lines[:-1]
    if not lines or lines[0].casefold().rstrip(".") == NOTHING:
        return ParsedNeeds(ParseOutcome.EMPTY if lines else ParseOutcome.UNREADABLE)
    paths = tuple(dict.fromkeys(line for line in lines if _SLOT_NAME.match(line)))
    unread = tuple(line for line in lines if not _SLOT_NAME.match(line))
    if not paths:
        return ParsedNeeds(ParseOutcome.UNREADABLE, unread=unread)
    if truncated:
        return ParsedNeeds(ParseOutcome.TRUNCATED, paths, unread)
    return ParsedNeeds(ParseOutcome.PARTIAL if unread else ParseOutcome.OK, paths, unread)


def parse_verdict(text: str, names: Sequence[str], *, texts: Sequence[str] = (), truncated: bool = False) -> ParsedVerdict:
    """Read a judge's labels, all of ``names``, and the ``texts`` that it was asked for besides.

    A JSON object must be the whole answer; a block may have text around it. A judge that gives two verdicts, because it corrects itself
    or quotes one, is unreadable unless they are the same. Thoughts before ``</think>`` are skipped.
    """
    if truncated:
        return ParsedVerdict(ParseOutcome.TRUNCATED)
    answer = text.rpartition("</think>")[2]
    if "<think>" in answer:
        return ParsedVerdict(ParseOutcome.UNREADABLE)
    found = [each for each in (*_verdict_object(answer), *_verdict_blocks(answer)) if all(each.get(name) for name in names)]
    readings = [{name: str(each[name]) for name in names} for each in found]
    if not readings or any(each != readings[0] for each in readings):
        return ParsedVerdict(ParseOutcome.UNREADABLE)
    return ParsedVerdict(ParseOutcome.OK, readings[0], {name: found[-1].get(name) or "" for name in texts})


def _verdict_blocks(text: str) -> Iterator[dict[str, str | None]]:
    for block in re.findall(r"<verdict>(.*?)</verdict>", text, re.DOTALL | re.IGNORECASE):
        lines = (_VERDICT_LINE.match(line) for line in block.splitlines())
        yield _each_once((_key(line["name"]), line["label"].strip()) for line in lines if line)


def _verdict_object(text: str) -> Iterator[dict[str, str | None]]:
    """Yield the JSON object that a text is, fenced or not, with what is nested in it spread out; numbers stay as they were written."""
    decoder = json.JSONDecoder(object_pairs_hook=_spread, parse_float=str, parse_int=str, parse_constant=str)
    bare = "\n".join(line for line in text.strip().splitlines() if not _FENCE.match(line)).strip()
    try:
        value = decoder.decode(bare)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        yield value


def _spread(pairs: list[tuple[str, Any]]) -> dict[str, str | None]:
    flat: list[tuple[str, str | None]] = []
    for name, value in pairs:
        if isinstance(value, dict):
            flat += value.items()
        elif isinstance(value, bool):
            flat.append((_key(name), "yes" if value else "no"))
        else:
            flat.append((_key(name), value.strip() if isinstance(value, str) else None))
    return _each_once(flat)


def _each_once(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """Return the pairs as a mapping; a name with two different values has none."""
    found: dict[str, str | None] = {}
    for name, value in pairs:
        found[name] = value if found.get(name, value) == value else None
    return found


def _key(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().casefold())


def _block(text: str, tag: str) -> str | None:
    """Return what a tagged block holds; an unclosed block runs to the end of the text."""
    match = re.search(rf"<{tag}>(.*?)(?:</{tag}>|\Z)", text, re.DOTALL | re.IGNORECASE)
    return None if match is None else match[1].strip()
