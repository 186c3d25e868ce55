"""The Markov decision process of profile inference (paper section 3.3), without any training engine.

State ``s_t = (u_t, p_{t-1})``: the new utterance and the profile so far. Action ``a_t``: what the policy writes. Transition: serving's own
``build_prompt → parse → gate → apply``, so a rollout folds its own profile, wrong facts included. Both are deterministic.

Serving's two thresholds on the policy's probabilities (``NEW_AT_LEAST``, ``KEEP_AT_LEAST``) are **not** applied here: a rollout is held
to every fact that it wrote and that the gate lets through (docs/decisions/0005-grpo.md says why).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from personalagent.datasets.base import LabelledTurn, Split
from personalagent.datasets.corpus import Corpus
from personalagent.errors import DataError
from personalagent.inference import MAX_TOKENS, Gate, InferPrompt, Notation, Refusal, build_prompt
from personalagent.llm.base import LLM, FinishReason
from personalagent.parsing import Fact, ParsedFacts, parse_compact, parse_general
from personalagent.profile import Profile, ProfileDelta
from personalagent.schema import ProfileSchema
from personalagent.train.samples import START, gold_delta, profile_of

EpisodeKind = Literal["turns", "dialogues", "both"]


@dataclass(frozen=True, slots=True)
class Episode:
    """One user's turns in order with their gold, and the profile from which they start."""

    episode_id: str
    turns: tuple[LabelledTurn, ...]
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class State:
    """Where a rollout of an episode stands."""

    episode: Episode
    turn_index: int
    profile: Profile
    """What the rollout itself has inferred so far."""
    gold: Profile
    """What should be known by now; no policy sees it."""
    notation: Notation = "compact"
    """What the policy writes: ours, or the three tagged blocks of an instruct model that was not fine-tuned."""

    @property
    def turn(self) -> LabelledTurn:
        """The turn that is to be inferred."""
        return self.episode.turns[self.turn_index]

    @property
    def at(self) -> datetime:
        """The time of the turn."""
        return START + timedelta(minutes=self.turn_index)

    @property
    def is_final(self) -> bool:
        """Whether every turn was played."""
        return self.turn_index == len(self.episode.turns)


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of a rollout: what was written, what became of it, and what gold has instead."""

    text: str
    parsed: ParsedFacts
    delta: ProfileDelta
    """What the gate let through."""
    refusals: tuple[Refusal, ...]
    before: Profile
    after: Profile
    utterance: str
    gold: tuple[Fact, ...]
    """What the turn newly reveals, in slots of the schema."""
    corrected: Profile
    """``before`` with the turn's gold instead of what was written, let in by the same gate."""
    gold_after: Profile
    """What should be known after this turn."""
    notation: Notation = "compact"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The record of one rollout."""

    episode_id: str
    steps: tuple[Step, ...]


def start(episode: Episode, notation: Notation = "compact") -> State:
    """Return the state before an episode's first turn."""
    return State(episode, 0, episode.profile, episode.profile, notation)


def observe(state: State, schema: ProfileSchema) -> InferPrompt:
    """Return what the policy reads in a state: serving's own prompt."""
    return build_prompt(state.turn.utterance, state.profile, schema, state.notation)


def step(state: State, text: str, schema: ProfileSchema, *, truncated: bool = False) -> tuple[Step, State]:
    """Return what an action does, and the state after it.

    Args:
        truncated: whether the text hit the token limit; its last line is then dropped, as in serving.
    """
    turn, before = state.turn, state.profile
    if state.notation == "compact":
        parsed = parse_compact(text, observe(state, schema).clauses, truncated=truncated)
    else:
        parsed = parse_general(text, truncated=truncated)
    gate = Gate(turn.utterance, before, schema, state.episode.episode_id, state.turn_index, state.at)
    delta, refusals, _ = gate.run(parsed.facts)
    gold = tuple(fact for fact in turn.facts if fact.path in schema.slots)
    gold_after = state.gold.apply(gold_delta(turn, state.gold, schema, state.at))
    taken = Step(
        text=text,
        parsed=parsed,
        delta=delta,
        refusals=refusals,
        before=before,
        after=before.apply(delta),
        utterance=turn.utterance,
        gold=gold,
        corrected=before.apply(gate.run(gold)[0]),
        gold_after=gold_after,
        notation=state.notation,
    )
    return taken, State(state.episode, state.turn_index + 1, taken.after, gold_after, state.notation)


async def roll_out(episode: Episode, llm: LLM, schema: ProfileSchema) -> Trajectory:
    """Play an episode greedily with a policy behind an endpoint; training samples its own rollouts.

    Raises:
        LLMError: the policy could not be reached or did not answer in time.
    """
    state, steps = start(episode), []
    while not state.is_final:
        completion = await llm.complete(observe(state, schema).messages, max_tokens=MAX_TOKENS["compact"])
        taken, state = step(state, completion.text, schema, truncated=completion.finish_reason == FinishReason.LENGTH)
        steps.append(taken)
    return Trajectory(episode.episode_id, tuple(steps))


def dialogue_episodes(corpus: Corpus, split: Split) -> list[Episode]:
    """Return each dialogue of a split as an episode from an empty profile; its sessions follow one another."""
    return [
        Episode(dialogue.dialogue_id, tuple(turn for session in dialogue.sessions for turn in session))
        for dialogue in corpus.dialogues_of(split)
    ]


def turn_episodes(corpus: Corpus, schema: ProfileSchema, split: Split) -> list[Episode]:
    """Return each single turn of a split as an episode of one turn, from the profile that it comes with."""
    return [Episode(each.turn_id, (each.turn,), profile_of(each.profile, schema)) for each in corpus.turns_of(split)]


def train_episodes(corpus: Corpus, schema: ProfileSchema, kind: EpisodeKind) -> list[Episode]:
    """Return the train split's episodes of one kind, or of both."""
    singles = turn_episodes(corpus, schema, "train") if kind != "dialogues" else []
    return [*singles, *(dialogue_episodes(corpus, "train") if kind != "turns" else [])]


_EPISODE = TypeAdapter(Episode)


def dump_episode(episode: Episode) -> str:
    """Write an episode with its gold as JSON, for workers that have no corpus."""
    return _EPISODE.dump_json(episode).decode()


def parse_episode(text: str) -> Episode:
    """Read an episode that ``dump_episode`` wrote.

    Raises:
        DataError: it is not one.
    """
    try:
        return _EPISODE.validate_json(text)
    except ValidationError as error:
        raise DataError(
            f"expected an episode as `train episodes` writes it, got something else: {error}; write it again"
        ) from None


def short_enough(
    episodes: Sequence[Episode], schema: ProfileSchema, limit: int, tokens: Callable[[str], int]
) -> tuple[list[Episode], int]:
    """Return the episodes whose every prompt, on the gold profile, has at most ``limit`` tokens, and how many have not."""
    kept = [each for each in episodes if max(map(tokens, _gold_prompts(each, schema))) <= limit]
    return kept, len(episodes) - len(kept)


def _gold_prompts(episode: Episode, schema: ProfileSchema) -> list[str]:
    prompts, profile = [], episode.profile
    for index, turn in enumerate(episode.turns):
        prompts.append(build_prompt(turn.utterance, profile, schema).messages[0].content)
        profile = profile.apply(gold_delta(turn, profile, schema, START + timedelta(minutes=index)))
    return prompts
