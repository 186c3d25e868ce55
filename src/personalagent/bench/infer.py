"""``bench infer``: how well a policy infers profiles on held-out personas, by the same code as serving.

Dialogues are walked turn by turn on the policy's own predictions, as in serving. Single turns and held-out phrase-bank
patterns measure what must stay empty: third-party facts, hypotheticals, pasted text.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import chain
from statistics import fmean
from typing import Any

from personalagent.bench.metrics import Counts, Level, bootstrap, count, matches, percentile, slot_count
from personalagent.datasets.base import Split
from personalagent.datasets.corpus import Corpus
from personalagent.inference import Inference, Notation, build_prompt, infer
from personalagent.llm.base import LLM
from personalagent.parsing import Fact, ParseOutcome
from personalagent.profile import OpKind, Profile, SlotOp
from personalagent.schema import ProfileSchema
from personalagent.sufficiency import assess
from personalagent.train.samples import START, BankComposer, final_profile, gold_delta, profile_of, walk


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn as gold has it and as the policy inferred it."""

    unit: str
    """The persona: dialogue or turn id; what intervals resample."""
    kind: str
    """dialogue, or the tag of a single turn: reveal, third_party, hypothetical, pasted, empty."""
    utterance: str
    gold: tuple[Fact, ...]
    predicted: tuple[Fact, ...]
    outcome: ParseOutcome
    refused: dict[str, int]
    output: str
    """What the policy wrote, before parsing and gate."""
    certainty: float | None
    ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    alone: bool = True
    """Whether nothing else was asked of the model meanwhile, so that ``ms`` is the turn's own."""


@dataclass(frozen=True, slots=True)
class NeedsRow:
    """The slots that a request needs, as gold has them and as the policy names them."""

    unit: str
    gold: tuple[str, ...]
    predicted: tuple[str, ...]
    missing: tuple[str, ...]
    asked_for: str | None
    ms: float


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work: turns in order, from a profile, and requests after them."""

    unit: str
    kind: str
    turns: tuple[tuple[str, tuple[Fact, ...]], ...]
    profile: Profile = field(default_factory=Profile)


def jobs_of(corpus: Corpus, schema: ProfileSchema, split: Split, *, bank_patterns: int, seed: int) -> list[Job]:
    """List what is measured: the split's dialogues and single turns, and held-out bank patterns that reveal nothing."""
    jobs = [
        Job(d.dialogue_id, "dialogue", tuple((turn.utterance, turn.facts) for session in d.sessions for turn in session))
        for d in corpus.dialogues_of(split)
    ]
    jobs += [
        Job(t.turn_id, t.tag, ((t.turn.utterance, t.turn.facts),), profile_of(t.profile, schema)) for t in corpus.turns_of(split)
    ]
    rng = random.Random(seed)  # noqa: S311 - sampling data, not secrets
    composer = BankComposer(corpus.bank, schema, rng, held_out=True)
    for kind in ("third_party", "hypothetical"):
        usable = [record for record in composer.bank if record.unseen(kind)]
        for record in rng.sample(usable, min(bank_patterns, len(usable))):
            turn, profile = composer.turn(kind, record)
            jobs.append(Job(f"{kind}:{record.slot}", kind, ((turn.utterance, ()),), profile))
    return jobs


async def run_job(job: Job, *, llm: LLM, schema: ProfileSchema, notation: Notation, alone: bool = True) -> list[TurnRow]:
    """Infer a job's turns one after the other, each on the profile that the policy itself has built."""
    rows, profile = [], job.profile
    for index, (utterance, gold) in enumerate(job.turns):
        at = START + timedelta(minutes=index)
        result = await infer(
            utterance, profile, llm=llm, schema=schema, at=at, session_id=job.unit, turn_index=index, notation=notation
        )
        profile = profile.apply(result.delta)
        row = _row(job, utterance, tuple(fact for fact in gold if fact.path in schema.slots), result)
        rows.append(replace(row, alone=alone))
    return rows


def _row(job: Job, utterance: str, gold: tuple[Fact, ...], result: Inference) -> TurnRow:
    return TurnRow(
        unit=job.unit,
        kind=job.kind,
        utterance=utterance,
        gold=gold,
        predicted=tuple(map(fact_of, result.delta.operations)),
        outcome=result.outcome,
        refused={str(reason): number for reason, number in sorted(result.refused.items())},
        output=result.completions[-1].text,
        certainty=_round(result.certainty, 4),
        ms=1_000 * sum(completion.elapsed_s for completion in result.completions),
        prompt_tokens=_sum(c.usage.prompt_tokens for c in result.completions),
        completion_tokens=_sum(c.usage.completion_tokens for c in result.completions),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def fact_of(op: SlotOp) -> Fact:
    """Return an accepted operation as the fact it states."""
    return Fact(op.path, op.value, op.evidence.quote if op.evidence else "", op.op, op.polarity)


async def run_requests(corpus: Corpus, split: Split, *, llm: LLM, schema: ProfileSchema, notation: Notation) -> list[NeedsRow]:
    """Name the needs of the split's requests, each on its dialogue's gold profile."""
    rows = []
    for dialogue in corpus.dialogues_of(split):
        profile = final_profile(dialogue, schema)
        for request in dialogue.requests:
            result = await assess(request.request, profile, llm=llm, schema=schema, notation=notation)
            gold = tuple(path for path in request.needs if path in schema.slots)
            ms = 1_000 * sum(completion.elapsed_s for completion in result.completions)
            rows.append(NeedsRow(dialogue.dialogue_id, gold, result.needs, request.missing, result.ask_for, ms))
    return rows


async def history_cost(
    corpus: Corpus,
    schema: ProfileSchema,
    *,
    llm: LLM,
    notation: Notation,
    after: Sequence[int] = (10, 100, 1_000),
    sample: int = 20,
) -> dict[str, float | None]:
    """Return the median prompt tokens of a turn after so many turns of history, all of them said by one user.

    The history is the train split's turns one after another; what they reveal is the profile that the prompt is built on. None where the
    corpus has fewer.
    """
    said = [turn for d in corpus.dialogues_of("train") for turn, _ in walk(d, schema)]
    asked = [turn.utterance for d in corpus.dialogues_of("test") for turn, _ in walk(d, schema)][:sample]
    costs: dict[str, float | None] = {}
    for turns in after:
        if len(said) < turns:
            costs[str(turns)] = None
            continue
        profile = Profile()
        for index, turn in enumerate(said[:turns]):
            profile = profile.apply(gold_delta(turn, profile, schema, START + timedelta(minutes=index)))
        tokens = []
        for utterance in asked:
            prompt = build_prompt(utterance, profile, schema, notation)
            completion = await llm.complete(prompt.messages, max_tokens=1)
            tokens += [completion.usage.prompt_tokens] if completion.usage.prompt_tokens is not None else []
        costs[str(turns)] = percentile(tokens, 0.5)
    return costs


def summarise(rows: Sequence[TurnRow], needs: Sequence[NeedsRow]) -> dict[str, Any]:
    """Return every figure of the report; a figure that cannot be computed is None, never 0."""
    dialogue = [row for row in rows if row.kind == "dialogue"]
    return {
        "personas": len({row.unit for row in dialogue}),
        "turns": len(rows),
        "facts": {level.value: _ratio(dialogue, partial(_at, count, level)) for level in Level},
        "slots_whatever_value": {level.value: _ratio(dialogue, partial(_at, slot_count, level)) for level in Level},
        "polarity_accuracy": _polarity(dialogue),
        "false_fact_rate": {
            "empty dialogue turns": _false_rate([row for row in dialogue if not row.gold]),
            **{
                kind: _false_rate([row for row in rows if row.kind == kind])
                for kind in ("third_party", "hypothetical", "pasted", "empty")
            },
            "third_party and hypothetical": _false_rate([row for row in rows if row.kind in ("third_party", "hypothetical")]),
        },
        "change": {op.value: _change(rows, op) for op in (OpKind.UPDATE, OpKind.RETRACT)},
        "single_turns": _ratio([r for r in rows if r.kind == "reveal"], lambda row: count(row.predicted, row.gold, Level.GROUP)),
        "needs": _needs(needs),
        "outcomes": dict(sorted(Counter(row.outcome.value for row in rows).items())),
        "refused": dict(sorted(sum((Counter(row.refused) for row in rows), Counter()).items())),
        "cost": {
            "ms": _spread([row.ms for row in dialogue if row.alone]),
            "prompt_tokens": _spread([row.prompt_tokens for row in dialogue if row.prompt_tokens is not None]),
            "completion_tokens": _spread([row.completion_tokens for row in dialogue if row.completion_tokens is not None]),
        },
    }


def _at(counter: Callable[[Sequence[Fact], Sequence[Fact], Level], Counts], level: Level, row: TurnRow) -> Counts:
    return counter(row.predicted, row.gold, level)


def _ratio(rows: Sequence[TurnRow], counts: Callable[[TurnRow], Counts]) -> dict[str, Any]:
    by_unit: dict[str, Counts] = {}
    for row in rows:
        by_unit[row.unit] = by_unit.get(row.unit, Counts()) + counts(row)
    total = sum(by_unit.values(), Counts())
    interval = bootstrap(list(by_unit.values()), lambda units: sum(units, Counts()).f1)
    return {
        "precision": _round(total.precision),
        "recall": _round(total.recall),
        "f1": _round(total.f1) if rows else None,
        "f1_95": interval and [_round(bound) for bound in interval],
        "predicted": total.predicted,
        "gold": total.gold,
    }


def _false_rate(rows: Sequence[TurnRow]) -> dict[str, Any]:
    """Share of turns without gold facts in which at least one was inferred; the interval resamples personas."""
    by_unit: dict[str, list[bool]] = {}
    for row in rows:
        if not row.gold:
            by_unit.setdefault(row.unit, []).append(bool(row.predicted))
    hits = [hit for unit in by_unit.values() for hit in unit]
    interval = bootstrap(list(by_unit.values()), lambda units: fmean(chain.from_iterable(units)))
    return {
        "rate": _round(fmean(hits)) if hits else None,
        "rate_95": interval and [_round(bound) for bound in interval],
        "turns": len(hits),
    }


def _change(rows: Sequence[TurnRow], op: OpKind) -> dict[str, Any]:
    """Share of gold updates or retractions for which the same operation on the same group was inferred."""
    found = total = 0
    for row in rows:
        for fact in row.gold:
            if fact.op is op:
                total += 1
                found += any(p.op is op and Level.GROUP.of(p.path) == Level.GROUP.of(fact.path) for p in row.predicted)
    return {"accuracy": _round(found / total) if total else None, "gold": total}


def _polarity(rows: Sequence[TurnRow]) -> float | None:
    pairs = [pair for row in rows for pair in matches(row.predicted, row.gold, Level.GROUP)]
    return _round(sum(p.polarity is g.polarity for p, g in pairs) / len(pairs)) if pairs else None


def _needs(rows: Sequence[NeedsRow]) -> dict[str, Any] | None:
    if not rows:
        return None
    total = sum((Counts(len({*r.gold} & {*r.predicted}), len(r.predicted), len(r.gold)) for r in rows), Counts())
    insufficient = [row for row in rows if row.missing]
    sufficient = [row for row in rows if not row.missing]
    recall = sum(row.asked_for is not None for row in insufficient) / len(insufficient) if insufficient else None
    over = sum(row.asked_for is not None for row in sufficient) / len(sufficient) if sufficient else None
    return {
        "f1": _round(total.f1),
        "asks_when_insufficient": _round(recall),
        "asks_when_sufficient": _round(over),
        "asked_the_right_slot": _round(sum(r.asked_for in r.missing for r in insufficient) / len(insufficient))
        if insufficient
        else None,
        "requests": len(rows),
        "ms": _spread([row.ms for row in rows]),
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": _round(percentile(values, 0.5), 1), "p95": _round(percentile(values, 0.95), 1)}


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
