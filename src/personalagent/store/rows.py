"""Single rows, inside a transaction that the store opened; and what may become one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, and_, func, insert, null, select, update
from sqlalchemy.dialects import postgresql, sqlite

from personalagent.errors import Conflict, DataError, ProfileError, UsageError
from personalagent.profile import OpKind, Profile, SlotOp, Source, fold
from personalagent.store.erasure import Mask
from personalagent.store.log import Logged, append_entries, read_version, renew
from personalagent.store.records import InferenceState, StoredTurn
from personalagent.store.tables import sessions, slot_operations, turns, users

MAX_ID = 200
"""Characters of a user's or a session's id."""
_CANNOT_BE_EMPTY = frozenset({OpKind.ADD, OpKind.UPDATE})


def check_id(name: str, value: str) -> None:
    """Refuse an id that is empty, too long or not printable."""
    if not value or len(value) > MAX_ID or not value.isprintable():
        raise UsageError(f"expected {name} to be 1 to {MAX_ID} printable characters, got {value[:40]!r}; choose another")


def check_text(name: str, text: str) -> None:
    """Refuse a text that a database cannot keep byte for byte."""
    if "\0" in text:
        raise DataError(f"expected the {name} to be text, got a NUL character in it; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"expected the {name} to be valid Unicode, got half a surrogate pair in it; remove it") from None


def checked(op: SlotOp) -> SlotOp:
    """Return the operation with its time in UTC; refuse one that must not reach the log."""
    if op.op is OpKind.FORGET:
        raise ProfileError("expected an operation other than forget, got one; call Store.forget, which also erases the bytes")
    if not op.value.strip() and op.op in _CANNOT_BE_EMPTY:
        raise ProfileError(f"expected a value to {op.op} in {op.path!r}, got none; unknown is never stored")
    if op.at.tzinfo is None:
        raise ProfileError(f"expected the time of an operation to have a time zone, got {op.at!r}; write datetime.now(UTC)")
    check_id("a slot's path", op.path)
    check_text("value", op.value)
    check_text("quote", op.evidence.quote if op.evidence else "")
    return replace(op, at=op.at.astimezone(UTC))


def exists(connection: Connection, table: Table, key: Mapping[str, Any]) -> bool:
    """Tell whether the table has a row of this key."""
    query = select(1).select_from(table).where(*(table.c[name] == value for name, value in key.items()))
    return connection.execute(query).first() is not None


def insertion(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that may say what happens where the row is there already; both databases know it by the same words."""
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def insert_once(connection: Connection, table: Table, key: Mapping[str, Any], **values: Any) -> None:
    """Insert a row unless there is one, even where another process inserts it at the same moment."""
    connection.execute(insertion(connection, table).values(**key, **values).on_conflict_do_nothing())


def put(connection: Connection, table: Table, key: Mapping[str, Any], **values: Any) -> None:
    """Insert a row, or change the one that is there; the user's row is locked."""
    change = update(table).where(*(table.c[name] == value for name, value in key.items())).values(**values)
    if connection.execute(change).rowcount == 0:
        connection.execute(insert(table).values(**key, **values))


def lock_user(connection: Connection, user_id: str) -> int:
    """Keep other writers of this user waiting until the transaction ends; return the user's last place.

    SQLite has one writer anyway and knows no FOR UPDATE; SQLAlchemy leaves it out there.
    """
    last = connection.execute(select(users.c.last_said).where(users.c.user_id == user_id).with_for_update()).scalar()
    if last is None:
        raise _unknown(user_id)
    return int(last)


def _unknown(user_id: str) -> UsageError:
    return UsageError(f"expected a user who exists, got {user_id!r}; start a session first, or check the id")


def ensure_user(connection: Connection, user_id: str, at: datetime) -> None:
    """Insert a user unless there is one."""
    insert_once(connection, users, {"user_id": user_id}, created_at=at, last_said=0)


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a session is when something is said in it."""

    is_started: bool
    turns: int
    earlier: int | None
    """Index of the turn that the same message became when it was first sent; None for a new one."""


def session_state(connection: Connection, user_id: str, session_id: str, message_key: str | None) -> SessionState:
    """Read a session in one statement."""
    in_session = and_(turns.c.user_id == user_id, turns.c.session_id == session_id)
    started = select(1).where(sessions.c.user_id == user_id, sessions.c.session_id == session_id).exists()
    count = select(func.count()).select_from(turns).where(in_session).scalar_subquery()
    earlier = select(turns.c.turn_index).where(in_session, turns.c.message_key == message_key).limit(1).scalar_subquery()
    row = connection.execute(select(started, count, null() if message_key is None else earlier)).one()
    return SessionState(bool(row[0]), row[1], row[2])


def refuse_other_version(connection: Connection, user_id: str, expected: int | None) -> None:
    """Refuse a change that was made for a profile that has changed since; the user's row is locked."""
    if expected is not None and (version := read_version(connection, user_id)) != expected:
        raise Conflict(
            f"expected the profile's version {expected}, got {version}: it changed meanwhile; read it and change it again"
        )


def undoing(log: Sequence[Logged], at: datetime) -> tuple[SlotOp, ...]:
    """Return the operations that take the last change of a log back: the values before it hold again, those that it added do not.

    Raises:
        UsageError: nothing changed since what was erased last, or ever.
    """
    if not log or log[-1].operation.op is OpKind.FORGET:
        raise UsageError(
            "expected a change of the profile to take back, got none since the last erasure; there is nothing to undo"
        )
    before = fold(entry.operation for entry in log if entry.said != log[-1].said)
    after = fold(entry.operation for entry in log)
    held = {(value.path, value.value, value.polarity): value for value in before}
    holds = {(value.path, value.value, value.polarity): value for value in after}
    cardinality = {entry.operation.path: entry.operation.cardinality for entry in log}
    operations = [
        SlotOp(OpKind.RETRACT, value.path, value.value, at, value.polarity, Source.EDITED, cardinality[value.path])
        for key, value in holds.items()
        if key not in held
    ]
    operations += [
        SlotOp(OpKind.ADD, value.path, value.value, at, value.polarity, Source.EDITED, cardinality[value.path])
        for key, value in held.items()
        if key not in holds
    ]
    return tuple(operations)


def next_said(connection: Connection, user_id: str, *, created_at: datetime | None = None) -> int:
    """Give out the next place in what the user said; other writers of this user wait until the transaction ends.

    Args:
        created_at: when a user who is not there yet is created; None if that is an error.
    """
    change = update(users).where(users.c.user_id == user_id).values(last_said=users.c.last_said + 1).returning(users.c.last_said)
    said = connection.execute(change).scalar()
    if said is None and created_at is not None:
        ensure_user(connection, user_id, created_at)
        said = connection.execute(change).scalar()
    if said is None:
        raise _unknown(user_id)
    return int(said)


def lock_turn(connection: Connection, user_id: str, session_id: str, turn_index: int) -> RowMapping:
    """Lock the user and return the row of a turn."""
    lock_user(connection, user_id)
    query = select(turns).where(turns.c.user_id == user_id, turns.c.session_id == session_id, turns.c.turn_index == turn_index)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UsageError(f"expected a turn of {user_id!r}, got session {session_id!r}, turn {turn_index}; append it first")
    return row


def append_operations(connection: Connection, user_id: str, said: int, operations: Collection[SlotOp]) -> Profile:
    """Append operations at one place of the log and renew the profile."""
    entries = [Logged(said, position, op) for position, op in enumerate(operations)]
    append_entries(connection, user_id, entries)
    return renew(connection, user_id, entries).profile


def is_outdated(connection: Connection, user_id: str, turn: RowMapping, op: SlotOp) -> bool:
    """Tell whether the user asked to forget something after the turn that would come back with this operation.

    That is: anything in its slot, or words of its quote that were masked in the turn.
    """
    table = slot_operations
    later_forget = select(1).where(
        table.c.user_id == user_id, table.c.path == op.path, table.c.op == OpKind.FORGET.value, table.c.said > turn["said"]
    )
    if connection.execute(later_forget).first() is not None:
        return True
    return bool(turn["redacted"] and op.evidence and _plain(op.evidence.quote) not in _plain(turn["utterance"]))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def redact(connection: Connection, user_id: str, places: Collection[int | tuple[str, int]], mask: Mask) -> int:
    """Remove the text of the turns at these places, mask the forgotten words in all others; return how many changed."""
    changed = 0
    for row in connection.execute(select(turns).where(turns.c.user_id == user_id)).all():
        if row.said in places or (row.session_id, row.turn_index) in places:
            values = {"utterance": "", "response": None, "inference": InferenceState.DONE.value}
        elif mask.finds(row.utterance) or mask.finds(row.response or ""):
            values = {"utterance": mask.hide(row.utterance), "response": row.response and mask.hide(row.response)}
        else:
            continue
        changed += 1
        change = update(turns).where(turns.c.user_id == user_id, turns.c.said == row.said)
        connection.execute(change.values(**values, redacted=True))
    return changed


def stored_turn(row: RowMapping) -> StoredTurn:
    """Read a turn."""
    return StoredTurn(
        session_id=row["session_id"],
        turn_index=row["turn_index"],
        said=row["said"],
        utterance=row["utterance"],
        response=row["response"],
        at=row["at"],
        inference=InferenceState(row["inference"]),
        attempts=row["attempts"],
        reason=row["reason"],
        is_redacted=row["redacted"],
        has_withheld=row["withheld"],
    )
