"""Users as an application adds them, with data of its own; on SQLite and Postgres."""

from __future__ import annotations

import pytest

from personalagent.errors import DataError, UsageError
from personalagent.profile import OpKind, ProfileDelta, SlotOp, Source
from personalagent.store import Account, Store
from personalagent.store.erasure import ERASED
from tests.strategies import NOON

CITY = "geography_environment.location.city"


def test_a_user_is_added_once(store: Store) -> None:
    assert store.account("u1") is None
    assert store.create_user("u1", {"name": "Gus"})
    assert not store.create_user("u1", {"name": "Eve"})
    assert store.account("u1") == Account(NOON, {"name": "Gus"})
    store.ensure_user("u2")
    assert store.account("u2") == Account(NOON, None)


def test_data_is_replaced_and_goes_with_its_user(store: Store) -> None:
    store.create_user("u1", {"name": "Gus"})
    store.set_user_data("u1", {"tags": ["ä", 1, None]})
    assert store.account("u1") == Account(NOON, {"tags": ["ä", 1, None]})
    store.delete_user("u1")
    store.create_user("u1")
    assert store.account("u1") == Account(NOON, None)


def test_another_tenant_has_other_users(store: Store) -> None:
    store.create_user("u1", {"name": "Gus"})
    other = store.for_tenant("acme")
    assert other.account("u1") is None
    assert other.create_user("u1", {"name": "Eve"})
    assert store.account("u1") == Account(NOON, {"name": "Gus"})


def test_forgotten_words_are_masked_in_data(store: Store) -> None:
    store.create_user("u1", {"lives in": "Porto, Portugal", "n": 4, "Porto": ["porto"]})
    store.edit("u1", ProfileDelta((SlotOp(OpKind.ADD, CITY, "Porto", NOON, source=Source.EDITED),)))
    store.forget("u1", CITY)
    assert store.account("u1") == Account(NOON, {"lives in": f"{ERASED}, Portugal", "n": 4, ERASED: [ERASED]})


def test_what_cannot_be_kept_is_refused_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(UsageError):
        store.create_user("")
    with pytest.raises(DataError):
        store.create_user("u1", {"name": "\ud800"})
    assert store.account("u1") is None
    with pytest.raises(UsageError, match="expected a user who exists"):
        store.set_user_data("u1", None)
