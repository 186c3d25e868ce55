"""How far two judges agree beyond chance: Cohen's kappa, plain and with quadratic weights (PAPER.md section 4, the paper's eq. 8 to 10).

With ``n`` pairs of levels, ``n_ij`` of which are (i, j):

- P_o = Σ n_ii / n (eq. 8), P_e = Σ_i n_i. · n_.i / n² (eq. 9), kappa = (P_o - P_e) / (1 - P_e) (eq. 10);
- quadratic: 1 - Σ (i - j)² n_ij / n over Σ (i - j)² n_i. · n_.j / n²: two levels apart counts four times as much as one.

Both are None where chance alone explains everything (each judge gave the one same level throughout): that is not measured, not 1.

20 pairs (1,1), 5 (1,0), 10 (0,1), 15 (0,0): P_o = 35/50 = 0.7; P_e = (25·30 + 25·20)/2500 = 0.5; kappa = 0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from personalagent.bench.metrics import bootstrap
from personalagent.bench.verdict_files import VerdictRow
from personalagent.errors import UsageError
from personalagent.rubrics import Combine, Rubric, nearest

Pairs = Counter[tuple[float, float]]
"""How often the first judge gave one level where the second gave another."""
POOLED = "all criteria"
SCORE = "score"
GRADES = 5
"""The paper's scale, 1 to 5: a mean of criteria is put on so many even levels before levels are compared."""


def observed(pairs: Pairs) -> float | None:
    """Return the share of pairs that are the same (P_o); None where there are none."""
    total = pairs.total()
    return sum(count for (one, other), count in pairs.items() if one == other) / total if total else None


def kappa(pairs: Pairs) -> float | None:
    """Return Cohen's kappa; None where agreement by chance is certain."""
    return _beyond_chance(pairs, power=0)


def quadratic_kappa(pairs: Pairs) -> float | None:
    """Return Cohen's kappa with quadratic weights over the levels' values; None as for `kappa`."""
    return _beyond_chance(pairs, power=2)


def _beyond_chance(pairs: Pairs, *, power: int) -> float | None:
    """Return 1 - observed over expected disagreement, which for power 0 is (P_o - P_e) / (1 - P_e)."""
    total = pairs.total()
    firsts, seconds = Counter[float](), Counter[float]()
    for (one, other), count in pairs.items():
        firsts[one] += count
        seconds[other] += count

    def apart(one: float, other: float) -> float:
        return 0.0 if one == other else abs(one - other) ** power

    expected = sum(apart(one, other) * firsts[one] * seconds[other] for one in firsts for other in seconds)
    if not expected:
        return None
    return 1 - total * sum(apart(one, other) * count for (one, other), count in pairs.items()) / expected


def summarise_agreement(
    first: Sequence[VerdictRow], second: Sequence[VerdictRow], rubric: Rubric, *, seed: int = 0, draws: int = 1_000
) -> dict[str, Any]:
    """Compare two judges by criterion, over all criteria where they have the same levels, and by score.

    Raises:
        UsageError: they judged by unlike versions of the rubric, or nothing in common.
    """
    here, there = ({row.place: row for row in rows} for rows in (first, second))
    common = [place for place in here if place in there]
    _refuse_unlike([*here.values(), *there.values()], rubric)
    if not common:
        raise UsageError(
            f"expected examples that both judged by {rubric.name}, got {len(here)} and {len(there)} with none in common; "
            "compare files of the same run, or give the key of the sheet with --key"
        )
    by_unit: dict[str, list[tuple[VerdictRow, VerdictRow]]] = {}
    for place in common:
        by_unit.setdefault(here[place].unit, []).append((here[place], there[place]))
    measures = {
        name: _measure([_pairs(rows, rubric, name) for rows in by_unit.values()], seed=seed, draws=draws)
        for name in _names(rubric)
    }
    return {
        "rubric": rubric.name,
        "compared": len(common),
        "units": len(by_unit),
        "only_first": len(here) - len(common),
        "only_second": len(there) - len(common),
        "unscored_first": sum(not here[place].scores for place in common),
        "unscored_second": sum(not there[place].scores for place in common),
        "agreement": measures,
    }


def _names(rubric: Rubric) -> list[str]:
    names = [criterion.name for criterion in rubric.criteria]
    if len(names) == 1:
        return names
    scales = {tuple(level.score for level in criterion.levels) for criterion in rubric.criteria}
    pooled = [POOLED] if len(scales) == 1 and not any(criterion.is_range for criterion in rubric.criteria) else []
    return [*names, *pooled, SCORE, *rubric.variants]


def _measure(units: Sequence[Pairs], *, seed: int, draws: int) -> dict[str, Any]:
    filled = [pairs for pairs in units if pairs]

    def plain(drawn: Iterable[Pairs]) -> float | None:
        return kappa(_sum(drawn))

    def quadratic(drawn: Iterable[Pairs]) -> float | None:
        return quadratic_kappa(_sum(drawn))

    pairs = _sum(filled)
    return {
        "pairs": pairs.total(),
        "observed": observed(pairs),
        "kappa": kappa(pairs),
        "kappa_95": bootstrap(filled, plain, seed=seed, draws=draws),
        "quadratic_kappa": quadratic_kappa(pairs),
        "quadratic_kappa_95": bootstrap(filled, quadratic, seed=seed, draws=draws),
    }


def _sum(units: Iterable[Pairs]) -> Pairs:
    total: Pairs = Counter()
    for pairs in units:
        total.update(pairs)
    return total


def _pairs(rows: Iterable[tuple[VerdictRow, VerdictRow]], rubric: Rubric, name: str) -> Pairs:
    """Count the pairs of levels of one unit; what one of them did not score is left out."""
    pairs: Pairs = Counter()
    for one, other in rows:
        names = [criterion.name for criterion in rubric.criteria] if name == POOLED else [name]
        for each in names:
            levels = (_level(rubric, each, one.scores), _level(rubric, each, other.scores))
            if levels[0] is not None and levels[1] is not None:
                pairs[levels[0], levels[1]] += 1
    return pairs


def _level(rubric: Rubric, name: str, scores: Mapping[str, float]) -> float | None:
    """Return the level that counts: a criterion's own or its nearest anchor; a mean of criteria on five even levels."""
    for criterion in rubric.criteria:
        if criterion.name == name:
            return nearest(scores[name], (level.score for level in criterion.levels)) if name in scores else None
    needed = rubric.variants.get(name, tuple(criterion.name for criterion in rubric.criteria))
    if not set(needed) <= set(scores):
        return None
    counted = [criterion for criterion in rubric.criteria if criterion.name in needed]
    value = rubric.combined(counted, scores)
    if rubric.combine is Combine.ALL:
        return value
    low = min(criterion.levels[0].score for criterion in counted)
    high = max(criterion.levels[-1].score for criterion in counted)
    return nearest(value, (low + (high - low) * step / (GRADES - 1) for step in range(GRADES)))


def _refuse_unlike(rows: Iterable[VerdictRow], rubric: Rubric) -> None:
    hashes = {row.rubric_sha256 for row in rows if row.rubric_sha256 is not None}
    if hashes - {rubric.sha256}:
        raise UsageError(
            f"expected verdicts by this version of rubric {rubric.name} ({rubric.sha256[:12]}), "
            f"got {', '.join(sorted(str(each)[:12] for each in hashes))}; judge again with one version"
        )
