"""Opens a database and keeps the promises below the tables: permissions, durability, one writer, erased bytes.

Everything that is true of only one kind of database is in this file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from personalagent.errors import ConfigError, PersonalAgentError, StoreError
from personalagent.store.migrate import HEAD, current_revision, is_known, migrate
from personalagent.store.writer import WAIT_S, Writer

_READERS = 32
"""Connections that stay open; a few more open for a moment where as many read at once."""
SCRUB_WAIT_S = 5.0
"""How long an erasure waits for readers of the old state."""
_MIGRATION_LOCK = 0x70657273
"""Any number, the same in every process: the key of Postgres' advisory lock."""
_PRAGMAS = (
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    "temp_store=MEMORY",
    f"busy_timeout={int(WAIT_S * 1000)}",
)
_ADVICE = (
    ("not a database", "the file is damaged or is no SQLite file; restore a backup, or move it away to start anew"),
    ("malformed", "the file is damaged; restore a backup, or move it away to start anew"),
    ("is full", "the disk is full; nothing acknowledged is lost: free some space and try again"),
    ("disk I/O error", "the disk failed or its quota is used up; check it and try again"),
    ("readonly", "make the file and its directory writable for you"),
    ("locked", "another process keeps the database busy; end it or try again"),
    ("unable to open", "check that the directory exists and is yours"),
    ("no such table", "the file was changed by something else; restore a backup"),
)


EVERY_TENANT = "*"
"""What the queue, ``verify`` and migrations see."""


class Database:
    """One open database; ``reading`` and ``writing`` are its transactions."""

    def __init__(self, engine: Engine, file: Path | None) -> None:
        self._engine = engine
        self._writer = Writer(engine, file) if file else None
        self._shown = str(file) if file else engine.url.render_as_string(hide_password=True)

    @property
    def is_local(self) -> bool:
        """Whether a read of a row is quicker than to have a thread do it: a file, with no server behind a network."""
        return self._writer is not None

    @contextmanager
    def reading(self, tenant: str = EVERY_TENANT) -> Iterator[Connection]:
        """Open a transaction that sees one state of the database; on Postgres, of one tenant's users only."""
        with self._translated(), self._engine.connect() as connection:
            _see(connection, tenant)
            yield connection

    @contextmanager
    def writing(self, tenant: str = EVERY_TENANT) -> Iterator[Connection]:
        """Open a transaction that is on disk when the block ends, or never happened; on Postgres, on one tenant's users only.

        On SQLite one connection writes at a time, over all threads and processes; those that wait share a commit.
        """
        with self._translated(), self._writer.transaction() if self._writer else self._engine.begin() as connection:
            _see(connection, tenant)
            yield connection

    def scrub(self) -> bool:
        """Write what was erased over the bytes on disk; False while another process still reads the old state.

        SQLite keeps the old pages in the write-ahead log until a checkpoint truncates it.
        """
        if self._writer is None:
            return True
        with self._translated(), self._alone():
            return self._truncate_log(SCRUB_WAIT_S)

    def damage(self) -> tuple[str, ...]:
        """Return what the database itself finds wrong with its file; empty where it cannot tell."""
        if self._writer is None:
            return ()
        with self.reading() as connection:
            rows = connection.execute(text("PRAGMA integrity_check")).scalars().all()
            dangling = connection.execute(text("PRAGMA foreign_key_check")).all()
        found = [f"the file is damaged: {row}" for row in rows if row != "ok"]
        return (*found, *(f"a row of {row[0]} refers to a row of {row[2]} that is not there" for row in dangling))

    def migrate(self, revision: str = HEAD) -> None:
        """Create the tables, or bring them to a revision, one process at a time.

        Raises:
            StoreError: a newer version of the library wrote the database, it is not ours, or there is no such revision.
        """
        if not is_known(revision):
            raise StoreError(f"expected a revision of this version, {HEAD} or older, got {revision!r}; choose one of them")
        with self.reading() as connection:
            if current_revision(connection) == revision:
                return
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            current = current_revision(connection)
            if current is not None and not is_known(current):
                raise StoreError(
                    f"expected a database of revision {HEAD} or older at {self._shown}, got {current!r} of a newer version; "
                    "upgrade personalagent, or choose another database"
                )
            migrate(connection, revision)

    def close(self) -> None:
        """Close every connection; the last one to close checkpoints the write-ahead log."""
        with self._translated(), self._alone():
            self._engine.dispose()

    def set_up_file(self) -> None:
        """Switch SQLite to write-ahead logging and finish an erasure that a crash interrupted."""
        if self._writer is None:
            return
        with self._translated(), self._alone():
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
            finally:
                connection.close()
            self._truncate_log(0.0)

    def _truncate_log(self, wait_s: float) -> bool:
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={int(wait_s * 1000)}")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row = cursor.fetchone()
            cursor.execute(f"PRAGMA busy_timeout={int(WAIT_S * 1000)}")
        finally:
            connection.close()
        return row is not None and row[0] == 0

    def _alone(self) -> AbstractContextManager[None]:
        return self._writer.alone() if self._writer else nullcontext()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._shown)


def _see(connection: Connection, tenant: str) -> None:
    """Tell Postgres whose rows this transaction may see (row-level security); it forgets it when the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT set_config('personalagent.tenant', :tenant, true)"), {"tenant": tenant})


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turn the database's errors into StoreError, without what a user said: parameters and row details are left out."""
    try:
        yield
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None)
        if isinstance(original, PersonalAgentError):
            raise original from None
        lines = str(original if original is not None else error).strip().splitlines()
        got = lines[0] if lines else type(error).__name__
        advice = next((advice for words, advice in _ADVICE if words in got), "check the database and its URL, then try again")
        raise StoreError(f"expected a working database at {shown}, got: {got}; {advice}") from None
    except (sqlite3.Error, OSError) as error:
        got = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        advice = next((advice for words, advice in _ADVICE if words in got), "check the path and its permissions")
        raise StoreError(f"expected a working database at {shown}, got: {got}; {advice}") from None


def open_database(url: str, *, revision: str = HEAD) -> Database:
    """Open the database of an SQLAlchemy URL, create it where it is missing, bring its tables up to date.

    Args:
        revision: an older one takes the tables back to an older release, and what they have no place for is lost.

    Raises:
        ConfigError: the URL is not one of SQLite or Postgres.
        StoreError: it cannot be reached, read, written or migrated.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        file = Path(str(parsed.database)).expanduser().absolute()
        with translated(str(file)):
            _private(file)
        database = Database(_sqlite(parsed.set(database=str(file))), file)
    else:
        database = Database(_postgres(parsed), None)
    try:
        database.set_up_file()
        database.migrate(revision)
    except BaseException:
        database._engine.dispose()
        raise
    return database


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise ConfigError(
            "expected the database to be an SQLAlchemy URL, got one that does not parse; write e.g. sqlite:////home/me/agent.db"
        ) from None
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"expected a database URL of sqlite or postgresql, got {backend!r}; choose one of them")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("expected an SQLite file, got a database in memory, which keeps nothing; write sqlite:///PATH")
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _private(file: Path) -> None:
    """Create the directory (0700) and the file (0600); SQLite gives -wal and -shm the mode of the file."""
    if not file.parent.exists():
        file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, pool_size=_READERS)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where sqlite3 thinks they should
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        is_writer = connection.get_execution_options().get("is_writer", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    with translated(url.render_as_string(hide_password=True)):
        try:
            return create_engine(url, hide_parameters=True, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise StoreError(f"expected the Postgres driver {error.name!r}, got none; pip install 'psycopg[binary]'") from None
