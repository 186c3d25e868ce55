"""What a run asks (cells), what came of it (rows), and the file that keeps a row whatever happens to the process.

A row is on disk before the next one counts. A line that was cut off by a kill is dropped when the file is opened again, so the rows of a run
that was killed and started again are those of one that was not: same keys, same contents, in the order of the cells once it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from personalagent.datasets.example import Example
from personalagent.errors import DataError, UsageError

ROWS, MANIFEST = "rows.jsonl", "manifest.json"
VOLATILE = ("spent",)
"""Fields of a row that may differ between two runs of the same: seconds, and what retries and a cache of verdicts do to calls and tokens."""
Key = tuple[int, str, str]
"""Noise, example and system: one row each."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One question of a run: a system answers an example with so much noise before the request."""

    system: str
    example: Example
    noise_tokens: int = 0

    @property
    def key(self) -> Key:
        """What makes its row the only one."""
        return self.noise_tokens, self.example.example_id, self.system


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a cell: a score, or why there is none."""

    system: str
    example_id: str
    noise_tokens: int
    dataset: str
    unit: str
    topic: str
    k: int | None = None
    missing: tuple[str, ...] | None = None
    """As in the example: what a question should have been asked for."""
    text: str | None = None
    """The reply; None where the system failed."""
    question: str | None = None
    trace: tuple[str, ...] = ()
    cut_messages: int = 0
    choice: int | None = None
    """The option that the reply chose, where there were options and it could be read."""
    right: int | None = None
    score: float | None = None
    """0 to 100. None is unscored: ``unscored`` or ``error`` says why."""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    """What the judge said: criterion -> score, and the error's name in PrefEval."""
    unscored: str | None = None
    """Why a reply has no score."""
    error: Mapping[str, str] | None = None
    """What failed: ``at`` (system or judge), ``kind``, ``message``."""
    spent: Mapping[str, Any] = field(default_factory=dict)
    """``history``, ``request`` and ``judge`` -> the fields of Spent; ``seconds`` of the whole cell."""

    @property
    def key(self) -> Key:
        """What makes the row the only one."""
        return self.noise_tokens, self.example_id, self.system

    @property
    def identity(self) -> dict[str, Any]:
        """What two runs of the same must have in common: all but VOLATILE."""
        return {name: value for name, value in self.as_record().items() if name not in VOLATILE}

    def as_record(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        record = asdict(self)
        return record | {"missing": None if self.missing is None else list(self.missing), "trace": list(self.trace)}

    @property
    def without_text(self) -> Row:
        """The row without anything that was written in it, by a system or a data set; every figure made of it is the same."""
        error = self.error and {**self.error, "message": ""}
        text, question = (None if each is None else "" for each in (self.text, self.question))
        return replace(self, text=text, question=question, trace=(), error=error)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Row:
        """Return the row of a record; raises TypeError or KeyError for one that is none."""
        known = {each.name for each in fields(cls)}
        if unknown := set(record) - known:
            raise KeyError(", ".join(sorted(unknown)))
        missing = record["missing"]
        return cls(
            **{**record, "missing": None if missing is None else tuple(missing), "trace": tuple(record["trace"])},
        )


def load_rows(path: Path) -> list[Row]:
    """Load the rows of a file; a last line that was cut off is left out.

    Raises:
        DataError: the file cannot be read, a line is not a row, or a row is there twice.
    """
    return _parsed(path, _complete(_bytes(path)))


class RowLog:
    """The rows of one run in a folder, open in one process at a time.

    Use it as a context manager. Opening it drops a line that was cut off; with ``again`` it also drops the rows that failed.
    """

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        self._path = folder / ROWS
        self._lock = FileLock(folder / ".lock")
        self._again = again
        self.rows: dict[Key, Row] = {}
        """Every row on disk, by its key."""

    def __enter__(self) -> RowLog:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"expected a folder that no other run is writing to, got {str(self._path.parent)!r}; wait for it, or name another"
            ) from error
        data = _bytes(self._path) if self._path.exists() else b""
        whole = _complete(data)
        rows = _parsed(self._path, whole)
        self.rows = {row.key: row for row in rows if not (self._again and row.error)}
        if len(self.rows) != len(rows):
            self._replace(rows_bytes(self.rows.values()))
        elif len(whole) != len(data):
            os.truncate(self._path, len(whole))
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._lock.release()

    def append(self, row: Row) -> None:
        """Put a row on disk; it is there when this returns."""
        self._file.write(rows_bytes([row]))
        os.fsync(self._file.fileno())
        self.rows[row.key] = row

    def finish(self, keys: Sequence[Key]) -> list[Row]:
        """Put the rows into the order of the cells, whole or not at all, and return them."""
        ordered = [self.rows[key] for key in keys if key in self.rows]
        if list(self.rows) != [row.key for row in ordered]:
            self._replace(rows_bytes(ordered))
        return ordered

    def _replace(self, data: bytes) -> None:
        write_whole(self._path, data)


def rows_bytes(rows: Iterable[Row]) -> bytes:
    """Return rows as the file holds them, a line each."""
    return b"".join(json.dumps(row.as_record(), ensure_ascii=False).encode() + b"\n" for row in rows)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"expected the rows of a run, got {error.strerror}: {path}; run `personalagent bench run` first"
        ) from error


def _complete(data: bytes) -> bytes:
    """Return what was written whole: all up to the last line that ends and can be read."""
    whole = data[: data.rfind(b"\n") + 1]
    last = whole[whole.rfind(b"\n", 0, len(whole) - 1) + 1 :] if whole else b""
    try:
        json.loads(last or b"{}")
    except ValueError:
        return whole[: len(whole) - len(last)]
    return whole


def _parsed(path: Path, data: bytes) -> list[Row]:
    rows: dict[Key, Row] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row = Row.of(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path.name}:{number}: expected a row of `bench run`, got something else ({type(error).__name__}); "
                "start the run again in a new folder"
            ) from error
        if row.key in rows:
            raise DataError(f"{path.name}:{number}: expected each row once, got {row.key} twice; remove one line")
        rows[row.key] = row
    return list(rows.values())
