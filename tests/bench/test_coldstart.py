"""The measures of asking, checked by hand, and the cases they are taken on."""

from __future__ import annotations

import math

import pytest

from personalagent.bench.coldstart import AskRow, Case, best_threshold, cases_of, curve, run_case, summarise_asks, trivial
from personalagent.datasets.corpus import Corpus
from personalagent.llm.base import Completion, TokenLogprob
from personalagent.llm.scripted import ScriptedLLM
from personalagent.profile import Profile
from personalagent.schema import ProfileSchema

GENRES = "interests_preferences.music.genres"
FOODS = "consumption_lifestyle.diet.foods"
CITY = "geography_environment.location.city"


def row(unit: str, missing: tuple[str, ...], candidates: tuple[str, ...], probability: float | None = None) -> AskRow:
    """Return a row of a policy that asks for the first thing it misses."""
    return AskRow(unit, "?", missing, candidates, probability, candidates[0] if candidates else None)


ROWS = [
    row("a", (GENRES,), (GENRES,), 0.9),
    row("a", (), ()),
    row("b", (GENRES,), (FOODS, CITY, GENRES), 0.6),
    row("b", (), (FOODS,), 0.3),
    row("c", (FOODS,), ()),
    row("c", (), ()),
]


def test_the_measures_are_what_they_are_called() -> None:
    figures = summarise_asks(ROWS)
    assert (figures["ask_recall"], figures["over_ask"]) == (0.667, 0.333)
    assert figures["balanced_accuracy"] == 0.667
    assert (figures["slot_hit_at_1"], figures["slot_hit_at_3"]) == (0.333, 0.667)
    assert figures["ask_f1"] == 0.667
    low, high = figures["balanced_accuracy_95"]
    assert low < 0.667 < high
    assert (figures["insufficient"], figures["sufficient"]) == (3, 3)


def test_what_cannot_be_measured_is_no_zero() -> None:
    figures = summarise_asks([row("a", (GENRES,), ())])
    assert (figures["ask_recall"], figures["over_ask"], figures["balanced_accuracy"]) == (0.0, None, None)


def test_an_output_that_cannot_be_read_is_counted_and_not_scored() -> None:
    failed = AskRow("d", "?", (), (), None, None, is_unreadable=True)
    figures, without = summarise_asks([*ROWS, failed]), summarise_asks(ROWS)
    assert (figures.pop("unreadable"), without.pop("unreadable")) == (1, 0)
    assert figures == without
    assert curve([*ROWS, failed]) == curve(ROWS)


def test_a_higher_threshold_asks_less() -> None:
    points = {point["ask_at_least"]: point for point in curve(ROWS, steps=10)}
    assert points[0.0]["over_ask"] == pytest.approx(1 / 3)
    assert (points[0.5]["ask_recall"], points[0.5]["over_ask"]) == (pytest.approx(2 / 3), 0.0)
    assert points[0.7]["ask_recall"] == pytest.approx(1 / 3)


async def test_a_case_is_assessed_by_the_code_that_serves(schema: ProfileSchema) -> None:
    llm = ScriptedLLM([Completion("music.genres", token_logprobs=(TokenLogprob("music.genres", math.log(0.75)),))])
    done = await run_case(Case("a", "Play something", Profile(), (GENRES,)), llm=llm, schema=schema, notation="compact")
    assert (done.candidates[: done.named], done.probability, done.asked_for) == ((GENRES,), pytest.approx(0.75), GENRES)
    assert len(done.candidates) > 1, "what requests like it needed comes after"


def test_the_best_threshold_is_found_by_balanced_accuracy() -> None:
    assert best_threshold(ROWS) == pytest.approx(0.35), "the first that spares the wrong question and keeps the right ones"


def test_the_trivial_policies_ask_always_never_and_half_the_time(corpus: Corpus, schema: ProfileSchema) -> None:
    cases = cases_of(corpus, schema, "test")
    rows = {name: summarise_asks(each) for name, each in trivial(cases, corpus, schema, seed=0).items()}
    assert (rows["always ask"]["ask_recall"], rows["always ask"]["over_ask"]) == (1.0, 1.0)
    assert (rows["never ask"]["ask_recall"], rows["never ask"]["over_ask"]) == (0.0, 0.0)
    assert rows["always ask"]["balanced_accuracy"] == rows["never ask"]["balanced_accuracy"] == 0.5
    assert 0.4 < rows["toss a coin"]["balanced_accuracy"] < 0.6
    assert rows["nearest requests"]["balanced_accuracy"] > 0.5
    assert rows["nearest requests"]["slot_hit_at_3"] > rows["always ask"]["slot_hit_at_3"]


def test_twins_are_never_split_and_held_out_requests_are_not_trained_on(corpus: Corpus) -> None:
    pairs = {split: {each.pair for each in corpus.requests_of(split)} for split in ("train", "dev", "test")}
    assert all(pairs.values())
    assert not pairs["train"] & (pairs["dev"] | pairs["test"])
    assert not pairs["dev"] & pairs["test"]
    for each in corpus.requests:
        assert {*each.missing} <= {*each.needs}
        assert not {*each.missing} & {slot.path for slot in each.profile}
