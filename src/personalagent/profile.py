"""The slot-value profile of one user, and the operations that change it.

``Profile.apply`` is the transition of the MDP (paper section 3.3): it is pure and deterministic, so a profile is
always ``fold`` of its log of operations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce

from personalagent.schema import Cardinality as Cardinality


class Polarity(StrEnum):
    """How the user stands towards a value."""

    LIKE = "like"
    DISLIKE = "dislike"
    REQUIRE = "require"
    AVOID = "avoid"
    NEUTRAL = "neutral"

    def contradicts(self, other: Polarity) -> bool:
        """Tell whether one value cannot carry both polarities at once."""
        return (self in _FOR and other in _AGAINST) or (self in _AGAINST and other in _FOR)


_FOR = frozenset({Polarity.LIKE, Polarity.REQUIRE})
_AGAINST = frozenset({Polarity.DISLIKE, Polarity.AVOID})


class Source(StrEnum):
    """Where a slot value comes from."""

    STATED = "stated"
    IMPLIED = "implied"
    ELICITED = "elicited"
    EDITED = "edited"
    IMPORTED = "imported"


class OpKind(StrEnum):
    """What an operation does to the profile."""

    ADD = "add"
    UPDATE = "update"
    RETRACT = "retract"
    CONFIRM = "confirm"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The user's own words that prove a value."""

    quote: str
    session_id: str
    turn_index: int
    """Position of the turn in its session, from 0."""


@dataclass(frozen=True, slots=True)
class SlotOp:
    """One change of one slot, as it is written to the log."""

    op: OpKind
    path: str
    """``category.group.slot``."""
    value: str
    """The value; empty means every value of the slot (retract, confirm, forget only)."""
    at: datetime
    """Time of the operation, aware, UTC."""
    polarity: Polarity = Polarity.NEUTRAL
    source: Source = Source.STATED
    cardinality: Cardinality = Cardinality.MANY
    """The slot's cardinality when the operation was made, so that the log folds without a schema."""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class ProfileDelta:
    """What one turn changes, in order."""

    operations: tuple[SlotOp, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.operations)


@dataclass(frozen=True, slots=True)
class SlotValue:
    """One value of one slot, with what proves it."""

    path: str
    value: str
    polarity: Polarity
    source: Source
    observed_at: datetime
    evidence: tuple[Evidence, ...] = ()
    confirmed_at: datetime | None = None
    valid_to: datetime | None = None
    """When the value stopped holding; None while it is open."""


_WORD = re.compile(r"[^\W_]+")
_SKIP = frozenset(["a", "an", "the", "of", "and", "to", "in", "is", "my", "on", "at", "for", "with"])


def value_tokens(value: str) -> frozenset[str]:
    """Return the casefolded content words by which values are compared."""
    words = _WORD.findall(value.casefold())
    return frozenset(word for word in words if word not in _SKIP) or frozenset(words)


def value_overlap(left: str, right: str) -> float:
    """Return the token F1 of two values, 0 to 1 (1 when they say the same words)."""
    left_tokens, right_tokens = value_tokens(left), value_tokens(right)
    if not left_tokens or not right_tokens:
        return float(left.strip() == right.strip())
    return 2 * len(left_tokens & right_tokens) / (len(left_tokens) + len(right_tokens))


def is_same_value(left: str, right: str) -> bool:
    """Tell whether two values are the same words in any order and case."""
    return value_overlap(left, right) == 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known about one user. A path that is absent is unknown."""

    slots: Mapping[str, tuple[SlotValue, ...]] = field(default_factory=dict)
    """Open values by slot path, oldest first."""
    history: tuple[SlotValue, ...] = ()
    """Values that no longer hold, in the order in which they were closed."""

    def __iter__(self) -> Iterator[SlotValue]:
        for path in sorted(self.slots):
            yield from self.slots[path]

    def __len__(self) -> int:
        return sum(map(len, self.slots.values()))

    def values(self, path: str) -> tuple[SlotValue, ...]:
        """Return the open values of a slot, oldest first; empty when it is unknown."""
        return self.slots.get(path, ())

    def apply(self, delta: ProfileDelta) -> Profile:
        """Return the profile after one turn; a later operation wins, nothing is mutated."""
        return reduce(Profile._after, delta.operations, self)

    def _after(self, op: SlotOp) -> Profile:
        if op.op in (OpKind.ADD, OpKind.UPDATE):
            return self._with(op)
        matching = _matching(self.values(op.path), op)
        if op.op is OpKind.CONFIRM:
            confirmed = {id(value): replace(value, confirmed_at=op.at) for value in matching}
            return self._set(op.path, tuple(confirmed.get(id(value), value) for value in self.values(op.path)))
        if op.op is OpKind.RETRACT:
            return self._close(op.path, matching, op.at)
        return self._forget(op)

    def _with(self, op: SlotOp) -> Profile:
        """Add a value; close what it replaces or contradicts; merge the evidence of a repeated one."""
        proof = (op.evidence,) if op.evidence else ()
        for value in self.values(op.path):
            if is_same_value(value.value, op.value) and not value.polarity.contradicts(op.polarity):
                polarity = value.polarity if op.polarity is Polarity.NEUTRAL else op.polarity
                merged = replace(value, polarity=polarity, evidence=(*value.evidence, *proof), confirmed_at=op.at)
                rest = tuple(merged if other is value else other for other in self.values(op.path))
                others = tuple(other for other in rest if other is not merged) if op.cardinality is Cardinality.ONE else ()
                return self._set(op.path, rest)._close(op.path, others, op.at)
        closed = self._close(op.path, self._replaced_by(op), op.at)
        new = SlotValue(op.path, op.value, op.polarity, op.source, op.at, proof)
        return closed._set(op.path, (*closed.values(op.path), new))

    def _replaced_by(self, op: SlotOp) -> tuple[SlotValue, ...]:
        values = self.values(op.path)
        if op.cardinality is Cardinality.ONE:
            return values
        contradicted = tuple(
            value for value in values if is_same_value(value.value, op.value) and value.polarity.contradicts(op.polarity)
        )
        if contradicted or op.op is OpKind.ADD or not values:
            return contradicted
        if len(values) == 1:
            return values
        nearest = max(values, key=lambda value: value_overlap(value.value, op.value))
        return (nearest,) if value_overlap(nearest.value, op.value) > 0 else ()

    def _close(self, path: str, closing: tuple[SlotValue, ...], at: datetime) -> Profile:
        if not closing:
            return self
        ids = {id(value) for value in closing}
        kept = tuple(value for value in self.values(path) if id(value) not in ids)
        ended = tuple(replace(value, valid_to=at) for value in closing)
        return replace(self._set(path, kept), history=(*self.history, *ended))

    def _forget(self, op: SlotOp) -> Profile:
        """Remove the value and every trace of it in the history: as if it had never been said."""

        def gone(value: SlotValue) -> bool:
            return value.path == op.path and (not op.value or is_same_value(value.value, op.value))

        kept = tuple(value for value in self.values(op.path) if not gone(value))
        history = tuple(value for value in self.history if not gone(value))
        return replace(self._set(op.path, kept), history=history)

    def _set(self, path: str, values: tuple[SlotValue, ...]) -> Profile:
        slots = {key: kept for key, kept in self.slots.items() if key != path}
        if values:
            slots[path] = values
        return replace(self, slots=slots)


def _matching(values: tuple[SlotValue, ...], op: SlotOp) -> tuple[SlotValue, ...]:
    """Return the open values that an operation means: all when it names none, else the nearest one.

    The only value of a slot that holds one is meant however it is worded; among many, some word must be shared, or
    "no pizza any more" would take away sushi.
    """
    if not op.value or not values:
        return values
    nearest = max(values, key=lambda value: value_overlap(value.value, op.value))
    is_the_only_one = op.cardinality is Cardinality.ONE and len(values) == 1
    return (nearest,) if is_the_only_one or value_overlap(nearest.value, op.value) > 0 else ()


def fold(operations: Iterable[SlotOp]) -> Profile:
    """Rebuild the profile from its log, oldest operation first."""
    return Profile().apply(ProfileDelta(tuple(operations)))
