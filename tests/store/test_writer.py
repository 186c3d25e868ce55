"""Writers of one file share commits: each is on disk when it returns, and what fails is taken back alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

from personalagent.errors import StoreError
from personalagent.store.engine import Database, open_database

WRITERS = 16


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "writers.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{file}")
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))
    yield database
    database.close()


def insert(connection: Connection, number: int) -> None:
    connection.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})


def write(database: Database, number: int) -> None:
    with database.writing() as connection:
        insert(connection, number)


def kept(file: Path) -> list[int]:
    other = open_database(f"sqlite:///{file}")
    with other.reading() as connection:
        numbers = list(connection.execute(text("SELECT number FROM numbers ORDER BY number")).scalars())
    other.close()
    return numbers


def while_one_writes(database: Database, number: int, others: list[int], pool: ThreadPoolExecutor) -> list[object]:
    """Write while the others wait for their turn; return how each of those ended: its number, or its error."""
    began = Event()

    def other(number: int) -> int:
        began.set()
        write(database, number)
        return number

    with database.writing() as connection:
        insert(connection, number)
        writing = [pool.submit(other, each) for each in others]
        assert began.wait(20)
        while len(database._writer._waiting) < len(others):  # type: ignore[union-attr]
            assert not any(each.done() for each in writing)
    return [each.exception(20) or each.result() for each in writing]


def test_those_that_wait_share_a_commit(database: Database, file: Path) -> None:
    commits: list[Connection] = []
    listener = commits.append
    event.listen(Engine, "commit", listener)
    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            ended = while_one_writes(database, 0, list(range(1, WRITERS)), pool)
    finally:
        event.remove(Engine, "commit", listener)
    assert ended == list(range(1, WRITERS))
    assert len(commits) == 1
    assert kept(file) == list(range(WRITERS))


def test_each_is_on_disk_when_it_returns(database: Database, file: Path) -> None:
    def write_and_look(number: int) -> bool:
        write(database, number)
        with database.reading() as connection:
            return connection.execute(text("SELECT 1 FROM numbers WHERE number = :n"), {"n": number}).scalar() == 1

    with ThreadPoolExecutor(WRITERS) as pool:
        assert all(pool.map(write_and_look, range(200)))
    assert kept(file) == list(range(200))


def test_what_fails_is_taken_back_alone(database: Database, file: Path) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        ended = while_one_writes(database, 0, [1, 0, 2], pool)
    assert [ended[0], ended[2]] == [1, 2]
    assert isinstance(ended[1], StoreError)
    assert kept(file) == [0, 1, 2]


def test_the_first_of_a_batch_that_fails_takes_nobody_along(database: Database, file: Path) -> None:
    pool = ThreadPoolExecutor(2)
    later = []
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        insert(connection, 0)
        later.append(pool.submit(write, database, 1))
        while not database._writer._waiting:  # type: ignore[union-attr]
            assert not later[0].done()
        raise ZeroDivisionError
    later[0].result(20)
    pool.shutdown()
    assert kept(file) == [1]


def test_a_failure_that_takes_the_whole_batch_back_is_told_to_all(database: Database, file: Path) -> None:
    pool = ThreadPoolExecutor(2)

    def spoil() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("ROLLBACK")  # as SQLite does by itself when the disk is full
            raise ZeroDivisionError

    with pytest.raises(StoreError, match="try again"), database.writing() as connection:
        insert(connection, 0)
        spoiling = pool.submit(spoil)
        while not database._writer._waiting:  # type: ignore[union-attr]
            assert not spoiling.done()
    assert isinstance(spoiling.exception(20), ZeroDivisionError)
    pool.shutdown()
    write(database, 2)
    assert kept(file) == [2]
