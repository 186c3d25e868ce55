"""What one session was and what it changed: P_old, what the session taught, P_new (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from personalagent.errors import UsageError
from personalagent.profile import Profile, ProfileDelta, SlotOp, SlotValue, fold
from personalagent.store import Store, StoredTurn


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list."""

    session_id: str
    turns: int
    not_reviewed: int
    """Turns said after the session was last reviewed."""
    reviewed_at: datetime | None
    started_at: datetime | None
    """Time of the first turn; None where nothing was said yet."""


@dataclass(frozen=True, slots=True)
class TaughtTurn:
    """A turn with the operations that were inferred from it."""

    turn: StoredTurn
    operations: tuple[SlotOp, ...]


@dataclass(frozen=True, slots=True)
class SessionDiff:
    """A session's turns, and the profile before and after what it taught."""

    session_id: str
    turns: tuple[TaughtTurn, ...]
    old: Profile
    """P_old: the fold of the log up to the session's first turn; of all of it where nothing was said in the session."""
    new: Profile
    """P_new: P_old and what was learned in this session; edits and other sessions meanwhile are not part of it."""

    @property
    def added(self) -> tuple[SlotValue, ...]:
        """Return the values that hold after the session and did not before."""
        known = {(value.path, value.value) for value in self.old}
        return tuple(value for value in self.new if (value.path, value.value) not in known)

    @property
    def removed(self) -> tuple[SlotValue, ...]:
        """Return the values that held before the session and no longer do after it."""
        left = {(value.path, value.value) for value in self.new}
        return tuple(value for value in self.old if (value.path, value.value) not in left)

    @property
    def changed(self) -> tuple[tuple[SlotValue, SlotValue], ...]:
        """Return the values that hold before and after, but were confirmed, proved again or given another polarity."""
        before = {(value.path, value.value): value for value in self.old}
        pairs = ((before.get((value.path, value.value)), value) for value in self.new)
        return tuple((old, new) for old, new in pairs if old is not None and old != new)


def session_summary(store: Store, user_id: str, session_id: str) -> SessionSummary:
    """Return how long a session is and how much of it was reviewed."""
    until = store.reviewed_sessions(user_id).get(session_id)
    turns = store.turns(user_id, session_id)
    fresh = [turn for turn in turns if until is None or turn.at > until]
    return SessionSummary(session_id, len(turns), len(fresh), until, turns[0].at if turns else None)


def session_diff(store: Store, user_id: str, session_id: str) -> SessionDiff:
    """Return what a session changed: P_old and P_new.

    Raises:
        UsageError: the user has no such session.
    """
    if session_id not in store.session_ids(user_id):
        raise UsageError(f"expected a session of {user_id!r}, got {session_id!r}; list the sessions and name one of them")
    log = store.log(user_id)
    turns = store.turns(user_id, session_id)
    taught = tuple(TaughtTurn(turn, tuple(each.operation for each in log if each.said == turn.said)) for turn in turns)
    old = fold(each.operation for each in log if not turns or each.said < turns[0].said)
    new = old.apply(ProfileDelta(tuple(op for each in taught for op in each.operations)))
    return SessionDiff(session_id, taught, old, new)
