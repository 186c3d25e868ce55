"""Databases of every released revision come up to the newest one and go back, on both engines, and lose nothing (reliability M1)."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Timer

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, text

from personalagent.errors import StoreError
from personalagent.store import JobState, Store
from personalagent.store.engine import open_database
from personalagent.store.migrate import HEAD, MIGRATIONS, VERSION_TABLE, current_revision, migrate
from personalagent.store.migrations.versions.v0003 import OF_USERS
from personalagent.store.tables import metadata
from tests.reliability.test_kill import in_child
from tests.store.fixtures.make import CITY, INCOME, LIKES, SECRET, made
from tests.store.released import REVISIONS, Tables, dump, fill, fixture, known, read

OLDEST = REVISIONS[0]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def build(url: str, revision: str) -> None:
    """Make a database as the release of this revision left it."""
    database = open_database(url, revision=revision)
    with database.writing() as connection:
        fill(connection, fixture(revision))
    database.close()


def bring_to(url: str, revision: str) -> Tables:
    """Bring a database to a revision, up or down; return what is in it then."""
    database = open_database(url, revision=revision)
    with database.reading() as connection:
        assert current_revision(connection) == revision
        tables = read(connection)
    database.close()
    return tables


def check_opens(url: str, revision: str) -> None:
    """The newest code opens the database, finds nothing wrong, and everything the older release kept is in it."""
    with Store.open(url) as store:
        assert store.verify().problems == ()
        with store._database.reading() as connection:
            tables = read(connection)
    assert known(tables, fixture(revision)) == fixture(revision)


def test_every_revision_has_a_fixture_with_a_row_in_every_table() -> None:
    revisions = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    assert sorted(revisions) == REVISIONS and REVISIONS[-1] == HEAD, "run tests/store/fixtures/make.py for the new revision"
    assert [(revision, name) for revision in REVISIONS for name, rows in fixture(revision).items() if not rows] == []
    columns = {name: set(rows[0]) for name, rows in fixture(HEAD).items()}
    assert columns == {table.name: set(table.c.keys()) for table in metadata.sorted_tables}


def test_a_fixture_is_made_the_same_at_every_run(tmp_path: Path) -> None:
    tables = made(tmp_path / "1.db")
    assert dump(tables) == dump(made(tmp_path / "2.db"))
    assert {name: set(rows[0]) for name, rows in tables.items()} == {name: set(rows[0]) for name, rows in fixture(HEAD).items()}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_released_database_opens_with_everything_that_was_in_it(url: str, revision: str) -> None:
    build(url, revision)
    check_opens(url, revision)
    with Store.open(url) as store:
        assert {"alice", "bob"} <= set(store.users())
        alice = store.load_profile("alice")
        assert [value.value for value in alice.values(CITY)] == ["Porto"]
        assert {value.value for value in alice.values(LIKES)} == {"espresso", "寿司"} and not alice.values(INCOME)
        said = [turn.utterance for turn in store.turns("alice")]
        assert said[:4] == [
            "I live in Lyon and love Ethiopian food",
            'We moved to Porto ♥ "the\n2nd" city, 寿司 too',
            "",
            "And I have a dog",
        ]
        assert [turn.utterance for turn in store.pending_turns("alice")] == ["And I have a dog"]
        assert store.consents("alice") == {"finance": True, "health": False}
        assert (store.training_consent("alice") is not None) == (revision >= "v0002") == bool(store.reviewed_sessions("alice"))
        states = [(job.tenant, job.user_id, job.state) for job in store.jobs()]
        served = [("acme", "alice", JobState.DEAD), ("default", "alice", JobState.QUEUED)]
        assert states == (served if revision >= "v0003" else [])
        key = store.find_key(SECRET)
        assert (key.scopes if key else None) == (("chat", "profile:read") if revision >= "v0003" else None)
        assert (store.account("carol") is not None) == (revision >= "v0005")


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_released_database_has_the_newest_tables_after_it(url: str, revision: str) -> None:
    build(url, revision)
    with Store.open(url) as store, store._database.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        if connection.dialect.name == "postgresql":
            forced = "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"
            assert set(connection.execute(text(forced)).scalars()) == set(OF_USERS)
            assert set(connection.execute(text("SELECT tablename FROM pg_policies")).scalars()) == set(OF_USERS)


@pytest.mark.parametrize("revision", REVISIONS)
def test_going_back_and_up_again_keeps_what_the_older_release_kept(url: str, revision: str) -> None:
    build(url, revision)
    upgraded = bring_to(url, HEAD)
    assert bring_to(url, revision) == fixture(revision)
    assert bring_to(url, HEAD) == upgraded
    check_opens(url, revision)


@pytest.mark.parametrize("revision", REVISIONS)
def test_going_back_keeps_of_newer_rows_what_the_older_release_knows(url: str, revision: str) -> None:
    build(url, HEAD)
    expected = known(fixture(HEAD), fixture(revision))
    assert bring_to(url, revision) == expected
    assert known(bring_to(url, HEAD), fixture(revision)) == expected
    with Store.open(url) as store:
        assert store.verify().problems == ()


@pytest.mark.parametrize("revision", [OLDEST, HEAD])
def test_going_back_to_nothing_leaves_no_table(url: str, revision: str) -> None:
    build(url, revision)
    with Store.open(url) as store:
        with store._database.writing() as connection:
            migrate(connection, "base")
        with store._database.reading() as connection:
            assert inspect(connection).get_table_names() == []
    with Store.open(url) as store:
        assert store.users() == ()


def test_a_revision_that_is_none_of_ours_is_refused(url: str) -> None:
    build(url, HEAD)
    with pytest.raises(StoreError, match="expected a revision of this version, v0005 or older, got 'v9999'"):
        open_database(url, revision="v9999")
    check_opens(url, HEAD)


def kill_at(point: int) -> None:
    """Kill this process before its n-th statement or commit, counted from now."""
    left = point

    def step(*_: object, **__: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)


def kill_after(delay_s: float) -> None:
    """Kill this process when some time has passed, whatever it does then."""
    Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()


def is_killed(url: str, revision: str, kill: Callable[[], None]) -> bool:
    """Bring a database to a revision in a process that is killed; False where it was done before."""

    def work() -> None:
        kill()
        open_database(url, revision=revision).close()

    return in_child(work)


def left(url: str) -> tuple[str | None, Tables]:
    """Return the revision and the rows of a database as they are found, by no code of ours."""
    engine = create_engine(url)
    with engine.connect() as connection:
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
        tables = read(connection)
    engine.dispose()
    return revision, tables


@needs_fork
@pytest.mark.parametrize(("start", "end"), [(OLDEST, HEAD), (HEAD, OLDEST)], ids=["up", "down"])
def test_a_process_killed_at_any_step_of_a_migration_leaves_all_as_it_was(url: str, start: str, end: str) -> None:
    build(url, start)
    before, kills = (start, fixture(start)), 0
    for point in range(0, 1000, 2 if url.startswith("sqlite") else 5):
        if not is_killed(url, end, partial(kill_at, point)):
            break
        kills += 1
        assert left(url) == before
        check_opens(url, start)
        if start != HEAD:
            bring_to(url, start)
    assert kills >= 10
    assert bring_to(url, OLDEST) == known(fixture(start), fixture(OLDEST))


@needs_fork
def test_a_process_killed_at_a_random_moment_of_a_migration_leaves_a_database_that_opens(url: str) -> None:
    build(url, OLDEST)
    moments = random.Random(5)
    for _ in range(8):
        is_killed(url, HEAD, partial(kill_after, moments.uniform(0, 0.2)))
        revision, tables = left(url)
        assert revision in (OLDEST, HEAD) and known(tables, fixture(OLDEST)) == fixture(OLDEST)
        check_opens(url, OLDEST)
        assert bring_to(url, OLDEST) == fixture(OLDEST)


def open_at(barrier: Barrier, url: str) -> None:
    """Open a database when the others do."""
    barrier.wait(30)
    Store.open(url).close()


@needs_fork
@pytest.mark.parametrize("revision", [OLDEST, REVISIONS[-2]])
def test_processes_that_migrate_at_once_all_succeed(url: str, revision: str) -> None:
    build(url, revision)
    processes = multiprocessing.get_context("fork")
    barrier = processes.Barrier(3)
    started = [processes.Process(target=open_at, args=(barrier, url)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0, 0]
    check_opens(url, revision)
