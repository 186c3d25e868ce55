"""Exact, judge-free measures of profile inference.

A predicted fact matches a gold one when their values share half of their words (token F1 >= 0.5 on casefolded content words) and
their slots agree at the level asked for: the slot itself, its group or its category. Each gold fact is matched once.
Precision is matched / predicted, recall matched / gold, F1 their harmonic mean (paper section 4: P∩G over P and over G).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from personalagent.parsing import Fact
from personalagent.profile import value_overlap

SAME_VALUE = 0.5
"""Token F1 from which two values count as the same fact."""


class Level(StrEnum):
    """How closely two slots must agree."""

    SLOT = "slot"
    GROUP = "group"
    CATEGORY = "category"

    def of(self, path: str) -> str:
        """Return the part of a full path that must be equal at this level."""
        return ".".join(path.split(".")[: {"slot": 3, "group": 2, "category": 1}[self.value]])


@dataclass(frozen=True, slots=True)
class Counts:
    """Matched, predicted and gold items, summed before a ratio is taken (micro average)."""

    matched: int = 0
    predicted: int = 0
    gold: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.matched + other.matched, self.predicted + other.predicted, self.gold + other.gold)

    @property
    def precision(self) -> float | None:
        """Matched over predicted; None where nothing was predicted."""
        return self.matched / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Matched over gold; None where there is no gold."""
        return self.matched / self.gold if self.gold else None

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 1 where both sides are empty (paper section 4)."""
        total = self.predicted + self.gold
        return 2 * self.matched / total if total else 1.0


def matches(predicted: Sequence[Fact], gold: Sequence[Fact], level: Level) -> list[tuple[Fact, Fact]]:
    """Pair predicted with gold facts, the most alike first; each is used once."""
    pairs = sorted(
        (
            (value_overlap(p.value, g.value), -i, -j)
            for i, p in enumerate(predicted)
            for j, g in enumerate(gold)
            if level.of(p.path) == level.of(g.path) and value_overlap(p.value, g.value) >= SAME_VALUE
        ),
        reverse=True,
    )
    taken_p: set[int] = set()
    taken_g: set[int] = set()
    chosen = []
    for _, i, j in pairs:
        if i not in taken_p and j not in taken_g:
            taken_p.add(i)
            taken_g.add(j)
            chosen.append((predicted[-i], gold[-j]))
    return chosen


def count(predicted: Sequence[Fact], gold: Sequence[Fact], level: Level) -> Counts:
    """Count the matches of one turn."""
    return Counts(len(matches(predicted, gold, level)), len(predicted), len(gold))


def slot_count(predicted: Sequence[Fact], gold: Sequence[Fact], level: Level) -> Counts:
    """Count slots found whatever the value: how much of the value-matched loss is the wording."""
    rest = [level.of(g.path) for g in gold]
    matched = 0
    for fact in predicted:
        if level.of(fact.path) in rest:
            rest.remove(level.of(fact.path))
            matched += 1
    return Counts(matched, len(predicted), len(gold))


T = TypeVar("T")


def bootstrap(
    units: Sequence[T], statistic: Callable[[Iterable[T]], float | None], *, seed: int = 0, draws: int = 1_000
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of a statistic, resampling whole units (personas); None where it cannot be computed."""
    if not units:
        return None
    rng = random.Random(seed)  # noqa: S311 - resampling, not secrets
    values = sorted(v for _ in range(draws) if (v := statistic(rng.choices(units, k=len(units)))) is not None)
    if not values:
        return None
    return values[int(0.025 * len(values))], values[min(int(0.975 * len(values)), len(values) - 1)]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that a share of the values does not exceed (nearest rank); None where there are none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None
