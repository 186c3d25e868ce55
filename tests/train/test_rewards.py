"""Rewards of turns and rollouts, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sacrebleu", reason="needs the train extra")

from personalagent.bench.verdict_files import load_verdicts, write_lines
from personalagent.datasets.base import LabelledTurn
from personalagent.errors import LLMTimeout, UsageError
from personalagent.llm.scripted import ScriptedLLM
from personalagent.parsing import Fact
from personalagent.profile import OpKind, Polarity, Profile
from personalagent.schema import ProfileSchema
from personalagent.train.episode import Episode, Step, Trajectory, roll_out, start, step
from personalagent.train.rewards import (
    Rewarder,
    RewardJudge,
    TurnReward,
    bleu_task,
    f1_task,
    format_reward,
    parse_weights,
    rubric_criteria,
    rule_verdicts,
)
from tests.conftest import ProfileOf

CITY, FOODS = "geography_environment.location.city", "consumption_lifestyle.diet.foods"
SAID = "I moved to Porto in May. My sister hates olives. I really like 3 eggs for breakfast."
"""Clauses 1 to 3; the second is about somebody else."""
GOLD = (
    Fact(CITY, "Porto", "I moved to Porto"),
    Fact(FOODS, "3 eggs for breakfast", "I really like 3 eggs", polarity=Polarity.LIKE),
)
RIGHT = "new\n1 location.city: Porto\n3 diet.foods like: 3 eggs for breakfast"
HOLD = {"completeness": 1.0, "no_hallucination": 1.0, "informativeness": 1.0, "consistency": 1.0}


@pytest.fixture
def turn(schema: ProfileSchema) -> object:
    """Play one turn: what was written about ``SAID``, against gold, from a profile."""

    def play(
        text: str, gold: tuple[Fact, ...] = GOLD, profile: Profile | None = None, said: str = SAID, truncated: bool = False
    ) -> Step:
        return step(start(Episode("e", (LabelledTurn(said, gold),), profile or Profile())), text, schema, truncated=truncated)[0]

    return play


@pytest.mark.parametrize(
    ("text", "truncated", "stair"),
    [
        (RIGHT, False, 1),
        ("none", False, 1),
        ("1 location.city: Porto", False, 2 / 3),  # does not say "new" first
        ("new\n1 no.such_slot: Porto", False, 2 / 3),
        ("new\n1 location.city: n/a", False, 2 / 3),
        ("new\n1 location.city: Porto\nand so on", False, 1 / 3),
        ("new\n7 location.city: Porto\n1 location.city: Porto", False, 1 / 3),  # there is no seventh clause
        ("new\n1 location.city: Porto\n3 diet.fo", True, 1 / 3),
        ("new", False, 0),
        ("", False, 0),
        ("Sure! Here are the facts.", False, 0),
        ("new\n1 location.ci", True, 0),
    ],
)
def test_each_stair_of_the_format(turn, text: str, truncated: bool, stair: float) -> None:  # type: ignore[no-untyped-def]  # a fixture
    assert format_reward(turn(text, truncated=truncated)) == pytest.approx(stair)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (RIGHT, set()),
        ("new\n1 location.city: Porto", {"completeness"}),
        ("none", {"completeness"}),
        # a third party's dislike, an invention, the same fact under two slots: what gold does not have
        (f"{RIGHT}\n2 diet.foods dislike: olives", {"no_hallucination"}),
        (f"{RIGHT}\n1 job.occupation: baker", {"no_hallucination"}),
        (f"{RIGHT}\n3 diet.restrictions like: 3 eggs for breakfast", {"no_hallucination"}),
        # the right fact, proved by words that do not prove it
        ("new\n1 location.city: Porto\n2 diet.foods like: 3 eggs breakfast daily", {"no_hallucination"}),
        # how many, how much liked
        ("new\n1 location.city: Porto\n3 diet.foods like: eggs for breakfast", {"informativeness"}),
        ("new\n1 location.city: Porto\n3 diet.foods: 3 eggs for breakfast", {"informativeness"}),
        ("new\n1 location.city: Porto\n3 diet.foods dislike: 3 eggs for breakfast", {"informativeness"}),
        # another wording of half of the words and the number is as good
        ("new\n1 location.city: Porto\n3 diet.foods like: 3 eggs", set()),
        # the slot of the same group counts, as in bench infer
        ("new\n1 location.city: Porto\n3 diet.restrictions like: 3 eggs for breakfast", set()),
    ],
)
def test_each_criterion_of_the_rubric(turn, text: str, broken: set[str]) -> None:  # type: ignore[no-untyped-def]  # a fixture
    assert rubric_criteria(turn(text)) == {**HOLD, **dict.fromkeys(broken, 0.0)}


def test_a_turn_that_reveals_nothing_is_answered_by_none(turn) -> None:  # type: ignore[no-untyped-def]  # a fixture
    assert rubric_criteria(turn("none", gold=())) == HOLD
    assert rubric_criteria(turn("new\n2 diet.foods dislike: olives", gold=()))["no_hallucination"] == 0.0


def test_a_change_closes_what_gold_closes_and_nothing_else(turn, profile_of: ProfileOf) -> None:  # type: ignore[no-untyped-def]  # a fixture
    known = profile_of(("location.city", "Braga"), ("diet.foods", "olives", Polarity.LIKE))
    moved, no_more = GOLD[:1], (Fact(FOODS, "olives", "no more olives", OpKind.RETRACT),)
    assert rubric_criteria(turn("new\n1 location.city update: Porto", moved, known)) == HOLD, (
        "the old city is closed by the new one"
    )
    destroyed = rubric_criteria(turn("new\n1 location.city update: Porto\n2 diet.foods retract: olives", moved, known))
    assert (destroyed["consistency"], destroyed["no_hallucination"]) == (0.0, 0.0)
    said = "Please, no more olives."
    assert rubric_criteria(turn("new\n2 diet.foods retract: olives", no_more, known, said)) == HOLD
    assert rubric_criteria(turn("none", no_more, known, said)) == {**HOLD, "consistency": 0.0}, "what was taken back still stands"


def test_what_is_held_already_need_not_be_said_again(turn, profile_of: ProfileOf) -> None:  # type: ignore[no-untyped-def]  # a fixture
    """A rollout that knew early is not asked to repeat itself, and repeating, which the gate refuses, costs nothing."""
    early = profile_of(("location.city", "Porto"))
    assert rubric_criteria(turn("none", GOLD[:1], early)) == HOLD
    assert rubric_criteria(turn("new\n1 location.city: Porto", GOLD[:1], early)) == HOLD


def test_f1_counts_what_both_have(turn) -> None:  # type: ignore[no-untyped-def]  # a fixture
    assert f1_task(turn(RIGHT)) == 1.0
    assert f1_task(turn("new\n1 location.city: Porto")) == pytest.approx(2 / 3)  # one of one, one of two
    assert f1_task(turn("new\n1 location.city: Porto\n2 diet.foods dislike: olives")) == pytest.approx(1 / 2)
    assert (f1_task(turn("none")), f1_task(turn("none", gold=()))) == (0.0, 1.0)


def test_bleu_compares_facts_as_text(turn) -> None:  # type: ignore[no-untyped-def]  # a fixture
    """``geography _ environment . location . city : Braga``: 8 of 9 tokens are gold's, 7 of 8 pairs, 6 of 7 triples, 5 of 6 fours."""
    assert bleu_task(turn(RIGHT)) == pytest.approx(1.0)
    wrong_city = turn("new\n1 location.city: Braga", gold=GOLD[:1])
    assert bleu_task(wrong_city) == pytest.approx((8 / 9 * 7 / 8 * 6 / 7 * 5 / 6) ** 0.25)
    assert (bleu_task(turn("none")), bleu_task(turn("none", gold=()))) == (0.0, 1.0)


async def test_format_stands_under_every_reward(turn) -> None:  # type: ignore[no-untyped-def]  # a fixture
    incomplete = turn("new\n1 location.city: Porto")
    assert (await Rewarder("rubric").turn(turn(RIGHT))).value == pytest.approx(1.0)
    assert (await Rewarder("rubric").turn(incomplete)).value == pytest.approx(0.2)
    assert (await Rewarder("f1").turn(incomplete)).value == pytest.approx(0.2 + 0.8 * 2 / 3)
    assert (await Rewarder("f1", format_share=0.5).turn(incomplete)).value == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.parametrize("name", ["rubric", "f1", "bleu"])
async def test_what_cannot_be_read_is_worth_nothing_even_where_nothing_was_to_say(turn, name: str) -> None:  # type: ignore[no-untyped-def]  # a fixture
    assert (await Rewarder(name).turn(turn("Nothing here!", gold=()))).value == 0.0  # type: ignore[arg-type]  # a literal
    assert (await Rewarder(name).turn(turn("none", gold=()))).value == 1.0  # type: ignore[arg-type]  # a literal


def verdict(**labels: str) -> str:
    """What a judge answers: every criterion holds but those given."""
    return json.dumps({"reason": "as it is", **dict.fromkeys(HOLD, "yes"), **labels})


async def test_a_judge_sees_what_is_held_and_what_should_be(turn, schema: ProfileSchema, profile_of: ProfileOf) -> None:  # type: ignore[no-untyped-def]  # a fixture
    llm = ScriptedLLM([verdict(), verdict(completeness="no")])
    rewarder = Rewarder("judge", judge=RewardJudge(llm, schema))
    taken = turn("new\n1 location.city: Porto", profile=profile_of(("job.occupation", "nurse")))
    assert (await rewarder.turn(taken)).value == pytest.approx(1.0)
    shown = llm.calls[0].messages[-1].content
    assert shown.count("job.occupation: nurse") == shown.count("location.city: Porto") == 2
    assert shown.count("diet.foods like: 3 eggs for breakfast") == 1
    reward = await rewarder.turn(taken)
    assert (reward.value, reward.criteria["completeness"]) == (pytest.approx(0.2), 0.0)


async def test_a_judge_that_cannot_be_read_leaves_the_whole_rollout_unscored(turn, schema: ProfileSchema) -> None:  # type: ignore[no-untyped-def]  # a fixture
    """Three attempts, then None for the rollout, whatever its other turns are worth; the other rollout keeps its reward."""
    llm = ScriptedLLM(lambda messages: "no idea" if "olives are fine" in messages[-1].content else verdict())
    good, odd = turn(RIGHT), turn("none", gold=(), said="olives are fine")
    scores = await Rewarder("judge", judge=RewardJudge(llm, schema)).score(
        [Trajectory("a", (good, odd)), Trajectory("b", (good, good))]
    )
    assert [score.total for score in scores] == [None, pytest.approx(1.0)]
    assert scores[0].turns[1] is None
    assert len(llm.calls) == 3 + 3


async def test_a_judge_that_cannot_be_reached_is_an_error_and_no_score(turn, schema: ProfileSchema) -> None:  # type: ignore[no-untyped-def]  # a fixture
    judge = RewardJudge(ScriptedLLM([LLMTimeout("expected an answer, got none; try later")]), schema)
    with pytest.raises(LLMTimeout):
        await Rewarder("judge", judge=judge).score([Trajectory("a", (turn(RIGHT),))])


async def test_the_same_verdict_is_asked_for_once_where_a_cache_is_kept(turn, schema: ProfileSchema, tmp_path) -> None:  # type: ignore[no-untyped-def]  # a fixture
    llm = ScriptedLLM([verdict()])
    rewarder = Rewarder("judge", judge=RewardJudge(llm, schema, tmp_path / "verdicts.db"))
    scores = await rewarder.score([Trajectory(str(i), (turn(RIGHT),)) for i in range(6)])
    assert [score.total for score in scores] == [pytest.approx(1.0)] * 6
    assert len(llm.calls) == 1


async def test_the_reward_judge_needs_a_judge(turn) -> None:  # type: ignore[no-untyped-def]  # a fixture
    with pytest.raises(UsageError, match="expected a judge"):
        await Rewarder("judge").turn(turn(RIGHT))


def rewards(*values: float) -> list[TurnReward]:
    """Rewards of turns."""
    return [TurnReward(value, 1.0, value) for value in values]


def test_turns_weigh_the_same_or_as_they_are_told() -> None:
    assert Rewarder().total(rewards(1.0, 0.0, 0.5)) == pytest.approx(0.5)
    assert Rewarder(turn_weights=(1.0, 3.0)).total(rewards(1.0, 0.0)) == pytest.approx(0.25)
    assert Rewarder(turn_weights=(1.0, 3.0)).total(rewards(1.0, 0.0, 1.0)) == pytest.approx(4 / 7), "the last weight goes on"
    assert Rewarder(turn_weights=(1.0, 3.0)).total(rewards(0.5)) == pytest.approx(0.5)


def test_turn_weights_are_read_from_text() -> None:
    assert (parse_weights("equal"), parse_weights("1, 2.5")) == ((), (1.0, 2.5))
    for text in ("", "late", "1,-1", "0", "1,nan"):
        with pytest.raises(UsageError, match="expected turn weights"):
            parse_weights(text)


async def test_the_rules_verdicts_of_a_rollout_can_be_read_as_any_judges(schema: ProfileSchema, tmp_path: Path) -> None:
    said = (SAID, "Thanks a lot.", "Three lines, please.")
    turns = (LabelledTurn(said[0], GOLD), LabelledTurn(said[1], ()), LabelledTurn(said[2], ()))
    policy = ScriptedLLM([RIGHT, "new\n1 diet.foods: lots", "I see."])
    lines = rule_verdicts(await roll_out(Episode("e", turns), policy, schema), schema, policy.name)
    write_lines(tmp_path / "verdicts.jsonl", lines)
    rows = load_verdicts(tmp_path / "verdicts.jsonl")
    assert [(row.example_id, row.unit, row.fields["utterance"]) for row in rows] == [(f"e/{n}", "e", said[n]) for n in range(3)]
    assert [row.scores for row in rows] == [HOLD, HOLD | {"no_hallucination": 0.0}, {}]
    assert [line["verdict"] and line["verdict"]["score"] for line in lines] == [1.0, 0.0, None]
    assert lines[2]["error"] == "expected facts or none, got 'I see.'"
    assert "Porto" in rows[1].fields["gold"] and "lots" in rows[1].fields["inferred"] and "lots" not in rows[1].fields["gold"]
