"""``bench coldstart``: does the agent ask when, and only when, something that decides the answer is not known?

Cases are requests of held-out personas and held-out request twins, each with the gold profile: half of them lack the deciding
slot, half do not. Always asking and never asking both lose. The trivial policies stand beside every result.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from personalagent.bench.metrics import bootstrap, percentile
from personalagent.datasets.base import Split
from personalagent.datasets.corpus import Corpus
from personalagent.inference import Notation
from personalagent.llm.base import LLM
from personalagent.parsing import ParseOutcome
from personalagent.profile import Profile
from personalagent.schema import ProfileSchema
from personalagent.shortlist import shortlist_of
from personalagent.sufficiency import AskRules, assess
from personalagent.train.samples import final_profile, profile_of

HIT_AT = (1, 3)
STEPS = 20
"""Thresholds that are tried, from 0 in equal steps to below 1."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request, what is known, and which slots are missing and decide the answer (none where it is sufficient)."""

    unit: str
    """The persona or pair; what intervals resample."""
    request: str
    profile: Profile
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskRow:
    """What a policy did with a case."""

    unit: str
    request: str
    missing: tuple[str, ...]
    """Gold."""
    candidates: tuple[str, ...]
    """Missing slots, most important first: those that the policy names, then those that requests like this one needed."""
    probability: float | None
    """What the policy gave to the slot that it would ask for; None where it would ask for none or gave no probabilities."""
    asked_for: str | None
    ms: float = 0.0
    is_unreadable: bool = False
    """Whether the policy wrote nothing that could be read: no decision, so no score."""
    named: int | None = None
    """How many of the candidates the policy named itself; None means all."""


def cases_of(corpus: Corpus, schema: ProfileSchema, split: Split) -> list[Case]:
    """List a split's requests with the profile that gold has at that point."""
    cases = [
        Case(dialogue.dialogue_id, request.request, final_profile(dialogue, schema), request.missing)
        for dialogue in corpus.dialogues_of(split)
        for request in dialogue.requests
    ]
    return cases + [
        Case(each.pair, each.request, profile_of(each.profile, schema), each.missing) for each in corpus.requests_of(split)
    ]


async def run_case(case: Case, *, llm: LLM, schema: ProfileSchema, notation: Notation, rules: AskRules | None = None) -> AskRow:
    """Assess one request as serving does, with a fresh budget of questions."""
    result = await assess(case.request, case.profile, llm=llm, schema=schema, rules=rules, notation=notation)
    sure = dict(zip(result.needs, result.probabilities, strict=False))
    would_ask = next((path for path in result.missing if _is_askable(path, schema)), None)
    likely = [path for path in result.likely if not case.profile.values(path) and path not in result.missing]
    return AskRow(
        unit=case.unit,
        request=case.request,
        missing=case.missing,
        candidates=(*result.missing, *(path for path in likely if _is_askable(path, schema))),
        probability=sure.get(would_ask or ""),
        asked_for=result.ask_for,
        ms=1_000 * sum(completion.elapsed_s for completion in result.completions),
        is_unreadable=result.outcome is ParseOutcome.UNREADABLE,
        named=len(result.missing),
    )


def _is_askable(path: str, schema: ProfileSchema) -> bool:
    return schema.slots[path].ask != "never"


def trivial(cases: Sequence[Case], corpus: Corpus, schema: ProfileSchema, *, seed: int) -> dict[str, list[AskRow]]:
    """Return what policies without a model do: always ask, never ask, ask by the toss of a coin, ask what nearest requests needed.

    The first three name the slots that are most often missing in the train split and unknown here. The last asks for the
    likeliest unknown slot where its share of the votes reaches the threshold that is best on the train split.
    """
    often = Counter(path for d in corpus.dialogues_of("train") for request in d.requests for path in request.missing)
    often.update(path for each in corpus.requests_of("train") for path in each.missing)
    ranked = [path for path, _ in often.most_common()]
    rng = random.Random(seed)  # noqa: S311 - a baseline, not secrets

    def rows(asks: Callable[[], bool]) -> list[AskRow]:
        done = []
        for case in cases:
            unknown = tuple(path for path in ranked if not case.profile.values(path))[: max(HIT_AT)] if asks() else ()
            done.append(AskRow(case.unit, case.request, case.missing, unknown, None, unknown[0] if unknown else None))
        return done

    return {
        "always ask": rows(lambda: True),
        "never ask": rows(lambda: False),
        "toss a coin": rows(lambda: rng.random() < 0.5),
        "nearest requests": _nearest(
            cases, schema, best_threshold([_vote(case, schema) for case in cases_of(corpus, schema, "train")])
        ),
    }


def _vote(case: Case, schema: ProfileSchema) -> AskRow:
    """Ask for the unknown slot that requests like this one, the case's own unit left out, needed most."""
    votes = shortlist_of(schema).votes(case.request, without=case.unit)
    unknown = [path for path in votes if path in schema.slots and _is_askable(path, schema) and not case.profile.values(path)]
    first = unknown[0] if unknown else None
    return AskRow(case.unit, case.request, case.missing, tuple(unknown[: max(HIT_AT)]), votes[first] if first else None, first)


def best_threshold(rows: Sequence[AskRow]) -> float:
    """Return the probability from which asking has the highest balanced accuracy on these rows."""
    return max((step / STEPS for step in range(STEPS)), key=lambda least: _balanced(_asked_from(rows, least)) or 0.0)


def _nearest(cases: Sequence[Case], schema: ProfileSchema, threshold: float) -> list[AskRow]:
    return _asked_from([_vote(case, schema) for case in cases], threshold)


def _asked_from(rows: Sequence[AskRow], least: float) -> list[AskRow]:
    """Return what would have been asked had the policy needed this probability."""
    return [replace(row, asked_for=row.asked_for if (row.probability or 0) >= least else None) for row in rows]


def summarise_asks(rows: Sequence[AskRow]) -> dict[str, Any]:
    """Return the figures of one policy, each with its 95 % interval over personas; None where there is nothing to measure.

    A case whose output could not be read is counted, and left out of every other figure.
    """
    unreadable = sum(row.is_unreadable for row in rows)
    rows = [row for row in rows if not row.is_unreadable]
    measures: dict[str, Callable[[Sequence[AskRow]], float | None]] = {
        "balanced_accuracy": _balanced,
        "ask_recall": lambda some: _share(some, lambda r: r.asked_for is not None, insufficient=True),
        "over_ask": lambda some: _share(some, lambda r: r.asked_for is not None, insufficient=False),
        "ask_f1": _f1,
        **{
            f"slot_hit_at_{k}": lambda some, k=k: _share(  # type: ignore[misc]
                some, lambda r: bool({*r.candidates[:k]} & {*r.missing}), insufficient=True
            )
            for k in HIT_AT
        },
        "named_slot_hit_at_3": lambda some: _share(
            some, lambda r: bool({*r.candidates[:3][: r.named]} & {*r.missing}), insufficient=True
        ),
    }
    units: dict[str, list[AskRow]] = {}
    for row in rows:
        units.setdefault(row.unit, []).append(row)
    figures: dict[str, Any] = {}
    for name, measure in measures.items():
        value = measure(rows)
        interval = bootstrap(list(units.values()), lambda drawn, measure=measure: measure(_flat(drawn)))  # type: ignore[misc]
        figures[name] = None if value is None else round(value, 3)
        figures[f"{name}_95"] = interval and [round(bound, 3) for bound in interval]
    figures["insufficient"] = sum(bool(row.missing) for row in rows)
    figures["sufficient"] = sum(not row.missing for row in rows)
    figures["unreadable"] = unreadable
    figures["ms_p50"] = percentile([round(row.ms, 1) for row in rows], 0.5)
    return figures


def curve(rows: Sequence[AskRow], steps: int = STEPS) -> list[dict[str, float | None]]:
    """Return asking too much against asking too little for thresholds from 0 to 0.95, from rows that were run without one."""
    points = []
    for step in range(steps):
        threshold = step / steps
        asked = _asked_from([row for row in rows if not row.is_unreadable], threshold)
        points.append(
            {
                "ask_at_least": threshold,
                "ask_recall": _share(asked, lambda r: r.asked_for is not None, insufficient=True),
                "over_ask": _share(asked, lambda r: r.asked_for is not None, insufficient=False),
                "balanced_accuracy": _balanced(asked),
            }
        )
    return points


def _flat(units: Iterable[Sequence[AskRow]]) -> list[AskRow]:
    return [row for unit in units for row in unit]


def _share(rows: Sequence[AskRow], test: Callable[[AskRow], bool], *, insufficient: bool) -> float | None:
    chosen = [test(row) for row in rows if bool(row.missing) == insufficient]
    return fmean(chosen) if chosen else None


def _balanced(rows: Sequence[AskRow]) -> float | None:
    recall = _share(rows, lambda r: r.asked_for is not None, insufficient=True)
    kept = _share(rows, lambda r: r.asked_for is None, insufficient=False)
    return None if recall is None or kept is None else (recall + kept) / 2


def _f1(rows: Sequence[AskRow]) -> float | None:
    """F1 of the decision to ask, whatever is asked."""
    right = sum(row.asked_for is not None and bool(row.missing) for row in rows)
    asked, due = sum(row.asked_for is not None for row in rows), sum(bool(row.missing) for row in rows)
    return 2 * right / (asked + due) if asked + due else None
