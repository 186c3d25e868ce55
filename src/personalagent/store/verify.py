"""Recomputes every profile from its log, and looks for what can only be there after damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from personalagent.errors import StoreError
from personalagent.profile import OpKind, Profile, Source
from personalagent.store.log import Logged, read_log, read_snapshot, snapshot_of
from personalagent.store.tables import turns, users

_INFERRED = frozenset({Source.STATED, Source.IMPLIED, Source.ELICITED})


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify`` looked at and what it found; it names users, slots and places, never values."""

    users: int
    turns: int
    operations: int
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class UserReport:
    """The part of one user."""

    turns: int
    operations: int
    problems: tuple[str, ...]


def verify_user(connection: Connection, user_id: str) -> UserReport:
    """Check one user's log, turns and stored profile against each other."""
    rows = connection.execute(select(turns).where(turns.c.user_id == user_id).order_by(turns.c.said)).mappings().all()
    last_said = connection.execute(select(users.c.last_said).where(users.c.user_id == user_id)).scalar() or 0
    try:
        log = read_log(connection, user_id)
    except ValueError as error:
        return UserReport(len(rows), 0, (f"user {user_id!r}: an operation of the log cannot be read: {error}",))
    problems = [
        *_of_turns({(row["session_id"], row["turn_index"]) for row in rows}),
        *_of_log(log, {row["said"]: (row["session_id"], row["turn_index"], row["inference"]) for row in rows}, last_said),
        *_of_profile(connection, user_id, log),
    ]
    return UserReport(len(rows), len(log), tuple(f"user {user_id!r}: {problem}" for problem in problems))


def _of_turns(keys: set[tuple[str, int]]) -> Iterator[str]:
    for session_id, count in Counter(session_id for session_id, _ in keys).items():
        missing = [index for index in range(count) if (session_id, index) not in keys]
        if missing:
            yield f"session {session_id!r}: turn {missing[0]} is missing"


def _of_log(log: tuple[Logged, ...], said: dict[int, tuple[str, int, str]], last_said: int) -> Iterator[str]:
    for place in [*said, *(entry.said for entry in log)]:
        if place > last_said:
            yield f"place {place} was never given out (the last is {last_said})"
    for entry in log:
        op = entry.operation
        if op.source not in _INFERRED or op.op is OpKind.FORGET:
            continue
        where = f"operation {entry.said}.{entry.position} of {op.path}"
        turn = said.get(entry.said)
        if turn is None:
            yield f"{where} comes from a turn that is not there"
        elif op.evidence is not None and (op.evidence.session_id, op.evidence.turn_index) != turn[:2]:
            yield f"{where} quotes another turn than the one it comes from"
        elif turn[2] != "done":
            yield f"{where} comes from a turn whose inference is not done"


def _of_profile(connection: Connection, user_id: str, log: tuple[Logged, ...]) -> Iterator[str]:
    try:
        stored = read_snapshot(connection, user_id)
    except StoreError as error:
        yield str(error)
        return
    folded = snapshot_of(log)
    if stored.operation_count != folded.operation_count:
        yield f"the log has {folded.operation_count} operations, the stored profile was made of {stored.operation_count}"
    elif stored.digest != folded.digest:
        yield "the log was changed: its checksum is not the one that was stored with the profile"
    elif stored.last_said != folded.last_said:
        yield f"the stored profile ends at place {stored.last_said}, the log at {folded.last_said}"
    if stored.profile != folded.profile:
        yield f"the stored profile is not the fold of the log; it differs in {', '.join(_differing(stored.profile, folded.profile))}"


def _differing(left: Profile, right: Profile) -> list[str]:
    paths = sorted({*left.slots, *right.slots})
    return [path for path in paths if left.values(path) != right.values(path)] or ["the history"]
