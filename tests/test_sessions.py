"""What one session changed, beside other sessions and edits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from personalagent.errors import UsageError
from personalagent.profile import SlotValue
from personalagent.sessions import session_diff, session_summary
from personalagent.store import Store
from tests.store.turns import CITY, LIKES, edited, play


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store.open(f"sqlite:///{tmp_path / 'agent.db'}") as opened:
        yield opened


def said(values: tuple[SlotValue, ...]) -> list[str]:
    return [value.value for value in values]


def test_other_sessions_and_edits_meanwhile_are_no_part_of_a_session(store: Store) -> None:
    play(store, "I live in Faro", (CITY, "Faro"), session_id="s1")
    play(store, "I like figs", (LIKES, "figs"), session_id="s2")
    store.edit("alice", edited(LIKES, "plums"))
    play(store, "I moved to Porto", (CITY, "Porto"), session_id="s1")
    first, second = session_diff(store, "alice", "s1"), session_diff(store, "alice", "s2")
    assert (said(tuple(first.old)), said(tuple(first.new)), said(first.removed)) == ([], ["Porto"], [])
    assert [(each.turn.utterance, [op.value for op in each.operations]) for each in first.turns] == [
        ("I live in Faro", ["Faro"]),
        ("I moved to Porto", ["Porto"]),
    ]
    assert (said(tuple(second.old)), said(second.added), said(tuple(second.new))) == (["Faro"], ["figs"], ["Faro", "figs"])


def test_a_value_that_is_said_again_is_changed_and_not_added(store: Store) -> None:
    play(store, "I like figs", (LIKES, "figs"), session_id="s1")
    play(store, "I still like figs", (LIKES, "figs"), session_id="s2")
    diff = session_diff(store, "alice", "s2")
    assert (diff.added, diff.removed) == ((), ())
    [(before, after)] = diff.changed
    assert (len(before.evidence), len(after.evidence)) == (1, 2)


def test_a_session_in_which_nothing_was_said_changed_nothing(store: Store) -> None:
    play(store, "I like figs", (LIKES, "figs"), session_id="s1")
    store.start_session("alice", "s2")
    diff, summary = session_diff(store, "alice", "s2"), session_summary(store, "alice", "s2")
    assert (diff.turns, diff.added, diff.removed, diff.changed) == ((), (), (), ())
    assert said(tuple(diff.old)) == said(tuple(diff.new)) == ["figs"]
    assert (summary.turns, summary.not_reviewed, summary.started_at) == (0, 0, None)


def test_only_a_session_of_the_user_has_a_diff(store: Store) -> None:
    play(store, "I like figs", (LIKES, "figs"))
    with pytest.raises(UsageError, match="expected a session of 'alice', got 's9'"):
        session_diff(store, "alice", "s9")
