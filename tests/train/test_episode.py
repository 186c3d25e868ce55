"""The profile MDP without an engine: what a policy reads, what becomes of what it writes, and that it is what serving does."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

pytest.importorskip("sacrebleu", reason="needs the train extra")

from personalagent.datasets.base import LabelledTurn
from personalagent.datasets.corpus import Corpus
from personalagent.errors import DataError
from personalagent.inference import Notation, RefusalReason, infer
from personalagent.llm.base import Completion, TokenLogprob
from personalagent.llm.scripted import ScriptedLLM
from personalagent.parsing import Fact, ParseOutcome
from personalagent.profile import OpKind, Polarity, Profile
from personalagent.schema import ProfileSchema
from personalagent.train.episode import (
    Episode,
    dialogue_episodes,
    dump_episode,
    observe,
    parse_episode,
    short_enough,
    start,
    step,
    train_episodes,
    turn_episodes,
)
from personalagent.train.rewards import rubric_criteria
from personalagent.train.samples import START, infer_example
from personalagent.train.samples import profile_of as given_profile
from tests.conftest import ProfileOf

CITY = "geography_environment.location.city"
MOVE = Episode(
    "move",
    (
        LabelledTurn("I live in Porto. What's a good bakery?", (Fact(CITY, "Porto", "I live in Porto"),)),
        LabelledTurn("We moved to Braga.", (Fact(CITY, "Braga", "We moved to Braga", OpKind.UPDATE),)),
    ),
)


COMPACT = ("new\n1 location.city: Porto\n2 diet.foods like: bread\n9 job.title: baker", "new\n1 location.city update: Braga")
GENERAL = (
    "<classification>\nlocation.city | add | neutral | Porto | I live in Porto\njob.title | add | neutral | baker | bakery\n</classification>",
    "<classification>\nlocation.city | update | neutral | Braga | We moved to Braga\n</classification>",
)


@pytest.mark.parametrize(("notation", "texts"), [("compact", COMPACT), ("general", GENERAL)])
async def test_two_turns_go_as_serving_would_take_them(schema: ProfileSchema, notation: Notation, texts: tuple[str, ...]) -> None:
    """The same prompts, operations and profile as ``infer`` with a policy that writes the same and gives no probabilities."""
    state, profile = start(parse_episode(dump_episode(MOVE)), notation), Profile()
    for index, text in enumerate(texts):
        policy = ScriptedLLM([text])
        served = await infer(
            state.turn.utterance,
            profile,
            llm=policy,
            schema=schema,
            at=START + timedelta(minutes=index),
            session_id="move",
            turn_index=index,
            notation=notation,
        )
        assert observe(state, schema).messages == policy.calls[0].messages
        taken, state = step(state, text, schema)
        assert (taken.delta, taken.refusals, taken.parsed.outcome) == (served.delta, served.refusals, served.outcome)
        profile = profile.apply(served.delta)
        assert taken.after == state.profile == profile
    assert state.is_final
    assert [value.value for value in profile.values(CITY)] == ["Braga"]


async def test_what_serving_would_doubt_counts_in_an_episode(schema: ProfileSchema) -> None:
    tokens = [("new", 0.5), ("\n", 1.0), ("1", 1.0), (" location.city", 0.1), (":", 1.0), (" Porto", 0.1)]
    completion = Completion(
        "".join(token for token, _ in tokens), token_logprobs=tuple(TokenLogprob(token, math.log(p)) for token, p in tokens)
    )
    served = await infer(
        MOVE.turns[0].utterance,
        Profile(),
        llm=ScriptedLLM([completion]),
        schema=schema,
        at=START,
        session_id="move",
        turn_index=0,
    )
    taken, _ = step(start(MOVE), completion.text, schema)
    assert (served.outcome, len(served.delta.operations)) == (ParseOutcome.DOUBTFUL, 0)
    assert [op.value for op in taken.delta.operations] == ["Porto"]


def test_a_rollout_folds_its_own_profile_and_gold_its_own(schema: ProfileSchema) -> None:
    first, state = step(start(MOVE), "new\n1 location.city: Lisbon", schema)
    assert "location.city: Lisbon" in observe(state, schema).messages[0].content
    second, _ = step(state, "none", schema)
    assert [value.value for value in first.gold_after] == ["Porto"]
    assert [value.value for value in second.after] == ["Lisbon"]
    assert [value.value for value in second.corrected] == ["Braga"]
    assert [value.value for value in second.gold_after] == ["Braga"]


def test_the_last_line_of_a_truncated_output_is_dropped(schema: ProfileSchema) -> None:
    taken, _ = step(start(MOVE), "new\n1 location.city: Porto\n2 diet.foods like: br", schema, truncated=True)
    assert [op.value for op in taken.delta.operations] == ["Porto"]
    assert taken.parsed.outcome is ParseOutcome.TRUNCATED


def test_what_the_gate_refuses_stays_out(schema: ProfileSchema) -> None:
    taken, state = step(start(MOVE), "new\n1 no.such_slot: Porto", schema)
    assert [refusal.reason for refusal in taken.refusals] == [RefusalReason.UNKNOWN_SLOT]
    assert len(state.profile) == 0


def test_a_single_turn_starts_from_its_own_profile(corpus: Corpus, schema: ProfileSchema) -> None:
    singles = {each.turn_id: each for each in corpus.turns_of("dev")}
    for episode in turn_episodes(corpus, schema, "dev"):
        assert len(episode.turns) == 1
        assert start(episode).profile == given_profile(singles[episode.episode_id].profile, schema)


def test_a_dialogue_starts_from_nothing_and_goes_on_over_its_sessions(corpus: Corpus) -> None:
    pairs = zip(corpus.dialogues_of("dev"), dialogue_episodes(corpus, "dev"), strict=True)
    dialogue, episode = next((dialogue, episode) for dialogue, episode in pairs if len(dialogue.sessions) > 1)
    assert [turn.utterance for turn in episode.turns] == [turn.utterance for session in dialogue.sessions for turn in session]
    assert len(start(episode).profile) == 0


def test_an_episode_is_read_back_as_it_was_written(corpus: Corpus, schema: ProfileSchema) -> None:
    for episode in (dialogue_episodes(corpus, "train")[0], turn_episodes(corpus, schema, "dev")[0]):
        assert parse_episode(dump_episode(episode)) == episode
    with pytest.raises(DataError, match="expected an episode as `train episodes` writes it"):
        parse_episode('{"episode_id": "e"}')


def test_only_the_train_split_is_trained_on(corpus: Corpus, schema: ProfileSchema) -> None:
    ids = {episode.episode_id for episode in train_episodes(corpus, schema, "both")}
    assert len(ids) == len(corpus.dialogues_of("train")) + len(corpus.turns_of("train"))
    assert not ids & set(corpus.held_out)


def test_an_episode_with_a_long_prompt_is_left_out_and_counted(schema: ProfileSchema) -> None:
    long = Episode("long", (*MOVE.turns, LabelledTurn("well " * 50, ())))
    assert short_enough([MOVE, long], schema, 30, lambda prompt: len(prompt.split())) == ([MOVE], 1)


def test_gold_itself_fulfils_every_criterion(corpus: Corpus, schema: ProfileSchema) -> None:
    """On the dev dialogues, turn by turn, written as training writes it; the few turns whose gold the gate refuses are not looked at.

    A few labels quote words that share none with the value, while another clause has them all: that clause is taken as the proof then.
    """
    steps = []
    for episode in dialogue_episodes(corpus, "dev"):
        state = start(episode)
        while not state.is_final:
            taken, state = step(state, infer_example(state.turn, state.profile, schema, "dialogue").completion, schema)
            steps.append(taken)
    whole = [taken for taken in steps if not taken.refusals]
    assert len(whole) > 0.95 * len(steps) > 100
    assert sum(all(rubric_criteria(taken).values()) for taken in whole) >= 0.98 * len(whole)


def test_polarity_and_value_of_a_given_profile_reach_the_prompt(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    episode = Episode("given", MOVE.turns[:1], profile_of(("diet.foods", "rye bread", Polarity.DISLIKE)))
    assert "diet.foods dislike: rye bread" in observe(start(episode), schema).messages[0].content
