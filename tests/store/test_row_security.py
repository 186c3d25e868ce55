"""Row-level security on Postgres: a statement that forgot its predicate still sees one tenant's users alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from personalagent.store import Store
from personalagent.store.migrations.versions.v0003 import OF_USERS

ROLE = "app_of_tests"
"""A role without the superuser's right to see everything, as an installation should use."""


@pytest.fixture
def app_url(empty_postgres: str) -> Iterator[str]:
    """The URL of a database with two tenants' users, as the application's role."""
    owner = create_engine(empty_postgres, isolation_level="AUTOCOMMIT")
    with Store.open(empty_postgres) as store:
        for tenant in ("default", "acme"):
            mine = store.for_tenant(tenant)
            mine.start_session("alice", "s")
            mine.append_turn("alice", "s", f"I work for {tenant}", enqueue=True)
    with owner.connect() as connection:
        connection.execute(text(f"CREATE ROLE {ROLE} LOGIN"))
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"))
    yield make_url(empty_postgres).set(username=ROLE).render_as_string(hide_password=False)
    with owner.connect() as connection:
        connection.execute(text(f"DROP OWNED BY {ROLE}"))
        connection.execute(text(f"DROP ROLE {ROLE}"))
    owner.dispose()


@pytest.fixture
def app(app_url: str) -> Iterator[Engine]:
    engine = create_engine(app_url)
    yield engine
    engine.dispose()


def seen(engine: Engine, tenant: str | None) -> list[str]:
    with engine.begin() as connection:
        if tenant is not None:
            connection.execute(text("SELECT set_config('personalagent.tenant', :tenant, true)"), {"tenant": tenant})
        return sorted(connection.execute(text("SELECT utterance FROM turns")).scalars())


def test_a_transaction_sees_its_own_tenant(app: Engine) -> None:
    assert seen(app, "acme") == ["I work for acme"]
    assert seen(app, "default") == ["I work for default"]
    assert seen(app, "*") == ["I work for acme", "I work for default"]


def test_a_transaction_that_says_nothing_sees_nothing(app: Engine) -> None:
    assert seen(app, None) == []
    assert seen(app, "acme") == ["I work for acme"]
    assert seen(app, None) == [], "what the transaction before it said is over"


def test_nothing_can_be_written_for_another_tenant(app: Engine) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"), app.begin() as connection:
        connection.execute(text("SELECT set_config('personalagent.tenant', 'acme', true)"))
        connection.execute(text("INSERT INTO users (user_id, created_at, last_said) VALUES ('mallory', now(), 0)"))


def test_every_table_about_users_is_guarded(app: Engine) -> None:
    guarded = "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"
    about_users = "SELECT table_name FROM information_schema.columns WHERE column_name = 'user_id' AND table_schema = 'public'"
    with app.connect() as connection:
        found = set(connection.execute(text(guarded)).scalars())
        assert found == set(OF_USERS) == set(connection.execute(text(about_users)).scalars()) - {"api_keys"}


def test_the_store_works_under_it(app_url: str) -> None:
    with Store.open(app_url) as store:
        acme = store.for_tenant("acme")
        assert (store.users(), acme.users()) == (("alice",), ("alice",))
        acme.start_session("bob", "s")
        assert [turn.utterance for turn in acme.turns("alice")] == ["I work for acme"]
        assert {job.tenant for job in store.lease_jobs("w", 5, 30)} == {"default", "acme"}
        assert store.verify().problems == ()
        assert acme.delete_user("alice") and store.users() == ("alice",)
