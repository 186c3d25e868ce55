"""Operations and profiles as JSON."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personalagent.errors import DataError
from personalagent.profile import SlotOp, fold
from personalagent.store import dump_operations, dump_profile, parse_operations, parse_profile
from tests.strategies import operations


@settings(max_examples=100, deadline=None)
@given(st.lists(operations(free_text=True), max_size=12))
def test_what_is_read_back_equals_what_was_written(log: list[SlotOp]) -> None:
    assert parse_operations(dump_operations(log)) == tuple(log)
    profile = fold(log)
    assert parse_profile(dump_profile(profile)) == profile
    assert dump_profile(parse_profile(dump_profile(profile))) == dump_profile(profile)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "error at the text"),
        ("{}", "error at the text: Input should be a valid"),
        ('[{"op": "add", "path": "a.b.c", "value": "x"}]', r"error at 0\.at"),
        ('[{"op": "learn", "path": "a.b.c", "value": "x", "at": "2026-01-01T00:00:00Z"}]', r"error at 0\.op"),
        ('[{"op": "add", "path": "a.b.c", "value": "x", "at": "2026-01-01T00:00:00"}]', r"time zone in 0\.at"),
    ],
)
def test_a_log_that_is_none_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_operations(text)


def test_an_error_does_not_repeat_what_the_user_said() -> None:
    with pytest.raises(DataError) as raised:
        parse_profile('{"slots": {"a.b.c": ["my secret"]}}')
    assert "my secret" not in str(raised.value)
