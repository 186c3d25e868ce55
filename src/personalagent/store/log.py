"""The log of slot operations in the database, and the profile that is its fold.

The stored profile is a cache: ``verify`` folds the log again and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from personalagent.errors import DataError, StoreError
from personalagent.profile import (
    Cardinality,
    Evidence,
    OpKind,
    Polarity,
    Profile,
    ProfileDelta,
    SlotOp,
    Source,
    fold,
)
from personalagent.store.codec import dump_operation, dump_profile, parse_profile
from personalagent.store.tables import profiles, slot_operations


@dataclass(frozen=True, slots=True)
class Logged:
    """One operation with its place in the log."""

    said: int
    """Place of the turn or edit in what the user said."""
    position: int
    """Place in the delta of that turn, from 0."""
    operation: SlotOp


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The profile as it is stored, and what proves that it is the fold of the whole log."""

    profile: Profile
    operation_count: int = 0
    last_said: int = 0
    digest: str = ""
    """SHA-256 over the log, each operation chained to those before it."""

    def after(self, entries: Sequence[Logged]) -> Snapshot:
        """Return the snapshot after entries that all stand behind its last one; with none, itself."""
        digest = self.digest
        for entry in entries:
            line = f"{digest}\n{entry.said}\n{entry.position}\n{dump_operation(entry.operation)}"
            digest = sha256(line.encode()).hexdigest()
        return Snapshot(
            profile=self.profile.apply(ProfileDelta(tuple(entry.operation for entry in entries))),
            operation_count=self.operation_count + len(entries),
            last_said=entries[-1].said if entries else self.last_said,
            digest=digest,
        )


def snapshot_of(log: Sequence[Logged]) -> Snapshot:
    """Fold a whole log."""
    folded = Snapshot(Profile()).after(log)
    return replace(folded, profile=fold(entry.operation for entry in log))


def read_log(connection: Connection, user_id: str, *, path: str | None = None, said: int | None = None) -> tuple[Logged, ...]:
    """Read a user's log in the order in which it was said: all of it, of one slot, or of one turn."""
    table = slot_operations
    query = select(table).where(table.c.user_id == user_id).order_by(table.c.said, table.c.position)
    if path is not None:
        query = query.where(table.c.path == path)
    if said is not None:
        query = query.where(table.c.said == said)
    return tuple(_entry(row) for row in connection.execute(query).mappings())


def append_entries(connection: Connection, user_id: str, entries: Iterable[Logged]) -> None:
    """Write entries to the log; the profile is the caller's to renew."""
    rows = [_row(user_id, entry) for entry in entries]
    if rows:
        connection.execute(insert(slot_operations), rows)


def replace_log(connection: Connection, user_id: str, entries: Iterable[Logged]) -> None:
    """Write a user's log anew: the only way in which an operation ever changes or disappears (erasure)."""
    connection.execute(delete(slot_operations).where(slot_operations.c.user_id == user_id))
    append_entries(connection, user_id, entries)


def read_snapshot(connection: Connection, user_id: str) -> Snapshot:
    """Read a user's stored profile; an empty one where there is none."""
    row = connection.execute(select(profiles).where(profiles.c.user_id == user_id)).mappings().first()
    if row is None:
        return Snapshot(Profile())
    try:
        profile = parse_profile(row["profile"])
    except DataError:
        raise StoreError(
            f"expected the stored profile of {user_id!r} to be readable, got damaged text; the log holds it: "
            "rebuild the profile from it (Store.rebuild)"
        ) from None
    return Snapshot(profile, row["operation_count"], row["last_said"], row["digest"])


def write_snapshot(connection: Connection, user_id: str, snapshot: Snapshot) -> None:
    """Store a user's profile."""
    values = {
        "profile": dump_profile(snapshot.profile),
        "operation_count": snapshot.operation_count,
        "last_said": snapshot.last_said,
        "digest": snapshot.digest,
    }
    change = update(profiles).where(profiles.c.user_id == user_id).values(version=profiles.c.version + 1, **values)
    if connection.execute(change).rowcount == 0:
        connection.execute(insert(profiles).values(user_id=user_id, version=1, **values))


def read_version(connection: Connection, user_id: str) -> int:
    """Read how often a user's profile was stored; 0 for one that never was."""
    return int(connection.execute(select(profiles.c.version).where(profiles.c.user_id == user_id)).scalar() or 0)


def renew(connection: Connection, user_id: str, entries: Sequence[Logged]) -> Snapshot:
    """Store the profile after entries that were just appended: one step, or a new fold where one was said earlier."""
    snapshot = read_snapshot(connection, user_id)
    if not entries:
        return snapshot
    in_order = entries[0].said > snapshot.last_said
    snapshot = snapshot.after(entries) if in_order else snapshot_of(read_log(connection, user_id))
    write_snapshot(connection, user_id, snapshot)
    return snapshot


def _row(user_id: str, entry: Logged) -> dict[str, object]:
    op = entry.operation
    return {
        "user_id": user_id,
        "said": entry.said,
        "position": entry.position,
        "op": op.op.value,
        "path": op.path,
        "value": op.value,
        "at": op.at,
        "polarity": op.polarity.value,
        "source": op.source.value,
        "cardinality": op.cardinality.value,
        "quote": op.evidence.quote if op.evidence else None,
        "session_id": op.evidence.session_id if op.evidence else None,
        "turn_index": op.evidence.turn_index if op.evidence else None,
    }


def _entry(row: RowMapping) -> Logged:
    evidence = None if row["session_id"] is None else Evidence(row["quote"] or "", row["session_id"], row["turn_index"])
    operation = SlotOp(
        op=OpKind(row["op"]),
        path=row["path"],
        value=row["value"],
        at=row["at"],
        polarity=Polarity(row["polarity"]),
        source=Source(row["source"]),
        cardinality=Cardinality(row["cardinality"]),
        evidence=evidence,
    )
    return Logged(row["said"], row["position"], operation)
