"""What the store hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

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
