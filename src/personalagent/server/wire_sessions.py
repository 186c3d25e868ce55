"""The HTTP shapes of sessions and of what they changed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from personalagent.profile import OpKind, Polarity
from personalagent.server.wire import VALUE_EXAMPLE, SlotValue, example


class Session(BaseModel):
    """A session in a list."""

    model_config = example(session_id="s1", turns=4, not_reviewed=4, reviewed_at=None, started_at="2026-03-01T12:00:00Z")

    session_id: str
    turns: int
    not_reviewed: int
    reviewed_at: datetime | None
    started_at: datetime | None


class Sessions(BaseModel):
    """A page of a user's sessions, oldest first."""

    model_config = example(
        sessions=[{"session_id": "s1", "turns": 4, "not_reviewed": 4, "reviewed_at": None, "started_at": "2026-03-01T12:00:00Z"}],
        next_cursor=None,
    )

    sessions: list[Session]
    next_cursor: str | None


class TaughtOperation(BaseModel):
    """What a turn taught, with the words that prove it."""

    model_config = example(
        slot="consumption_lifestyle.diet.cuisines", value="Thai", polarity="like", op="add", quote="I love Thai food"
    )

    slot: str
    value: str
    polarity: Polarity
    op: OpKind
    quote: str | None


class Turn(BaseModel):
    """One turn of a session, with what it taught."""

    model_config = example(
        turn_index=0, at="2026-03-01T12:00:00Z", utterance="I love Thai food", response="Noted.", inference="done", operations=[]
    )

    turn_index: int
    at: datetime
    utterance: str
    response: str | None
    inference: Literal["pending", "done"]
    operations: list[TaughtOperation]


class Changed(BaseModel):
    """A value that holds before and after a session, and how it changed."""

    model_config = example(before=VALUE_EXAMPLE, after={**VALUE_EXAMPLE, "confirmed_at": "2026-03-02T09:00:00Z"})

    before: SlotValue
    after: SlotValue


class SessionDiff(BaseModel):
    """A session, and the profile before and after what it taught (P_old, P_new)."""

    model_config = example(
        user_id="alice", session_id="s1", turns=[], old=[], new=[VALUE_EXAMPLE], added=[VALUE_EXAMPLE], removed=[], changed=[]
    )

    user_id: str
    session_id: str
    turns: list[Turn]
    old: list[SlotValue]
    new: list[SlotValue]
    added: list[SlotValue]
    removed: list[SlotValue]
    changed: list[Changed]
