"""Profiles, operations and assessments as plain JSON values: the same from every door."""

from __future__ import annotations

from personalagent.profile import Profile, SlotOp, SlotValue
from personalagent.sessions import SessionDiff
from personalagent.sufficiency import Assessment


def operation_json(op: SlotOp) -> dict[str, object]:
    """Return what an operation changes and the words that prove it."""
    quote = op.evidence.quote if op.evidence else None
    return {"slot": op.path, "value": op.value, "polarity": op.polarity, "op": op.op, "quote": quote}


def value_json(value: SlotValue) -> dict[str, object]:
    """Return a slot value with everything that is known about it."""
    return {
        "slot": value.path,
        "value": value.value,
        "polarity": value.polarity,
        "source": value.source,
        "observed_at": value.observed_at,
        "confirmed_at": value.confirmed_at,
        "valid_to": value.valid_to,
        "evidence": [{"quote": e.quote, "session_id": e.session_id, "turn_index": e.turn_index} for e in value.evidence],
    }


def profile_json(user_id: str, profile: Profile) -> dict[str, object]:
    """Return the open values of a profile, and those that were closed."""
    return {
        "user_id": user_id,
        "profile": [value_json(value) for value in profile],
        "history": [value_json(value) for value in profile.history],
    }


def assessment_json(user_id: str, assessment: Assessment) -> dict[str, object]:
    """Return an assessment with its reasons."""
    return {
        "user_id": user_id,
        "request": assessment.request,
        "needs": list(assessment.needs),
        "probabilities": list(assessment.probabilities),
        "known": [value_json(value) for value in assessment.known],
        "stale": [value_json(value) for value in assessment.stale],
        "missing": list(assessment.missing),
        "decision": assessment.decision,
        "ask_for": assessment.ask_for,
        "question": assessment.question,
        "not_asked": [{"slot": path, "reason": why} for path, why in assessment.not_asked],
        "reasons": list(assessment.reasons),
        "outcome": assessment.outcome,
    }


def diff_json(user_id: str, diff: SessionDiff) -> dict[str, object]:
    """Return a session's turns with what each taught, and the profile before and after (P_old, P_new)."""
    return {
        "user_id": user_id,
        "session_id": diff.session_id,
        "turns": [
            {
                "turn_index": taught.turn.turn_index,
                "at": taught.turn.at,
                "utterance": taught.turn.utterance,
                "response": taught.turn.response,
                "inference": taught.turn.inference,
                "operations": [operation_json(op) for op in taught.operations],
            }
            for taught in diff.turns
        ],
        "old": [value_json(value) for value in diff.old],
        "new": [value_json(value) for value in diff.new],
        "added": [value_json(value) for value in diff.added],
        "removed": [value_json(value) for value in diff.removed],
        "changed": [{"before": value_json(old), "after": value_json(new)} for old, new in diff.changed],
    }
