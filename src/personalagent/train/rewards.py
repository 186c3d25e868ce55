"""The reward of a turn against that turn's gold, and of a rollout (paper section 3.5), without any training engine.

A staircase for conforming format stands under every reward of what was said:

``R_j = format_share * format_j + (1 - format_share) * task_j``, and ``R = Σ ω_j R_j`` over the turns of a dialogue.

``task`` is one of four: ``rubric`` (the default: the paper's four binary criteria, decided by rules, no model), ``judge`` (the same criteria,
decided by a language model), ``f1`` and ``bleu`` (the paper's ablation). Output that cannot be read has a task of 0. A judge that cannot be
read is no reward at all: the whole rollout is unscored (None), never 0.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sacrebleu.metrics.bleu import BLEU

from personalagent.bench.infer import fact_of
from personalagent.bench.metrics import Level, count, matches
from personalagent.bench.verdict_files import VerdictRow, verdict_line
from personalagent.errors import JudgeError, UsageError
from personalagent.inference import RefusalReason, is_quote_of, known_line, words_of
from personalagent.judge import Verdict, VerdictCache, judge, load_rubric
from personalagent.llm.base import LLM
from personalagent.parsing import NOTHING, SOMETHING, Fact, ParseOutcome
from personalagent.profile import OpKind, Polarity, Profile, value_tokens
from personalagent.schema import ProfileSchema
from personalagent.train.episode import Step, Trajectory

RewardName = Literal["rubric", "f1", "bleu", "judge"]

LEVEL = Level.GROUP
"""How closely slots must agree: as in the headline measure of ``bench infer``."""
FORMAT_SHARE = 0.2
"""What a rollout gets for conforming format alone. The paper gives no number."""
KEPT_WORDS = 0.5
"""Share of a gold value's words below which what was inferred became general."""
RULES = "rules"
"""The name of the judge that needs no model."""
_FORM_FAULTS = frozenset({RefusalReason.UNKNOWN_SLOT, RefusalReason.BAD_VALUE, RefusalReason.TOO_MANY})
_NUMBER = re.compile(r"\d+")
_BLEU = BLEU(effective_order=True)


@dataclass(frozen=True, slots=True)
class TurnReward:
    """The reward of one turn and what it is made of, each 0 to 1."""

    value: float
    format: float
    task: float
    criteria: Mapping[str, float] = field(default_factory=dict)
    """The criteria behind the task, where it has any."""


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one rollout."""

    total: float | None
    """None where a judge could not be read on some turn."""
    turns: tuple[TurnReward | None, ...]


def format_reward(step: Step) -> float:
    """Return the stair that an output stands on, 0 to 1.

    0: nothing could be read. 1/3: some lines. 2/3: every line. 1: it also begins with ``new`` or is ``none`` (in the compact notation), names
    only slots of the schema, with values of their types, and no more facts than are kept.
    """
    if not is_readable(step):
        return 0.0
    if step.parsed.outcome not in (ParseOutcome.OK, ParseOutcome.EMPTY):
        return 1 / 3
    begins = step.notation == "general" or step.text.strip().splitlines()[0].strip() in (SOMETHING, NOTHING)
    has_fault = any(refusal.reason in _FORM_FAULTS for refusal in step.refusals)
    return 1.0 if begins and not has_fault else 2 / 3


def is_readable(step: Step) -> bool:
    """Tell whether an output says something: at least one fact, or that there is none."""
    return bool(step.parsed.facts) or step.parsed.outcome is ParseOutcome.EMPTY


def rubric_criteria(step: Step) -> dict[str, float]:
    """Return the paper's four binary criteria as rules on the turn's gold; each holds (1) or does not (0).

    completeness: every gold fact of the turn is held after it: a value that shares half of its words, in the slot's group.
    no_hallucination: every accepted operation is one of gold's, each gold fact once, proved by words that prove gold's.
    informativeness: of what is held for gold, numbers, polarity and at least half of the words are kept.
    consistency: exactly those values of the profile are closed that gold, written in its place, would have closed.
    """
    told = [fact for fact in step.gold if fact.op is not OpKind.RETRACT]
    held = [Fact(value.path, value.value, "", polarity=value.polarity) for value in step.after]
    pairs = matches(held, told, LEVEL)
    written = list(map(fact_of, step.delta.operations))
    proved = [pair for pair in _same_effect(written, step.gold) if _is_grounded(*pair)]
    return {
        "completeness": float(len(pairs) == len(told)),
        "no_hallucination": float(len(proved) == len(written)),
        "informativeness": float(all(_is_as_specific(*pair) for pair in pairs)),
        "consistency": float(_closed(step.before, step.after) == _closed(step.before, step.corrected)),
    }


def _same_effect(written: Sequence[Fact], gold: Sequence[Fact]) -> list[tuple[Fact, Fact]]:
    """Match what says something with what says it, and what takes back with what takes back; add or update is the gate's to settle."""

    def part(facts: Iterable[Fact], is_retraction: bool) -> list[Fact]:
        return [fact for fact in facts if (fact.op is OpKind.RETRACT) is is_retraction]

    return [pair for kind in (False, True) for pair in matches(part(written, kind), part(gold, kind), LEVEL)]


def _is_grounded(written: Fact, gold: Fact) -> bool:
    shares_words = bool(words_of(written.quote) & words_of(gold.quote))
    return shares_words or is_quote_of(gold.quote, written.quote) or is_quote_of(written.quote, gold.quote)


def _is_as_specific(held: Fact, gold: Fact) -> bool:
    wanted = value_tokens(gold.value)
    keeps_words = len(wanted & value_tokens(held.value)) >= KEPT_WORDS * len(wanted)
    keeps_numbers = set(_NUMBER.findall(gold.value)) <= set(_NUMBER.findall(held.value))
    return keeps_words and keeps_numbers and held.polarity is gold.polarity


def _closed(before: Profile, after: Profile) -> set[tuple[str, str]]:
    """Return slot and value of what was open before and is not after."""
    return _open(before) - _open(after)


def _open(profile: Profile) -> set[tuple[str, str]]:
    return {(value.path, value.value) for value in profile}


def f1_task(step: Step) -> float:
    """Return the F1 of the turn's accepted facts and its gold (paper section 4: P∩G over P and over G); 1 where both are empty."""
    return count(list(map(fact_of, step.delta.operations)), step.gold, LEVEL).f1


def bleu_task(step: Step) -> float:
    """Return the sentence BLEU of the turn's accepted facts against its gold, a line each, sorted; 0 to 1, and 1 where both are empty."""
    written, gold = (_lines(facts) for facts in (map(fact_of, step.delta.operations), step.gold))
    if not written or not gold:
        return float(written == gold)
    return float(_BLEU.sentence_score(written, [gold]).score) / 100


def _lines(facts: Iterable[Fact]) -> str:
    """Write facts without their proof; add and update look the same, since the gate settles which it is."""

    def line(fact: Fact) -> str:
        marks = [str(fact.op)] if fact.op is OpKind.RETRACT else [] if fact.polarity is Polarity.NEUTRAL else [str(fact.polarity)]
        return f"{' '.join([fact.path, *marks])}: {fact.value}"

    return "\n".join(sorted(map(line, facts)))


@dataclass(slots=True)
class RewardJudge:
    """Decides the four criteria with a language model and the rubric ``reward``, on what is held after a turn and what should be."""

    llm: LLM
    schema: ProfileSchema
    cache_path: Path | None = None
    """Where verdicts are kept: rollouts of one group often write the same. Opened where the judge is first asked."""
    parallel: int = 4
    """Requests at once."""
    _cache: VerdictCache | None = None
    _turn: asyncio.Semaphore | None = None

    async def criteria(self, step: Step) -> dict[str, float]:
        """Return the four criteria.

        Raises:
            JudgeError: no attempt could be read.
            LLMError: the judge could not be reached.
        """
        if self._turn is None:
            self._turn = asyncio.Semaphore(self.parallel)
            self._cache = VerdictCache(self.cache_path) if self.cache_path else None
        async with self._turn:
            verdict = await judge(load_rubric("reward"), judged_fields(step, self.schema), llm=self.llm, cache=self._cache)
        return dict(verdict.scores)


def judged_fields(step: Step, schema: ProfileSchema) -> dict[str, str]:
    """Return what the rubric ``reward`` looks at: the utterance, and the profile that gold and the rollout have after it."""

    def text(profile: Profile) -> str:
        return "\n".join(known_line(value, schema.slots[value.path]) for value in profile) or "(nothing)"

    return {"utterance": step.utterance, "gold": text(step.gold_after), "inferred": text(step.after)}


def rule_verdicts(trajectory: Trajectory, schema: ProfileSchema, system: str) -> list[dict[str, Any]]:
    """Return what the rules decide on a rollout, as lines of a file of verdicts (``bench judge``); a turn that cannot be read has none.

    Args:
        system: the policy's name.
    """
    rubric = load_rubric("reward")
    lines = []
    for index, each in enumerate(trajectory.steps):
        row = VerdictRow(
            f"{trajectory.episode_id}/{index}", system, rubric.name, trajectory.episode_id, judged_fields(each, schema)
        )
        if not is_readable(each):
            lines.append(verdict_line(row, None, f"expected facts or none, got {each.text[:80]!r}"))
            continue
        criteria = rubric_criteria(each)
        verdict = Verdict(
            rubric=rubric.name,
            rubric_sha256=rubric.sha256,
            prompts_sha256="",
            judge=RULES,
            scores=criteria,
            score=float(all(criteria.values())),
            variants={},
            texts={},
            attempts=1,
        )
        lines.append(verdict_line(row, verdict))
    return lines


@dataclass(frozen=True, slots=True)
class Rewarder:
    """Gives rollouts their rewards."""

    name: RewardName = "rubric"
    format_share: float = FORMAT_SHARE
    turn_weights: tuple[float, ...] = ()
    """ω by turn index; the last one goes on for further turns. Empty: equal weights, as in the paper."""
    judge: RewardJudge | None = None

    async def turn(self, step: Step) -> TurnReward:
        """Return the reward of a turn; raises as ``RewardJudge.criteria``."""
        form = format_reward(step)
        task, criteria = await self._task(step) if is_readable(step) else (0.0, {})
        return TurnReward(self.format_share * form + (1 - self.format_share) * task, form, task, criteria)

    async def _task(self, step: Step) -> tuple[float, dict[str, float]]:
        if self.name in ("f1", "bleu"):
            task: Callable[[Step], float] = f1_task if self.name == "f1" else bleu_task
            return task(step), {}
        if self.name == "rubric":
            criteria = rubric_criteria(step)
        elif self.judge is not None:
            criteria = await self.judge.criteria(step)
        else:
            raise UsageError("expected a judge for the reward 'judge', got none; name one, or take rubric, f1 or bleu")
        return float(all(criteria.values())), criteria

    async def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Return the rewards of rollouts, in order, all turns at once; raises LLMError where a judge could not be reached."""
        turns = [step for trajectory in trajectories for step in trajectory.steps]
        rewards = iter(await asyncio.gather(*map(self._turn_or_none, turns)))
        grouped = [tuple(next(rewards) for _ in trajectory.steps) for trajectory in trajectories]
        return [Score(self.total(each), each) for each in grouped]

    async def _turn_or_none(self, step: Step) -> TurnReward | None:
        try:
            return await self.turn(step)
        except JudgeError:
            return None

    def total(self, turns: Sequence[TurnReward | None]) -> float | None:
        """Return ``Σ ω_j R_j`` with the weights normalised over the turns; None where any turn is unscored."""
        values = [turn.value for turn in turns if turn is not None]
        if len(values) != len(turns):
            return None
        weights = [self.turn_weights[min(j, len(self.turn_weights) - 1)] for j in range(len(values))] if self.turn_weights else []
        weights = weights or [1.0] * len(values)
        return math.fsum(w * value for w, value in zip(weights, values, strict=True)) / math.fsum(weights)


def parse_weights(text: str) -> tuple[float, ...]:
    """Read turn weights: ``equal``, or positive numbers separated by commas, the first turn's first.

    Raises:
        UsageError: it is neither.
    """
    if text == "equal":
        return ()
    try:
        weights = tuple(float(each) for each in text.split(","))
    except ValueError:
        weights = ()
    if not weights or not all(0 < weight < math.inf for weight in weights):
        raise UsageError(f"expected turn weights 'equal' or positive numbers separated by commas, got {text!r}; write e.g. 1,1,2")
    return weights
