"""Stored runs of the suite, put together, and the figures of the paper's tables from their rows.

Nothing is averaged over what is missing: a row without a score is left out of every mean and counted, as unscored where there is a reply
and as failed where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from personalagent.bench.alignment import (
    Scored,
    levels,
    macro_average,
    macro_score,
    mean_level,
    mean_score,
    paired_difference,
    score_interval,
    summarise_alignment,
)
from personalagent.bench.rows import ROWS, Key, Row, load_rows
from personalagent.bench.suite_manifest import load_manifest, refuse_unlike
from personalagent.errors import UsageError

BASE = "base"
AGENT = "personal-agent"
ALL_CATEGORIES = 11
PARTS = ("history", "request", "judge")
Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one data set with one budget of noise, by system in the order of the manifests."""

    dataset: str
    noise_tokens: int
    by_system: Mapping[str, tuple[Row, ...]]

    @property
    def is_grouped(self) -> bool:
        """Whether its figure is the macro average over the paper's topic groups."""
        return any(row.dataset == "prefeval" for rows in self.by_system.values() for row in rows)

    @property
    def has_turns(self) -> bool:
        """Whether its rows are turns of dialogues."""
        return any(row.k is not None for rows in self.by_system.values() for row in rows)

    @property
    def statistic(self) -> Callable[[Iterable[Scored]], float | None]:
        """The one figure of a system: macro average over topic groups, mean of AL(k), or plain mean."""
        if self.is_grouped:
            return macro_score
        return (lambda rows: mean_level(levels(rows))) if self.has_turns else mean_score


@dataclass(frozen=True, slots=True)
class Suite:
    """Runs that may stand in one report."""

    manifests: Mapping[str, Mapping[str, Any]]
    """By folder."""
    blocks: tuple[Block, ...]
    accepted: tuple[str, ...] = ()
    """Fields in which the runs differ and may."""
    present: int = 0
    expected: int = 0
    """Rows; fewer are present where a run was not finished."""


def load_suite(folders: Sequence[Path], *, accepted: Iterable[str] = ()) -> Suite:
    """Load runs and put those of one data set together.

    Raises:
        DataError: a folder holds no run, or a row is broken.
        UsageError: runs were made differently, in fields that were not accepted, or have a row in common.
    """
    manifests: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, dict[Key, Row]] = {}
    systems: list[str] = []
    for folder in folders:
        manifest = manifests[str(folder)] = load_manifest(folder)
        systems += [name for name in manifest["systems"] if name not in systems]
        held = rows.setdefault(manifest["dataset"], {})
        for row in load_rows(folder / ROWS) if (folder / ROWS).exists() else []:
            if row.key in held:
                raise UsageError(
                    f"expected each row in one run, got {row.key} of {manifest['dataset']} again in {str(folder)!r}; name fewer folders"
                )
            held[row.key] = row
    differing = refuse_unlike(manifests, accepted=accepted)
    return Suite(
        manifests,
        tuple(block for dataset, held in rows.items() for block in _blocks(dataset, list(held.values()), systems)),
        tuple(differing),
        present=sum(map(len, rows.values())),
        expected=sum(manifest["rows"] for manifest in manifests.values()),
    )


def _blocks(dataset: str, rows: Sequence[Row], systems: Sequence[str]) -> Iterable[Block]:
    for budget in sorted({row.noise_tokens for row in rows}):
        by_system = {
            system: tuple(
                sorted((row for row in rows if (row.system, row.noise_tokens) == (system, budget)), key=lambda row: row.key)
            )
            for system in systems
        }
        yield Block(dataset, budget, {system: each for system, each in by_system.items() if each})


def scored(rows: Iterable[Row]) -> list[Scored]:
    """Return what the figures are made of."""
    return [Scored(row.example_id, row.unit, row.topic, row.score, row.k) for row in rows]


def counts(rows: Sequence[Row]) -> Numbers:
    """Count rows with a score, with a reply and no score, and without a reply or verdict because something failed."""
    failed = sum(row.error is not None for row in rows)
    with_score = sum(row.score is not None for row in rows)
    return {"rows": len(rows), "scored": with_score, "unscored": len(rows) - with_score - failed, "failed": failed}


def score_numbers(block: Block, *, seed: int = 0) -> Numbers:
    """Return, by system: the groups, the figure, its interval, and the paired difference to Base (table 1)."""
    base = scored(block.by_system.get(BASE, ()))
    numbers: Numbers = {}
    for system, rows in block.by_system.items():
        mine = scored(rows)
        difference = asdict(paired_difference(mine, base, block.statistic, seed=seed)) if base and system != BASE else None
        numbers[system] = {
            **counts(rows),
            "groups": dict(macro_average(mine).by_group) if block.is_grouped else {},
            "average": block.statistic(mine),
            "average_95": score_interval(mine, block.statistic, seed=seed),
            "minus_base": difference,
        }
    return numbers


def alignment_numbers(block: Block, *, seed: int = 0) -> Numbers:
    """Return, by system, AL(k) and what is made of it (table 2); nothing where rows are no turns."""
    if not block.has_turns:
        return {}
    return {system: asdict(summarise_alignment(scored(rows), seed=seed)) for system, rows in block.by_system.items()}


def mask_numbers(block: Block, scores: Numbers) -> Numbers:
    """Return the scores of PersonalAgent by how many categories it sees (table 5)."""
    found = {categories: scores[system] for system in block.by_system if (categories := categories_of(system)) is not None}
    return {str(categories): found[categories] for categories in sorted(found)}


def categories_of(system: str) -> int | None:
    """Return how many categories a PersonalAgent sees; None for any other system."""
    name, _, variant = system.partition(":")
    if name != AGENT or (variant and not variant.isdigit()):
        return None
    return int(variant) if variant else ALL_CATEGORIES


def error_numbers(block: Block) -> Numbers:
    """Return, by system, how often each error of PrefEval was named; nothing where no answer was checked."""
    numbers = {
        system: dict(Counter(row.verdict["error"] for row in rows if row.verdict.get("error")))
        for system, rows in block.by_system.items()
        if any("error" in row.verdict for row in rows)
    }
    return numbers


def asking_numbers(block: Block) -> Numbers:
    """Return, by system, how often it asked where something that decides the answer was missing, and where nothing was.

    The data set's word for what is missing counts, not the slot that was asked for. Replies that failed are left out.
    """
    numbers: Numbers = {}
    for system, rows in block.by_system.items():
        known = [row for row in rows if row.missing is not None and row.text is not None]
        if not known:
            continue
        due = [row.question is not None for row in known if row.missing]
        undue = [row.question is not None for row in known if not row.missing]
        asked, hits = sum(due) + sum(undue), sum(due)
        numbers[system] = {
            "due": len(due),
            "not_due": len(undue),
            "ask_recall": fmean(due) if due else None,
            "over_ask": fmean(undue) if undue else None,
            "ask_f1": 2 * hits / (asked + len(due)) if asked + len(due) else None,
        }
    return numbers


def cost_numbers(block: Block) -> Numbers:
    """Return, by system, the mean calls and tokens of a request and of the history before it, over the rows with a reply."""
    numbers: Numbers = {}
    for system, rows in block.by_system.items():
        answered = [row for row in rows if row.text is not None]
        numbers[system] = {
            "answered": len(answered),
            "cut": sum(row.cut_messages > 0 for row in answered),
            "calls_without_usage": sum(row.spent[part]["calls_without_usage"] for row in answered for part in PARTS[:2]),
            **{part: {name: _mean(answered, part, name) for name in COST_FIELDS} for part in PARTS[:2]},
        }
    return numbers


COST_FIELDS = ("calls", "prompt_tokens", "completion_tokens", "embedding_tokens")


def time_numbers(block: Block) -> Numbers:
    """Return, by system, seconds a request and calls of the judge. They differ from run to run: a judge's verdicts may be remembered."""
    numbers: Numbers = {}
    for system, rows in block.by_system.items():
        answered = [row for row in rows if row.text is not None]
        numbers[system] = {
            "history_s": _mean(answered, "history", "seconds"),
            "request_s": _mean(answered, "request", "seconds"),
            "embedding_s": fmean(sum(row.spent[part]["embedding_seconds"] for part in PARTS[:2]) for row in answered)
            if answered
            else None,
            "failed_calls": sum(row.spent[part]["failed_calls"] for row in rows for part in PARTS),
            **{f"judge_{name}": sum(row.spent["judge"][name] for row in rows) for name in COST_FIELDS[:3]},
        }
    return numbers


def _mean(rows: Sequence[Row], part: str, name: str) -> float | None:
    return fmean(row.spent[part][name] for row in rows) if rows else None


def suite_numbers(suite: Suite, *, seed: int = 0) -> Numbers:
    """Return all figures of a suite, a block each, as JSON values."""
    blocks = []
    for block in suite.blocks:
        scores = score_numbers(block, seed=seed)
        blocks.append(
            {
                "dataset": block.dataset,
                "noise_tokens": block.noise_tokens,
                "is_macro_average": block.is_grouped,
                "scores": scores,
                "alignment": alignment_numbers(block, seed=seed),
                "masks": mask_numbers(block, scores),
                "errors": error_numbers(block),
                "asking": asking_numbers(block),
                "cost": cost_numbers(block),
                "times": time_numbers(block),
            }
        )
    return {"rows": suite.present, "rows_expected": suite.expected, "accepted": list(suite.accepted), "blocks": blocks}
