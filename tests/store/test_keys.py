"""API keys, tenants, idempotency keys, versions and undo."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Barrier, Thread

import pytest
from sqlalchemy import insert

from personalagent.errors import Conflict, UsageError
from personalagent.profile import Cardinality, OpKind, Polarity, ProfileDelta, SlotOp, Source
from personalagent.store import DEFAULT_TENANT, Claim, KeyState, Store
from personalagent.store.keys import ANSWERS_LIVE, CLAIM_LIVES
from personalagent.store.migrate import migrate
from personalagent.store.tables import api_keys
from tests.strategies import NOON

CITY, FOODS = "geography_environment.location.city", "consumption_lifestyle.diet.foods"


class Clock:
    """A clock that tests set."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    with Store.open(url, clock=clock) as opened:
        yield opened


def set_value(store: Store, value: str, path: str = CITY, **options: int) -> None:
    cardinality = Cardinality.ONE if path == CITY else Cardinality.MANY
    store.ensure_user("alice")
    op = SlotOp(OpKind.ADD, path, value, NOON, Polarity.NEUTRAL, Source.EDITED, cardinality)
    store.edit("alice", ProfileDelta((op,)), **options)


def values(store: Store) -> list[str]:
    return [value.value for value in store.load_profile("alice")]


def test_a_key_is_found_by_its_secret_alone(store: Store, clock: Clock) -> None:
    secret, key = store.create_key("acme", ["chat"], user_id="alice", name="phone")
    found = store.find_key(secret)
    assert found is not None and (found.key_id, found.tenant, found.scopes, found.user_id) == (
        key.key_id,
        "acme",
        ("chat",),
        "alice",
    )
    for wrong in ("", "pa_live_", secret[:-1], secret + "x", secret.upper(), key.key_id, "\ud800"):
        assert store.find_key(wrong) is None
    store.note_use(found)
    (listed,) = store.list_keys()
    assert listed.last_used_at == NOON and secret not in repr(listed)


def test_a_key_ends_when_it_is_revoked_or_its_time_is_over(store: Store, clock: Clock) -> None:
    timed, _ = store.create_key(DEFAULT_TENANT, ["chat"], expires_at=NOON + timedelta(days=1))
    other, key = store.create_key(DEFAULT_TENANT, ["chat"])
    assert store.find_key(timed) and store.find_key(other)
    clock.now = NOON + timedelta(days=1)
    assert store.find_key(timed) is None and store.find_key(other)
    store.revoke_key(key.prefix)
    assert store.find_key(other) is None and store.has_keys()
    with pytest.raises(UsageError, match="got 'pa_live_', which 2 keys have"):
        store.revoke_key("pa_live_")


def test_a_key_may_have_limits_of_its_own(store: Store) -> None:
    secret, _ = store.create_key(DEFAULT_TENANT, ["chat"], rate_limit="60/minute", quota="none")
    found = store.find_key(secret)
    assert found is not None and (found.rate_limit, found.quota) == ("60/minute", "none")
    for wrong in ("", "often", "0/day"):
        with pytest.raises(UsageError, match="expected a rate limit that can be kept"):
            store.create_key(DEFAULT_TENANT, ["chat"], rate_limit=wrong)
    assert len(store.list_keys()) == 1


def test_a_key_of_an_older_version_has_no_limits_of_its_own(url: str) -> None:
    secret = "pa_live_" + "x" * 43
    row = {
        "key_id": "old", "prefix": secret[:16], "secret_sha256": sha256(secret.encode()).hexdigest(), "tenant": DEFAULT_TENANT,
        "name": "", "scopes": "chat", "created_at": NOON,
    }  # fmt: skip
    with Store.open(url) as store, store._database.writing() as connection:
        migrate(connection, "base")
        migrate(connection, "v0003")
        connection.execute(insert(api_keys).values(row))
    with Store.open(url) as store:
        found = store.find_key(secret)
        assert found is not None and (found.key_id, found.rate_limit, found.quota) == ("old", None, None)


def test_the_last_use_is_due_once_a_minute(store: Store, clock: Clock) -> None:
    secret, _ = store.create_key(DEFAULT_TENANT, ["chat"])
    seen = []
    for seconds in (0, 59, 60, 61):
        clock.now = NOON + timedelta(seconds=seconds)
        found = store.find_key(secret)
        assert found is not None
        if store.is_use_due(found):
            store.note_use(found)
        seen.append(store.list_keys()[0].last_used_at)
    assert seen == [NOON, NOON, NOON + timedelta(seconds=60), NOON + timedelta(seconds=60)]


def test_tenants_have_users_of_their_own(store: Store) -> None:
    acme = store.for_tenant("acme")
    set_value(store, "Porto")
    set_value(acme, "Faro")
    acme.ensure_user("bob")
    assert (values(store), values(acme)) == (["Porto"], ["Faro"])
    assert (store.users(), acme.users()) == (("alice",), ("alice", "bob"))
    assert acme.delete_user("alice") and values(store) == ["Porto"] and not acme.has_user("alice")
    assert acme.for_tenant(DEFAULT_TENANT).users() == ("alice",)


def test_a_user_id_cannot_name_another_tenants_user(store: Store) -> None:
    set_value(store.for_tenant("acme"), "Faro")
    for attempt in ("acme\x1falice", "acme/alice", "\x1falice"):
        try:
            assert len(store.load_profile(attempt)) == 0
        except UsageError as error:
            assert "printable characters" in str(error)
    with pytest.raises(UsageError):
        store.ensure_user("acme\x1falice")


def test_an_idempotency_key_is_claimed_once(store: Store, clock: Clock) -> None:
    assert store.claim_key("alice", "k", "hash") == Claim(KeyState.NEW)
    assert store.claim_key("alice", "k", "hash").state is KeyState.IN_FLIGHT
    assert store.claim_key("alice", "k", "other").state is KeyState.OTHER_REQUEST
    assert store.claim_key("bob", "k", "other").state is KeyState.NEW
    store.keep_answer("alice", "k", '{"a": 1}')
    assert store.claim_key("alice", "k", "hash") == Claim(KeyState.ANSWERED, '{"a": 1}')
    store.release_key("alice", "k")
    assert store.claim_key("alice", "k", "hash").state is KeyState.ANSWERED, "an answer is not given back"
    clock.now = NOON + ANSWERS_LIVE + timedelta(seconds=1)
    assert store.claim_key("alice", "k", "other") == Claim(KeyState.NEW)


def test_a_claim_whose_process_is_gone_can_be_made_again(store: Store, clock: Clock) -> None:
    store.claim_key("alice", "k", "hash")
    clock.now = NOON + CLAIM_LIVES + timedelta(seconds=1)
    assert store.claim_key("alice", "k", "hash").state is KeyState.NEW
    store.release_key("alice", "k")
    assert store.claim_key("alice", "k", "other").state is KeyState.NEW


def test_of_requests_at_once_one_gets_the_work(store: Store) -> None:
    ready, states = Barrier(8), list[KeyState]()

    def claim() -> None:
        ready.wait()
        states.append(store.claim_key("alice", "k", "hash").state)

    threads = [Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(states) == [KeyState.IN_FLIGHT] * 7 + [KeyState.NEW]


def test_a_change_for_another_version_is_refused(store: Store) -> None:
    assert store.profile_version("alice") == 0
    set_value(store, "Porto", expected_version=0)
    version = store.profile_version("alice")
    assert version > 0
    set_value(store, "Faro", expected_version=version)
    with pytest.raises(Conflict, match="it changed meanwhile"):
        set_value(store, "Lagos", expected_version=version)
    with pytest.raises(Conflict):
        store.forget("alice", CITY, expected_version=version)
    assert values(store) == ["Faro"]
    store.forget("alice", CITY, expected_version=store.profile_version("alice"))
    assert values(store) == []


def test_undo_takes_back_the_last_change_and_then_itself(store: Store) -> None:
    set_value(store, "Porto")
    set_value(store, "Faro")
    set_value(store, "pears", FOODS)
    store.undo("alice")
    assert values(store) == ["Faro"]
    store.undo("alice")
    assert sorted(values(store)) == ["Faro", "pears"]
    assert store.verify().problems == ()


def test_undo_of_a_replaced_value_brings_the_old_one_back(store: Store) -> None:
    set_value(store, "Porto")
    set_value(store, "Faro")
    store.undo("alice")
    assert values(store) == ["Porto"]


def test_what_was_erased_is_not_brought_back(store: Store) -> None:
    set_value(store, "Porto")
    store.forget("alice", CITY)
    with pytest.raises(UsageError, match="nothing to undo"):
        store.undo("alice")


def test_that_something_was_withheld_is_kept_and_not_what(store: Store) -> None:
    store.start_session("alice", "s")
    index = store.append_turn("alice", "s", "I'm a Quaker")
    store.commit_delta("alice", "s", index, ProfileDelta(), withheld=True)
    assert [turn.has_withheld for turn in store.turns("alice")] == [True]
