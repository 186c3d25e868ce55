"""What may be trained on: the consent of a user, the review of a session; on SQLite and Postgres."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from personalagent.errors import UsageError
from personalagent.store import Store, migrate
from tests.strategies import NOON


def test_nobody_has_consented_until_they_do_and_after_they_withdraw(store: Store) -> None:
    store.ensure_user("u1")
    store.ensure_user("u2")
    assert store.training_consent("u1") is None
    store.set_training_consent("u1", is_granted=True)
    assert (store.training_consent("u1"), store.training_consent("u2")) == (NOON, None)
    store.set_training_consent("u1", is_granted=False)
    assert store.training_consent("u1") is None
    assert store.consents("u1") == {}, "sensitive categories are another consent"


def test_a_consent_goes_with_its_user(store: Store) -> None:
    store.ensure_user("u1")
    store.set_training_consent("u1", is_granted=True)
    store.delete_user("u1")
    store.ensure_user("u1")
    assert store.training_consent("u1") is None


def test_a_review_holds_for_one_session_and_says_until_when(url: str) -> None:
    times = iter(NOON + timedelta(minutes=n) for n in range(99))
    with Store.open(url, clock=lambda: next(times)) as store:
        store.start_session("u1", "a")
        store.start_session("u1", "b")
        assert store.reviewed_sessions("u1") == {}
        store.mark_reviewed("u1", "a")
        (first,) = store.reviewed_sessions("u1").values()
        store.mark_reviewed("u1", "a")
        assert store.reviewed_sessions("u1").keys() == {"a"}
        assert store.reviewed_sessions("u1")["a"] > first


def test_consent_and_review_need_somebody_and_something(store: Store) -> None:
    with pytest.raises(UsageError, match="expected a user who exists, got 'u9'"):
        store.set_training_consent("u9", is_granted=True)
    store.ensure_user("u1")
    with pytest.raises(UsageError, match="expected a session of 'u1', got 'x'"):
        store.mark_reviewed("u1", "x")


def test_a_database_of_the_version_before_keeps_its_users_who_have_not_consented(url: str) -> None:
    if url.startswith("sqlite"):
        with Store.open(url):
            pass
    engine = create_engine(url)
    with engine.begin() as connection:
        if url.startswith("sqlite"):
            migrate.migrate(connection, "base")
        migrate.migrate(connection, "v0001")
        connection.execute(text("INSERT INTO users (user_id, created_at, last_said) VALUES ('u1', '2026-01-01 00:00:00', 0)"))
        connection.execute(
            text("INSERT INTO sessions (user_id, session_id, created_at) VALUES ('u1', 's', '2026-01-01 00:00:00')")
        )
    engine.dispose()
    with Store.open(url) as store:
        assert (store.users(), store.session_ids("u1")) == (("u1",), ("s",))
        assert (store.training_consent("u1"), store.reviewed_sessions("u1")) == (None, {})
