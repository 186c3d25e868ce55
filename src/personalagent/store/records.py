"""What the store hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from personalagent.profile import Profile, SlotOp


class InferenceState(StrEnum):
    """Whether a turn has been inferred."""

    PENDING = "pending"
    DONE = "done"


EVERY_SLOT = "*"
"""Stands for the slot where the user wants no questions at all (declined), or takes that back (answered)."""


class AskState(StrEnum):
    """What became of a clarifying question."""

    ASKED = "asked"
    ANSWERED = "answered"
    DECLINED = "declined"
    UNANSWERED = "unanswered"
    """The user went on with something else."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user, without what is known about them."""

    created_at: datetime
    data: dict[str, Any] | None
    """The application's own, in JSON."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn as it is on disk."""

    session_id: str
    turn_index: int
    said: int
    """Place in the order of what the user said, edits included."""
    utterance: str
    response: str | None
    at: datetime
    inference: InferenceState
    attempts: int
    """How often inference was given up so far."""
    reason: str | None
    """Why it was given up last."""
    is_redacted: bool
    """Whether forgotten words were taken out of it."""
    has_withheld: bool = False
    """Whether inference left out something sensitive for want of consent; not what."""


@dataclass(frozen=True, slots=True)
class SlotAsk:
    """A slot that was asked for in a session."""

    session_id: str
    path: str
    """The slot, or ``EVERY_SLOT``."""
    state: AskState
    at: datetime


@dataclass(frozen=True, slots=True)
class Commit:
    """What a turn or an edit changed."""

    profile: Profile
    """The profile afterwards, with what other sessions wrote meanwhile."""
    operations: tuple[SlotOp, ...]
    outdated: tuple[SlotOp, ...] = ()
    """Left out: the user told the agent to forget something of that slot after saying this."""
    is_repeat: bool = False
    """The turn had been committed before; ``operations`` are those of the first time."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What ``forget`` erased."""

    operations: int
    turns: int
    """Turns whose text was removed or masked."""
    also_in: tuple[str, ...]
    """Slots that still hold the same words in a value; they are other facts."""
    is_scrubbed: bool
    """Whether the bytes are gone from disk now; if not, another process reads: they go at the next open or forget."""


class JobState(StrEnum):
    """Where the inference of a user's waiting turns stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DEAD = "dead"
    """It failed too often: it waits for ``personalagent jobs retry``."""


@dataclass(frozen=True, slots=True)
class Job:
    """All turns of one user that wait to be inferred: one job, so that they stay in order."""

    tenant: str
    user_id: str
    state: JobState
    attempts: int
    """Failed ones since the last success."""
    run_after: datetime
    enqueued_at: datetime
    leased_until: datetime | None
    worker: str | None
    reason: str | None
    """Why it failed last."""
    pending: int
    """Turns."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the server, without its secret, which is kept nowhere."""

    key_id: str
    tenant: str
    scopes: tuple[str, ...]
    user_id: str | None
    """The only user that the key speaks for; None for a service key."""
    name: str
    prefix: str
    """The first characters of the secret, by which people recognise it."""
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None
    rate_limit: str | None = None
    """Requests in a unit of time, e.g. ``60/minute``, or ``none``; None where the server's own setting holds."""
    quota: str | None = None
    """The same for a longer time."""


class KeyState(StrEnum):
    """What an idempotency key stands for."""

    NEW = "new"
    IN_FLIGHT = "in_flight"
    OTHER_REQUEST = "other_request"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of claiming an idempotency key."""

    state: KeyState
    answer: str | None = None
