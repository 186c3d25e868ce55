"""The one writer of an SQLite file. Transactions that would wait for each other share a commit, and so one write to the disk.

When a transaction's block has ended, its thread hands the connection to the one that has waited longest, whose block runs behind
it in the same batch. The one behind whom nobody waits commits for all, and none of them goes on before it is on disk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from personalagent.errors import StoreError

WAIT_S = 30.0
"""How long a writer waits for another one."""
MAX_BATCH = 64
"""Transactions of one commit at the most."""
_POLL_S = 0.005


class _Batch:
    """Transactions that are committed together."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.root = connection.begin()
        self.size = 0
        self.done = Event()
        self.error: Exception | None = None
        """Why nothing of the batch is on disk."""

    @property
    def is_open(self) -> bool:
        """Whether SQLite still holds the transaction; a full disk or a failed write takes all of it back at once."""
        driver = self.connection.connection.dbapi_connection
        return driver is not None and bool(driver.in_transaction)


class Writer:
    """Lets one connection write to a file at a time, over all threads and processes.

    SQLite versions before 3.51.3 can corrupt a file where two connections write and checkpoint at once.
    """

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine.execution_options(is_writer=True)
        self._file = file
        self._processes = FileLock(f"{file}.lock", mode=0o600, thread_local=False)
        self._state = Lock()
        self._is_busy = False
        self._waiting: deque[Lock] = deque()
        """Threads that wait for their turn, each for its lock to be released."""
        self._batch: _Batch | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction that is on disk when the block ends, or never happened.

        Raises:
            StoreError: another process kept the file busy for too long, or another transaction's failure took this one back.
            SQLAlchemyError: a statement, or the commit, failed.
        """
        batch = self._enter()
        try:
            yield from _savepoint(batch)
        finally:
            self._go_on(batch)
        batch.done.wait()
        if batch.error is not None:
            raise batch.error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other writer out, with no transaction open.

        Raises:
            StoreError: another process kept the file busy for too long.
        """
        deadline = self._take_turn()
        try:
            if self._batch is not None:
                self._end(self._batch)
            self._wait_for_processes(deadline)
            try:
                yield
            finally:
                self._processes.release()
        finally:
            self._leave()

    def _enter(self) -> _Batch:
        """Take the turn of this thread, in the batch that is open or a new one."""
        deadline = self._take_turn()
        try:
            if self._batch is None:
                self._batch = self._begun(deadline)
            self._batch.size += 1
            return self._batch
        except BaseException:
            self._leave()
            raise

    def _begun(self, deadline: float) -> _Batch:
        self._wait_for_processes(deadline)
        try:
            connection = self._engine.connect()
            try:
                return _Batch(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._processes.release()
            raise

    def _go_on(self, batch: _Batch) -> None:
        """Hand the batch to the thread that has waited longest; with none, commit it."""
        with self._state:
            is_last = not self._waiting or batch.size >= MAX_BATCH or not batch.is_open
            following = None if is_last else self._waiting.popleft()
        if following is not None:
            following.release()
            return
        try:
            self._end(batch)
        finally:
            self._leave()

    def _end(self, batch: _Batch) -> None:
        """Commit a batch, by the thread whose turn it is, and let other processes write."""
        try:
            if batch.is_open:
                batch.root.commit()
            else:
                batch.error = StoreError(
                    f"expected to write to {self._file}, got a failure that took back what was written beside it; try again"
                )
        except SQLAlchemyError as error:
            batch.error = error
        finally:
            self._batch = None
            batch.connection.close()
            self._processes.release()
            batch.done.set()

    def _take_turn(self) -> float:
        """Wait until it is this thread's turn; return until when it may wait for other processes."""
        deadline = time.monotonic() + WAIT_S
        with self._state:
            if not self._is_busy:
                self._is_busy = True
                return deadline
            turn = Lock()
            turn.acquire()
            self._waiting.append(turn)
        if not turn.acquire(timeout=WAIT_S):
            with self._state:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                    raise self._busy()
        return deadline

    def _leave(self) -> None:
        """Let the thread that has waited longest have its turn."""
        with self._state:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_busy = False

    def _wait_for_processes(self, deadline: float) -> None:
        try:
            self._processes.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=_POLL_S)
        except Timeout:
            raise self._busy() from None

    def _busy(self) -> StoreError:
        return StoreError(
            f"expected to write to {self._file} within {WAIT_S:.0f} s, got no turn: another process is writing; end it or try again"
        )


def _savepoint(batch: _Batch) -> Iterator[Connection]:
    """Run one transaction of a batch; what fails is taken back alone. The first needs no savepoint: with it all is taken back."""
    connection, is_first = batch.connection, batch.size == 1
    if not is_first:
        connection.exec_driver_sql("SAVEPOINT one")
    try:
        yield connection
    except BaseException:
        if batch.is_open:
            connection.exec_driver_sql("ROLLBACK" if is_first else "ROLLBACK TO one")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if is_first else "RELEASE one")
        raise
    if not is_first:
        connection.exec_driver_sql("RELEASE one")
