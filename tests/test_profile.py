"""The transition of the profile: add, update, retract, confirm, forget; and the fold of a log."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personalagent.profile import (
    Cardinality,
    Evidence,
    OpKind,
    Polarity,
    Profile,
    ProfileDelta,
    SlotOp,
    Source,
    fold,
    is_same_value,
    value_overlap,
)
from tests.strategies import NOON, deltas, operations

CITY, LIKES = "basics.place.city", "food.taste.likes"
LATER = NOON + timedelta(days=1)


def op(kind: OpKind, path: str, value: str, polarity: Polarity = Polarity.NEUTRAL, **fields: object) -> SlotOp:
    """An operation, with the cardinality that the slot has."""
    cardinality = Cardinality.ONE if path == CITY else Cardinality.MANY
    return replace(SlotOp(kind, path, value, NOON, polarity, Source.STATED, cardinality), **fields)  # type: ignore[arg-type]


def add(path: str, value: str, polarity: Polarity = Polarity.NEUTRAL, **fields: object) -> SlotOp:
    """ADD."""
    return op(OpKind.ADD, path, value, polarity, **fields)


def retract(path: str, value: str) -> SlotOp:
    """RETRACT, a day later."""
    return op(OpKind.RETRACT, path, value, at=LATER)


def held(profile: Profile, path: str) -> list[str]:
    """The open values of a slot."""
    return [value.value for value in profile.values(path)]


def test_what_was_never_said_is_unknown() -> None:
    assert Profile().values(CITY) == ()
    assert len(Profile()) == 0 and list(Profile()) == []


def test_a_later_value_replaces_the_value_of_a_slot_that_holds_one_and_history_keeps_it() -> None:
    profile = fold([add(CITY, "Paris"), add(CITY, "Rome", at=LATER)])
    assert held(profile, CITY) == ["Rome"]
    assert [(old.value, old.valid_to) for old in profile.history] == [("Paris", LATER)]


def test_a_slot_that_holds_many_accumulates() -> None:
    assert held(fold([add(LIKES, "sushi"), add(LIKES, "ramen")]), LIKES) == ["sushi", "ramen"]


def test_the_same_value_again_adds_evidence_and_not_a_value() -> None:
    first, second = Evidence("I love sushi", "s1", 0), Evidence("sushi again!", "s1", 4)
    profile = fold([add(LIKES, "sushi", evidence=first), add(LIKES, "Sushi", Polarity.LIKE, evidence=second, at=LATER)])
    (value,) = profile.values(LIKES)
    assert (value.value, value.polarity, value.evidence, value.confirmed_at) == ("sushi", Polarity.LIKE, (first, second), LATER)


def test_a_contradiction_closes_the_old_value() -> None:
    profile = fold([add(LIKES, "sushi", Polarity.LIKE), add(LIKES, "ramen"), add(LIKES, "sushi", Polarity.AVOID, at=LATER)])
    assert [(value.value, value.polarity) for value in profile.values(LIKES)] == [
        ("ramen", Polarity.NEUTRAL),
        ("sushi", Polarity.AVOID),
    ]
    assert [(old.value, old.polarity, old.valid_to) for old in profile.history] == [("sushi", Polarity.LIKE, LATER)]


def test_an_update_replaces_the_nearest_of_many_values() -> None:
    profile = fold([add(LIKES, "green tea"), add(LIKES, "sushi"), op(OpKind.UPDATE, LIKES, "black tea")])
    assert held(profile, LIKES) == ["sushi", "black tea"]
    assert [old.value for old in profile.history] == ["green tea"]


def test_an_update_with_no_near_value_adds() -> None:
    assert held(fold([add(LIKES, "tea"), add(LIKES, "sushi"), op(OpKind.UPDATE, LIKES, "jazz")]), LIKES) == [
        "tea",
        "sushi",
        "jazz",
    ]


def test_a_retract_closes_the_value_it_means() -> None:
    profile = fold([add(LIKES, "green tea"), add(LIKES, "sushi"), retract(LIKES, "tea")])
    assert held(profile, LIKES) == ["sushi"]
    assert [(old.value, old.valid_to) for old in profile.history] == [("green tea", LATER)]


def test_a_retract_without_a_value_closes_the_slot() -> None:
    profile = fold([add(LIKES, "tea"), add(LIKES, "sushi"), retract(LIKES, "")])
    assert LIKES not in profile.slots and len(profile.history) == 2


def test_giving_up_pizza_does_not_take_away_sushi() -> None:
    assert held(fold([add(LIKES, "sushi"), retract(LIKES, "pizza")]), LIKES) == ["sushi"]


def test_the_one_value_of_a_slot_is_retracted_however_it_is_worded() -> None:
    assert held(fold([add(CITY, "Rome"), retract(CITY, "the Eternal City")]), CITY) == []


def test_repeating_one_value_of_a_slot_that_now_holds_one_closes_the_others() -> None:
    profile = fold(
        [add(CITY, "Rome", cardinality=Cardinality.MANY), add(CITY, "Bern", cardinality=Cardinality.MANY), add(CITY, "rome")]
    )
    assert held(profile, CITY) == ["Rome"]
    assert [old.value for old in profile.history] == ["Bern"]


def test_a_confirm_notes_the_time_and_nothing_else() -> None:
    before = fold([add(CITY, "Rome")])
    after = before.apply(ProfileDelta((op(OpKind.CONFIRM, CITY, "rome", at=LATER),)))
    assert after.values(CITY) == (replace(before.values(CITY)[0], confirmed_at=LATER),)


def test_a_forget_leaves_no_trace_in_values_or_history() -> None:
    log = [add(CITY, "Rome"), add(CITY, "Paris"), add(CITY, "Rome"), op(OpKind.FORGET, CITY, "rome")]
    profile = fold(log)
    assert held(profile, CITY) == [] and [old.value for old in profile.history] == ["Paris"]
    assert fold([*log, op(OpKind.FORGET, CITY, "")]) == Profile()


def test_an_operation_on_an_unknown_slot_changes_nothing() -> None:
    for kind in (OpKind.RETRACT, OpKind.CONFIRM, OpKind.FORGET):
        assert fold([op(kind, CITY, "Rome")]) == Profile()


def test_iteration_is_by_path_then_age() -> None:
    profile = fold([add(LIKES, "tea"), add(LIKES, "art"), add(CITY, "Rome")])
    assert [value.value for value in profile] == ["Rome", "tea", "art"]


@pytest.mark.parametrize(
    ("left", "right", "overlap"),
    [
        ("a cup of Green Tea", "green tea cup", 1.0),
        ("green tea", "black tea", 0.5),
        ("tea", "sushi", 0.0),
        ("the", "The", 1.0),
        ("♥", " ♥ ", 1.0),
        ("♥", "♦", 0.0),
    ],
)
def test_values_are_compared_by_their_words(left: str, right: str, overlap: float) -> None:
    assert value_overlap(left, right) == overlap
    assert is_same_value(left, right) == (overlap == 1.0)


def test_polarities_contradict_across_for_and_against_only() -> None:
    assert Polarity.LIKE.contradicts(Polarity.AVOID) and Polarity.DISLIKE.contradicts(Polarity.REQUIRE)
    assert not Polarity.LIKE.contradicts(Polarity.REQUIRE) and not Polarity.NEUTRAL.contradicts(Polarity.DISLIKE)


logs = st.lists(st.builds(ProfileDelta, st.lists(operations(), max_size=4).map(tuple)), max_size=12)


@settings(max_examples=100, deadline=None)
@given(logs)
def test_the_fold_of_a_log_is_the_profile_after_every_turn_of_it(turns: list[ProfileDelta]) -> None:
    profile = Profile()
    for delta in turns:
        profile = profile.apply(delta)
    assert fold(op for delta in turns for op in delta.operations) == profile


@settings(max_examples=100, deadline=None)
@given(logs, deltas())
def test_apply_is_pure_and_gives_the_same_each_time(turns: list[ProfileDelta], delta: ProfileDelta) -> None:
    profile = fold(op for turn in turns for op in turn.operations)
    before = deepcopy(profile)
    assert profile.apply(delta) == profile.apply(delta)
    assert profile == before


@settings(max_examples=100, deadline=None)
@given(logs)
def test_what_holds_is_open_and_what_is_history_is_closed(turns: list[ProfileDelta]) -> None:
    profile = fold(op for turn in turns for op in turn.operations)
    assert all(value.valid_to is None for value in profile)
    assert all(value.valid_to is not None for value in profile.history)
    assert all(values for values in profile.slots.values())
    for values in profile.slots.values():
        assert not any(is_same_value(a.value, b.value) for i, a in enumerate(values) for b in values[:i])
