"""A turn as the agent plays it, in one call."""

from __future__ import annotations

from personalagent.profile import Cardinality, Evidence, OpKind, Polarity, ProfileDelta, SlotOp, Source
from personalagent.store import Commit, Store
from tests.strategies import NOON

CITY, LIKES = "basics.place.city", "food.taste.likes"


def learned(path: str, value: str, quote: str, session_id: str, turn_index: int, kind: OpKind = OpKind.ADD) -> SlotOp:
    """An operation as inference makes it."""
    cardinality = Cardinality.ONE if path == CITY else Cardinality.MANY
    evidence = Evidence(quote, session_id, turn_index)
    return SlotOp(kind, path, value, NOON, Polarity.NEUTRAL, Source.STATED, cardinality, evidence)


def edited(path: str, value: str, kind: OpKind = OpKind.ADD) -> ProfileDelta:
    """An edit by the user's own hand."""
    cardinality = Cardinality.ONE if path == CITY else Cardinality.MANY
    return ProfileDelta((SlotOp(kind, path, value, NOON, Polarity.NEUTRAL, Source.EDITED, cardinality),))


def play(
    store: Store, said: str, *facts: tuple[str, str], kind: OpKind = OpKind.ADD, user_id: str = "alice", session_id: str = "s1"
) -> Commit:
    """Say something that reveals (path, value) pairs, and be answered; the quote is all that was said."""
    store.start_session(user_id, session_id)
    turn_index = store.append_turn(user_id, session_id, said)
    operations = tuple(learned(path, value, said, session_id, turn_index, kind) for path, value in facts)
    commit = store.commit_delta(user_id, session_id, turn_index, ProfileDelta(operations))
    store.set_response(user_id, session_id, turn_index, f"You said: {said}")
    return commit
