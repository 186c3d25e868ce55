"""Alignment over turns, macro averages and paired intervals, by numbers computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalagent.bench.alignment import (
    Fit,
    Scored,
    area,
    fit,
    levels,
    macro_average,
    macro_score,
    mean_level,
    normalised,
    paired_difference,
    score_interval,
    summarise_alignment,
    turns_to,
)


def row(name: str, score: float | None, *, unit: str = "", topic: str = "t", k: int | None = None) -> Scored:
    """Return a row whose unit is its own unless one is given."""
    return Scored(name, unit or name, topic, score, k)


def test_the_worked_example_of_the_module() -> None:
    curve = (40.0, 30.0, 50.0)
    assert fit(curve) == Fit(5.0, 0.25)
    assert normalised(curve) == (0.0, 0.0, 1.0)
    assert fit(normalised(curve)) == Fit(0.5, 0.75)
    assert (mean_level(curve), area(curve), turns_to(curve)) == (40.0, 37.5, 1)


def test_an_early_dip_and_its_recovery() -> None:
    # lowest so far 20 20 10 10 10, highest so far 20 30 30 30 50
    assert normalised((20, 30, 10, 20, 50)) == (0.0, 1.0, 0.0, 0.5, 1.0)


@given(st.lists(st.floats(0, 100), min_size=10, max_size=10, unique=True))
def test_any_strictly_rising_curve_of_ten_turns_has_the_same_normalised_figures(scores: list[float]) -> None:
    line = fit(normalised(sorted(scores)))
    assert line.slope == pytest.approx(6 / 110)
    assert line.r2 == pytest.approx(3 / 11)


def test_table_2s_degenerate_figures_as_it_rounds_them() -> None:
    line = fit(normalised(range(10)))
    assert (round(line.slope or 0, 4), round(line.r2 or 0, 4)) == (0.0545, 0.2727)


@pytest.mark.parametrize("curve", [(50.0,) * 10, (0.1 + 0.2,) * 3])
def test_a_flat_curve_has_no_r2(curve: tuple[float, ...]) -> None:
    assert fit(curve) == Fit(0.0, None)
    assert fit(normalised(curve)) == Fit(0.0, None)


def test_a_falling_curve_has_no_normalised_r2() -> None:
    assert fit((30.0, 20.0, 10.0)) == Fit(-10.0, 1.0)
    assert fit(normalised((30.0, 20.0, 10.0))) == Fit(0.0, None)


def test_rounded_levels_do_not_explain_the_4_936_that_table_2_prints_for_4_926() -> None:
    """Levels are printed to two decimals: at worst each is off by 0.005, upwards after the middle turn, and the slope by 0.0015.

    The levels of the paper's rows stand in none of this project's sources, so the rows themselves cannot be recomputed here.
    """
    worst = [30 + 4.926 * k + (0.005 if k > 5 else -0.005) for k in range(1, 11)]
    slope = fit(worst).slope
    assert slope == pytest.approx(4.926 + 0.005 * 25 / 82.5)  # sum of |k - 5.5|, and of its squares
    assert slope < 4.9285 < 4.936 - 0.0005


def test_a_level_is_the_mean_of_what_was_scored_at_a_turn() -> None:
    rows = [
        row("a/1", 10, k=1),
        row("b/1", 30, k=1),
        row("a/2", None, k=2),
        row("b/2", 50, k=2),
        row("a/4", None, k=4),
        row("x", 99),
    ]
    assert levels(rows) == (20.0, 50.0, None, None)
    assert levels([]) == ()


def test_a_missing_level_is_left_out_of_the_line_and_makes_the_area_unknown() -> None:
    curve = (10.0, None, 30.0, 40.0)
    assert fit(curve) == Fit(pytest.approx(10.0), pytest.approx(1.0))
    assert normalised(curve) == (0.0, None, 1.0, 1.0)
    assert (area(curve), turns_to(curve), mean_level(curve)) == (None, 4, pytest.approx(80 / 3))


def test_nothing_is_measured_of_nothing() -> None:
    empty = summarise_alignment([])
    assert (empty.levels, empty.mean, empty.mean_95, empty.first, empty.rate, empty.area, empty.turns_to_80) == (
        (), None, None, None, None, None, None
    )  # fmt: skip
    assert fit((5.0,)) == Fit(None, None)
    assert area((5.0,)) is None


def test_the_summary_has_every_figure_and_intervals_over_units() -> None:
    rows = [row(f"{unit}/{k}", base + 10 * k, unit=unit, k=k) for unit, base in (("a", 0), ("b", 20)) for k in (1, 2, 3)]
    found = summarise_alignment([*rows, row("c/1", None, k=1)])
    assert found.levels == (20.0, 30.0, 40.0)
    assert (found.mean, found.first, found.last, found.area, found.turns_to_80) == (30.0, 20.0, 40.0, 30.0, 3)
    assert (found.rate, found.r2, found.unscored) == (10.0, 1.0, 1)
    assert (found.normalised_rate, found.normalised_r2) == (0.5, 0.75)
    assert found.mean_95 == (20.0, 40.0)  # only a, or only b
    assert found.rate_95 == pytest.approx((10.0, 10.0))  # whatever is drawn


def test_a_macro_average_counts_each_group_once_and_leaves_out_the_unscored() -> None:
    rows = [
        row("1", 100, topic="pet_ownership"),
        row("2", 0, topic="shop_home"),
        row("3", 50, topic="shop_motors"),
        row("4", 100, topic="shop_fashion"),
        row("5", None, topic="travel_hotel"),
    ]
    found = macro_average(rows)
    assert found.by_group == {"Pet": 100.0, "Shopping": 50.0}
    assert found.value == 75.0
    assert macro_average([]).value is None


def test_table_1s_average_is_the_mean_of_its_seven_groups() -> None:
    topics = ("education_resources", "entertain_games", "lifestyle_fit", "pet_ownership", "professional_work_location_style",
              "shop_home", "travel_hotel")  # fmt: skip
    rows = [row(f"{topic}/{n}", 10.0 * place, topic=topic) for place, topic in enumerate(topics) for n in range(place + 1)]
    assert macro_score(rows) == pytest.approx(30.0)


def test_a_difference_is_paired_over_units_and_certain_where_every_unit_agrees() -> None:
    ours = [row(f"e{n}", n + 5.0, unit=f"u{n // 2}") for n in range(20)]
    theirs = [row(f"e{n}", float(n), unit=f"u{n // 2}") for n in range(20)]
    found = paired_difference(ours, theirs)
    assert (found.difference, *(found.interval_95 or ())) == pytest.approx((5.0, 5.0, 5.0))
    assert (found.examples, found.units, found.left_out) == (20, 10, 0)
    unpaired = score_interval(ours)
    assert unpaired is not None
    assert unpaired[1] - unpaired[0] > 3  # each system alone is far less certain


def test_an_example_that_one_system_has_no_score_for_is_left_out_of_both() -> None:
    ours = [row("a", 1), row("b", 0), row("c", 1)]
    theirs = [row("a", 0), row("b", None), row("d", 1)]
    found = paired_difference(ours, theirs)
    assert (found.difference, found.examples, found.left_out) == (1.0, 1, 3)
    nothing = paired_difference(ours, [])
    assert (nothing.difference, nothing.interval_95, nothing.examples) == (None, None, 0)


def test_a_difference_may_be_of_macro_averages() -> None:
    ours = [row("a", 1, topic="pet_ownership"), row("b", 0, topic="shop_home"), row("c", 0, topic="shop_home")]
    theirs = [row("a", 0, topic="pet_ownership"), row("b", 0, topic="shop_home"), row("c", 0, topic="shop_home")]
    assert paired_difference(ours, theirs, macro_score).difference == 0.5
