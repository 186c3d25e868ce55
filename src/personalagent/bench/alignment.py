"""How well replies align with a user over the turns of a dialogue, and averages that compare systems (PAPER.md section 4).

AL(k) is the mean score, 0 to 100, of the reply to the k-th utterance. IR is the least-squares slope of AL on k, R² that of the fit.
N-AL(k) = (AL(k) - min) / (max - min) with minimum and maximum over turns 1 to k, and 0 where they are equal, so N-AL(1) = 0. N-IR and N-R²
are slope and R² of N-AL. They are taken of the mean curve, not of each dialogue. Only this reading reproduces the paper's table 2; it is
degenerate: any strictly rising curve has N-IR 6/110 = 0.0545 and N-R² 3/11 = 0.2727 over ten turns, and an early dip raises both. So lead
with mean AL, AL(1), AL(K), the area and the interval.

For AL = 40, 30, 50: IR = 5, R² = 0.25; N-AL = 0, 0, 1; N-IR = 0.5, N-R² = 0.75; area = (35 + 40) / 2 = 37.5; 80 % of 50 is reached at turn 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from personalagent.bench.metrics import bootstrap
from personalagent.datasets.prefeval import group_of

Curve = Sequence[float | None]
"""AL(1) to AL(K); None at a turn where nothing was scored."""
Interval = tuple[float, float]
SHARE_OF_HIGHEST = 0.8


@dataclass(frozen=True, slots=True)
class Scored:
    """What a judge or an exact measure gave to one row."""

    example_id: str
    unit: str
    """The persona or preference; what intervals resample."""
    topic: str
    score: float | None
    """None where it is unscored: left out of every figure, never 0."""
    k: int | None = None
    """The turn, from 1, where rows are turns of dialogues."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A least-squares line through the points of a curve."""

    slope: float | None
    """Per turn; None for fewer than two points."""
    r2: float | None
    """1 - residual over total sum of squares; None where all points are equal."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The figures of one system's curve; None where there is nothing to measure."""

    levels: tuple[float | None, ...]
    mean: float | None
    """Of the levels, each turn counting the same."""
    mean_95: Interval | None
    first: float | None
    last: float | None
    area: float | None
    area_95: Interval | None
    turns_to_80: int | None
    rate: float | None
    """IR."""
    rate_95: Interval | None
    r2: float | None
    normalised_rate: float | None
    """N-IR."""
    normalised_r2: float | None
    """N-R²."""
    unscored: int


@dataclass(frozen=True, slots=True)
class MacroAverage:
    """The mean of each topic group, and the mean of those means."""

    by_group: Mapping[str, float]
    value: float | None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The first system's figure minus the second's, over examples that both have a score for."""

    difference: float | None
    interval_95: Interval | None
    """By resampling whole units, each with both systems' rows."""
    examples: int
    units: int
    left_out: int
    """Examples that one of them has no score for."""


def levels(rows: Iterable[Scored]) -> tuple[float | None, ...]:
    """Return AL(1) to AL(K), the mean over dialogues of what was scored at each turn. Rows without a turn are left out."""
    by_turn: dict[int, list[float]] = {}
    for row in rows:
        if row.k is not None:
            by_turn.setdefault(row.k, []).extend([] if row.score is None else [row.score])
    return tuple(fmean(by_turn[k]) if by_turn.get(k) else None for k in range(1, max(by_turn, default=0) + 1))


def fit(curve: Curve) -> Fit:
    """Fit a line on k = 1, 2, …; turns without a level are left out."""
    points = [(k, level) for k, level in enumerate(curve, 1) if level is not None]
    if len(points) < 2:
        return Fit(None, None)
    mean_k, mean_level = fmean(k for k, _ in points), fmean(level for _, level in points)
    covariance = sum((k - mean_k) * (level - mean_level) for k, level in points)
    slope = covariance / sum((k - mean_k) ** 2 for k, _ in points)
    if len({level for _, level in points}) == 1:
        return Fit(0.0, None)
    residual = sum((level - mean_level - slope * (k - mean_k)) ** 2 for k, level in points)
    return Fit(slope, 1 - residual / sum((level - mean_level) ** 2 for _, level in points))


def normalised(curve: Curve) -> tuple[float | None, ...]:
    """Return N-AL: each level between the lowest and the highest so far (equation 7 of the paper, read with prefix extremes)."""
    seen: list[float] = []
    result: list[float | None] = []
    for level in curve:
        if level is None:
            result.append(None)
            continue
        seen.append(level)
        low, high = min(seen), max(seen)
        result.append((level - low) / (high - low) if high > low else 0.0)
    return tuple(result)


def mean_level(curve: Curve) -> float | None:
    """Return the mean of the levels that are there."""
    known = [level for level in curve if level is not None]
    return fmean(known) if known else None


def area(curve: Curve) -> float | None:
    """Return the area under the curve by trapezoids over the number of intervals, so on the scale of AL; None where a level is missing."""
    known = [level for level in curve if level is not None]
    if len(known) < max(len(curve), 2):
        return None
    return fmean((left + right) / 2 for left, right in pairwise(known))


def turns_to(curve: Curve, *, share: float = SHARE_OF_HIGHEST) -> int | None:
    """Return the first turn at which a share of the curve's own highest level is reached."""
    known = [level for level in curve if level is not None]
    return next((k for k, level in enumerate(curve, 1) if level is not None and level >= share * max(known)), None)


def summarise_alignment(rows: Iterable[Scored], *, seed: int = 0, draws: int = 1_000) -> Alignment:
    """Return the figures of one system, with 95 % intervals over units."""
    rows = [row for row in rows if row.k is not None]
    curve = levels(rows)
    line, normal = fit(curve), fit(normalised(curve))

    def interval(statistic: Callable[[Curve], float | None]) -> Interval | None:
        return bootstrap(_by_unit(rows), lambda drawn: statistic(levels(_flat(drawn))), seed=seed, draws=draws)

    return Alignment(
        levels=curve,
        mean=mean_level(curve),
        mean_95=interval(mean_level),
        first=curve[0] if curve else None,
        last=curve[-1] if curve else None,
        area=area(curve),
        area_95=interval(area),
        turns_to_80=turns_to(curve),
        rate=line.slope,
        rate_95=interval(lambda drawn: fit(drawn).slope),
        r2=line.r2,
        normalised_rate=normal.slope,
        normalised_r2=normal.r2,
        unscored=sum(row.score is None for row in rows),
    )


def macro_average(rows: Iterable[Scored]) -> MacroAverage:
    """Average within topic groups, then over them, each group counting the same: the AVG of table 1. Groups without a score are left out."""
    by_group: dict[str, list[float]] = {}
    for row in rows:
        if row.score is not None:
            by_group.setdefault(group_of(row.topic), []).append(row.score)
    means = {group: fmean(by_group[group]) for group in sorted(by_group)}
    return MacroAverage(means, fmean(means.values()) if means else None)


def macro_score(rows: Iterable[Scored]) -> float | None:
    """Return the macro average as one figure, for intervals and differences."""
    return macro_average(rows).value


def mean_score(rows: Iterable[Scored]) -> float | None:
    """Return the mean of what was scored."""
    scores = [row.score for row in rows if row.score is not None]
    return fmean(scores) if scores else None


def score_interval(
    rows: Iterable[Scored],
    statistic: Callable[[Iterable[Scored]], float | None] = mean_score,
    *,
    seed: int = 0,
    draws: int = 1_000,
) -> Interval | None:
    """Return the 95 % interval of a figure over units."""
    return bootstrap(_by_unit(rows), lambda drawn: statistic(_flat(drawn)), seed=seed, draws=draws)


def paired_difference(
    first: Iterable[Scored],
    second: Iterable[Scored],
    statistic: Callable[[Iterable[Scored]], float | None] = mean_score,
    *,
    seed: int = 0,
    draws: int = 1_000,
) -> PairedDifference:
    """Compare two systems on the same examples: units are drawn, and with each all rows of both systems.

    An example without a score on either side is left out of both.
    """
    firsts, seconds = ({row.example_id: row for row in rows} for rows in (first, second))
    both = [
        (row, other)
        for example_id, row in firsts.items()
        if (other := seconds.get(example_id)) is not None and row.score is not None and other.score is not None
    ]
    units: dict[str, list[tuple[Scored, Scored]]] = {}
    for pair in both:
        units.setdefault(pair[0].unit, []).append(pair)

    def difference(drawn: Iterable[list[tuple[Scored, Scored]]]) -> float | None:
        pairs = [pair for unit in drawn for pair in unit]
        left, right = statistic([pair[0] for pair in pairs]), statistic([pair[1] for pair in pairs])
        return None if left is None or right is None else left - right

    return PairedDifference(
        difference=difference(units.values()),
        interval_95=bootstrap(list(units.values()), difference, seed=seed, draws=draws),
        examples=len(both),
        units=len(units),
        left_out=len({*firsts} | {*seconds}) - len(both),
    )


def _by_unit(rows: Iterable[Scored]) -> list[list[Scored]]:
    units: dict[str, list[Scored]] = {}
    for row in rows:
        units.setdefault(row.unit, []).append(row)
    return list(units.values())


def _flat(drawn: Iterable[list[Scored]]) -> list[Scored]:
    return [row for unit in drawn for row in unit]
