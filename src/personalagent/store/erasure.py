"""What has to go when a user says "forget that".

Erased are: the value in every operation of the slot, the quotes that proved it, and, whole, the utterance and the response of every
turn it was learned from. In everything else the user's database holds (other turns, the quotes of other facts) the value
and those quotes are masked where they stand word for word, unless they are shorter than ``MIN_MASKED`` characters: a "2"
says nothing on its own. The same words kept as a value of another slot are another fact and stay; they are reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from personalagent.profile import Cardinality, OpKind, Profile, ProfileDelta, SlotOp, is_same_value
from personalagent.store.log import Logged

ERASED = "▮▮▮"
"""Stands where forgotten words stood; it has no letters, so it is the same as no value a slot can hold."""
MIN_MASKED = 4


@dataclass(frozen=True, slots=True)
class Erasure:
    """A log without one value, and what was taken out of it."""

    kept: tuple[Logged, ...]
    erased: tuple[SlotOp, ...]
    places: frozenset[int | tuple[str, int]]
    """The turns that the erased operations came from or quote: their place in the log, or session and index."""


def without(log: Sequence[Logged], path: str, value: str) -> Erasure:
    """Return the log as if ``value`` had never been in the slot (every value, when it is empty).

    The fold of the result is the fold of the log followed by FORGET: what an erased operation did to *other* values (Rome
    closed Paris) is said again without it (retract Paris).
    """
    kept: list[tuple[int, SlotOp]] = []
    erased: list[SlotOp] = []
    places: set[int | tuple[str, int]] = set()
    full, rest = Profile(), Profile()
    for entry in log:
        op = entry.operation
        if op.path != path or (op.op is OpKind.FORGET and op.value in ("", ERASED)):
            kept.append((entry.said, op))
            continue
        before, full = full, full.apply(ProfileDelta((op,)))
        wanted = _strip(full, path, value)
        is_about = _is_about(op, before, value)
        if is_about:
            erased.append(op)
            places |= {entry.said, *([(op.evidence.session_id, op.evidence.turn_index)] if op.evidence else [])}
        if is_about or rest.apply(ProfileDelta((op,))) != wanted:
            kept.extend((entry.said, step) for step in _steps(rest, wanted, op, is_about=is_about))
        else:
            kept.append((entry.said, op))
        rest = wanted
    return Erasure(tuple(_numbered(kept)), tuple(erased), frozenset(places))


def _strip(profile: Profile, path: str, value: str) -> Profile:
    kept = {
        key: left
        for key, values in profile.slots.items()
        if (left := tuple(held for held in values if key != path or not _is_meant(held.value, value)))
    }
    return Profile(kept, tuple(held for held in profile.history if held.path != path or not _is_meant(held.value, value)))


def _is_meant(held: str, value: str) -> bool:
    return not value or is_same_value(held, value)


def _is_about(op: SlotOp, before: Profile, value: str) -> bool:
    """Tell whether the operation's own words name the value, or another wording that meant it."""
    if not value or (op.value and is_same_value(op.value, value)):
        return True
    if op.op not in (OpKind.RETRACT, OpKind.CONFIRM) or not op.value:
        return False
    after = before.apply(ProfileDelta((op,)))
    changed = set(before.values(op.path)) - set(after.values(op.path))
    return any(is_same_value(held.value, value) for held in changed)


def _steps(before: Profile, after: Profile, op: SlotOp, *, is_about: bool) -> Iterator[SlotOp]:
    """Say in plain operations what leads from one profile to the next, which differ in the operation's slot only."""
    evidence = None if is_about else op.evidence
    for closed in after.history[len(before.history) :]:
        yield replace(op, op=OpKind.RETRACT, value=closed.value, evidence=evidence)
    if op.op is OpKind.CONFIRM:
        for held in set(after.values(op.path)) - set(before.values(op.path)):
            yield replace(op, value=held.value, evidence=evidence)
    if op.op in (OpKind.ADD, OpKind.UPDATE) and not is_about:
        yield replace(op, op=OpKind.ADD, cardinality=Cardinality.MANY)


def _numbered(kept: Iterable[tuple[int, SlotOp]]) -> Iterator[Logged]:
    last, position = -1, 0
    for said, op in kept:
        position = position + 1 if said == last else 0
        last = said
        yield Logged(said, position, op)


class Mask:
    """Finds the forgotten words in a text, whole words in any case and spacing."""

    def __init__(self, value: str, erased: Iterable[SlotOp]) -> None:
        texts = {value}
        for op in erased:
            texts |= {op.value, op.evidence.quote if op.evidence else ""}
        words = sorted((text.split() for text in texts if len(text.strip()) >= MIN_MASKED), key=lambda w: (-len(" ".join(w)), w))
        patterns = [r"\s+".join(map(re.escape, each)) for each in words]
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", re.IGNORECASE) if patterns else None

    def hide(self, text: str) -> str:
        """Return the text with every forgotten phrase masked."""
        return self._pattern.sub(ERASED, text) if self._pattern else text

    def finds(self, text: str) -> bool:
        """Tell whether the text has forgotten words."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def hide_quotes(self, log: Iterable[Logged]) -> tuple[Logged, ...]:
        """Return the log with the forgotten words masked in the quotes of other facts."""
        return tuple(self._masked(entry) for entry in log)

    def _masked(self, entry: Logged) -> Logged:
        evidence = entry.operation.evidence
        if evidence is None or not self.finds(evidence.quote):
            return entry
        masked = replace(evidence, quote=self.hide(evidence.quote))
        return replace(entry, operation=replace(entry.operation, evidence=masked))
