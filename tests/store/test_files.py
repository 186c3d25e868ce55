"""The file of the store: who may read it, what damages it, and what is said about that."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from personalagent.errors import ConfigError, PersonalAgentError, StoreError
from personalagent.store import Store, migrate
from personalagent.store.tables import metadata
from tests.store.turns import CITY, LIKES, play


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def corrupt(path: Path, *statements: str) -> None:
    """Change the file behind the store's back."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_only_the_owner_may_read_what_users_said(tmp_path: Path) -> None:
    file = tmp_path / "new" / "agent.db"
    old = os.umask(0)
    try:
        with Store.open(f"sqlite:///{file}") as store:
            play(store, "I live in Rome", (CITY, "Rome"))
            assert {path.name: mode(path) for path in file.parent.iterdir()} == {
                "agent.db": 0o600,
                "agent.db-wal": 0o600,
                "agent.db-shm": 0o600,
                "agent.db.lock": 0o600,
            }
        assert mode(file.parent) == 0o700
    finally:
        os.umask(old)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    file = tmp_path / "agent.db"
    Store.open(f"sqlite:///{file}").close()
    file.chmod(0o644)
    Store.open(f"sqlite:///{file}").close()
    assert mode(file) == 0o600


def test_every_commit_is_on_disk_and_deleted_bytes_are_overwritten(sqlite: Store) -> None:
    with sqlite._database.reading() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_what_was_written_is_there_after_reopening(url: str) -> None:
    with Store.open(url) as store:
        profile = play(store, "I live in Rome", (CITY, "Rome")).profile
    with Store.open(url) as store:
        assert store.load_profile("alice") == profile and len(store.turns("alice")) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "got one that does not parse"),
        ("mysql://localhost/db", "expected a database URL of sqlite or postgresql, got 'mysql'"),
        ("sqlite://", "got a database in memory"),
        ("sqlite:///:memory:", "got a database in memory"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_setting_to_correct(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Store.open(url)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(
        StoreError, match=r"expected a working database at postgresql\+psycopg://me:\*\*\*@localhost:1/db"
    ) as raised:
        Store.open("postgresql://me:hunter2@localhost:1/db")
    assert "hunter2" not in str(raised.value)


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "agent.db"
    file.write_text("my diary\n" * 1000, encoding="utf-8")
    with pytest.raises(StoreError, match="got: file is not a database; the file is damaged or is no SQLite file"):
        Store.open(f"sqlite:///{file}")
    assert file.read_text(encoding="utf-8") == "my diary\n" * 1000


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    corrupt(file, "CREATE TABLE users (name)")
    with pytest.raises(StoreError, match="got one with the tables users; choose another database"):
        Store.open(f"sqlite:///{file}")


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    Store.open(url).close()
    corrupt(tmp_path / "agent.db", "UPDATE personalagent_version SET version_num = 'v9999'")
    with pytest.raises(StoreError, match="got 'v9999' of a newer version; upgrade personalagent"):
        Store.open(url)


def test_damaged_pages_are_reported(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path / 'agent.db'}", tmp_path / "agent.db"
    with Store.open(url) as store:
        for number in range(200):
            play(store, f"I like thing {number} " + "x" * 200, (LIKES, f"thing {number}"))
    with file.open("r+b") as raw:
        raw.seek(4096 * 8)
        raw.write(b"\xa5" * 4096 * 40)
    try:
        with Store.open(url) as store:
            found = " ".join(store.verify().problems)
    except StoreError as error:
        found = str(error)
    assert "the file is damaged" in found


def test_a_directory_in_place_of_the_file_and_a_file_in_place_of_the_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}, got: Is a directory; check the path and its permissions"):
        Store.open(f"sqlite:///{tmp_path}")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="got: Not a directory"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'agent.db'}")


NOBODY = 65534


def as_somebody_else(url: str) -> str:
    """Write to the store as a user without root's privileges; return the error's message."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            Store.open(url).ensure_user("bob")
        except StoreError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as message:
        return message.read()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX permissions")
@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "message"),
    [
        (0o400, 0o700, "got: Permission denied; check the path and its permissions"),
        (0o000, 0o700, "got: Permission denied; check the path and its permissions"),
        (0o600, 0o500, "got: attempt to write a readonly database; make the file and its directory writable for you"),
        (0o600, 0o000, "got: Permission denied; check the path and its permissions"),
    ],
)
def test_a_file_that_may_not_be_written_is_named(file_mode: int, directory_mode: int, message: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = directory / "agent.db"
        Store.open(f"sqlite:///{file}").close()
        for path in directory.iterdir():
            path.chmod(file_mode)
            os.chown(path, *([NOBODY] * 2 if os.geteuid() == 0 else [-1, -1]))
        os.chown(directory, *([NOBODY] * 2 if os.geteuid() == 0 else [-1, -1]))
        directory.chmod(directory_mode)
        try:
            assert f"expected a working database at {file}, {message}" in as_somebody_else(f"sqlite:///{file}")
        finally:
            directory.chmod(0o700)


def test_a_full_disk_is_said_and_loses_nothing(sqlite: Store) -> None:
    play(sqlite, "I live in Rome", (CITY, "Rome"))
    limit = sqlite._database._engine.raw_connection()
    limit.cursor().execute("PRAGMA max_page_count=1")
    limit.close()
    with pytest.raises(StoreError, match="the disk is full; nothing acknowledged is lost"):
        for _ in range(5):
            sqlite.append_turn("alice", "s1", "x" * 100_000)
    assert next(turn.utterance for turn in sqlite.turns("alice")) == "I live in Rome"
    assert sqlite.verify().problems == ()


def test_an_error_of_the_database_does_not_repeat_what_the_user_said(sqlite: Store) -> None:
    sqlite.start_session("alice", "s1")
    with sqlite._database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE turns")
    with pytest.raises(PersonalAgentError) as raised:
        sqlite.append_turn("alice", "s1", "my secret")
    assert "my secret" not in str(raised.value) and raised.value.__suppress_context__


def test_migrations_make_exactly_the_tables_that_the_code_uses(url: str) -> None:
    Store.open(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_heads() == [migrate.HEAD]


def test_migrations_go_down_and_up_again(url: str) -> None:
    with Store.open(url) as store:
        with store._database.writing() as connection:
            migrate.migrate(connection, "base")
            migrate.migrate(connection)
        play(store, "I live in Rome", (CITY, "Rome"))
        assert store.verify().problems == ()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE slot_operations SET value = 'Bern' WHERE value = 'Rome'", "the log was changed: its checksum"),
        ("DELETE FROM slot_operations WHERE value = 'tea'", "the log has 1 operations, the stored profile was made of 2"),
        ("UPDATE profiles SET profile = '{}'", "the stored profile is not the fold of the log; it differs in basics.place.city"),
        ("UPDATE profiles SET profile = '{'", "expected the stored profile of 'alice' to be readable"),
        ("DELETE FROM profiles", "the log has 2 operations, the stored profile was made of 0"),
        ("DELETE FROM turns WHERE turn_index = 0", "session 's1': turn 0 is missing"),
        ("UPDATE turns SET inference = 'pending'", "comes from a turn whose inference is not done"),
        ("UPDATE slot_operations SET turn_index = 7", "quotes another turn than the one it comes from"),
        ("UPDATE slot_operations SET op = 'learn'", "an operation of the log cannot be read"),
        ("UPDATE users SET last_said = 1", "place 2 was never given out"),
        ("DELETE FROM users", "refers to a row of users that is not there"),
    ],
)
def test_verify_sees_what_was_changed_behind_the_store(tmp_path: Path, statement: str, problem: str) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    with Store.open(url) as store:
        play(store, "I live in Rome", (CITY, "Rome"))
        play(store, "I like tea", (LIKES, "tea"))
        report = store.verify()
        assert (report.is_ok, report.users, report.turns, report.operations) == (True, 1, 2, 2)
    corrupt(tmp_path / "agent.db", statement)
    with Store.open(url) as store:
        found = " | ".join(store.verify().problems)
        assert problem in found
        assert "Rome" not in found and "tea" not in found


def test_a_damaged_profile_is_rebuilt_from_the_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    with Store.open(url) as store:
        profile = play(store, "I live in Rome", (CITY, "Rome")).profile
    corrupt(tmp_path / "agent.db", "UPDATE profiles SET profile = '{'")
    with Store.open(url) as store:
        with pytest.raises(StoreError, match=r"rebuild the profile"):
            store.load_profile("alice")
        assert store.rebuild("alice") == profile == store.load_profile("alice")
        assert store.verify().problems == ()
