"""The measures, by numbers computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalagent.bench.metrics import Counts, Level, bootstrap, count, matches, percentile, slot_count
from personalagent.parsing import Fact

CITY, COUNTRY = "geography_environment.location.city", "geography_environment.location.country"
GENRES, COLOUR = "interests_preferences.music.genres", "interests_preferences.general.favourite_colour"


def fact(path: str, value: str) -> Fact:
    """Return a fact whose quote does not matter."""
    return Fact(path, value, "said so")


def test_a_level_is_a_prefix_of_the_path() -> None:
    assert [level.of(CITY) for level in (Level.SLOT, Level.GROUP, Level.CATEGORY)] == [
        "geography_environment.location.city",
        "geography_environment.location",
        "geography_environment",
    ]


def test_a_fact_in_the_wrong_slot_of_the_right_group_matches_from_the_group_up() -> None:
    predicted, gold = [fact(COUNTRY, "Porto")], [fact(CITY, "Porto")]
    assert [count(predicted, gold, level) for level in (Level.SLOT, Level.GROUP, Level.CATEGORY)] == [
        Counts(0, 1, 1),
        Counts(1, 1, 1),
        Counts(1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("predicted", "gold", "matched"),
    [
        ("Porto", "porto", 1),
        ("a flat in Porto", "Porto", 1),  # {flat, porto} and {porto}: 2*1/3 = 0.67
        ("a small old flat in Porto", "Porto", 0),  # {small, old, flat, porto}: 2*1/5 = 0.4
        ("modal jazz", "free jazz", 1),  # 2*1/4 = 0.5
        ("jazz", "fado", 0),
    ],
)
def test_values_match_from_half_of_their_words_on(predicted: str, gold: str, matched: int) -> None:
    assert count([fact(CITY, predicted)], [fact(CITY, gold)], Level.SLOT).matched == matched


def test_each_gold_fact_is_matched_once() -> None:
    assert count([fact(CITY, "Porto")] * 3, [fact(CITY, "Porto")], Level.SLOT) == Counts(1, 3, 1)


def test_the_most_alike_are_paired_first() -> None:
    predicted = [fact(GENRES, "modal jazz"), fact(GENRES, "free jazz")]
    gold = [fact(GENRES, "free jazz"), fact(GENRES, "modal jazz")]
    assert [(p.value, g.value) for p, g in matches(predicted, gold, Level.SLOT)] == [
        ("modal jazz", "modal jazz"),
        ("free jazz", "free jazz"),
    ]


def test_slots_are_counted_whatever_the_value() -> None:
    predicted = [fact(CITY, "Lyon"), fact(CITY, "Paris"), fact(GENRES, "jazz")]
    gold = [fact(CITY, "Porto"), fact(COLOUR, "red")]
    assert slot_count(predicted, gold, Level.SLOT) == Counts(1, 3, 2)
    assert slot_count(predicted, gold, Level.CATEGORY) == Counts(2, 3, 2)


def test_precision_recall_and_f1_of_three_matches_in_four_and_five() -> None:
    counts = Counts(1, 2, 2) + Counts(2, 2, 3)
    assert (counts.precision, counts.recall, counts.f1) == (0.75, 0.6, 6 / 9)


def test_a_ratio_without_a_base_is_none_and_nothing_expected_and_found_is_perfect() -> None:
    assert (Counts().precision, Counts().recall, Counts().f1) == (None, None, 1.0)
    assert (Counts(0, 2, 0).f1, Counts(0, 0, 2).f1) == (0.0, 0.0)


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([15, 20, 35, 40, 50], share) for share in (0.05, 0.3, 0.4, 0.5, 1.0)] == [15, 20, 20, 35, 50]
    assert [percentile(list(range(1, 21)), share) for share in (0.5, 0.95)] == [10, 19]
    assert percentile([], 0.5) is None


def test_an_interval_holds_the_value_and_is_the_same_every_time() -> None:
    units = [1.0, 2.0, 3.0, 4.0, 5.0] * 4
    mean = lambda drawn: (lambda values: sum(values) / len(values))(list(drawn))  # noqa: E731
    low, high = bootstrap(units, mean) or (0, 0)
    assert 2.0 < low < 3.0 < high < 4.0
    assert bootstrap(units, mean) == (low, high)
    assert bootstrap([7.0], mean) == (7.0, 7.0)


def test_an_interval_that_cannot_be_computed_is_none() -> None:
    assert bootstrap([], lambda units: 1.0) is None
    assert bootstrap([1], lambda units: None) is None


facts = st.lists(
    st.builds(fact, st.sampled_from([CITY, COUNTRY, GENRES]), st.sampled_from(["Porto", "modal jazz", "free jazz"])), max_size=5
)


@given(facts, facts)
def test_matches_never_exceed_either_side_and_grow_with_the_level(predicted: list[Fact], gold: list[Fact]) -> None:
    counts = [count(predicted, gold, level) for level in (Level.SLOT, Level.GROUP, Level.CATEGORY)]
    assert all(c.matched <= min(c.predicted, c.gold) for c in counts)
    assert count(gold, gold, Level.SLOT).f1 == 1.0
    assert counts[0].matched <= counts[1].matched <= counts[2].matched
