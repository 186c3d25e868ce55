"""Changes by the user's own hand, as operations: every door makes them here."""

from __future__ import annotations

from datetime import datetime

from personalagent.errors import UsageError
from personalagent.inference import normalise
from personalagent.profile import OpKind, Polarity, Profile, SlotOp, SlotValue, Source, is_same_value
from personalagent.schema import ProfileSchema

INFERRED = frozenset({Source.STATED, Source.IMPLIED})


def setting(schema: ProfileSchema, path: str, value: str, *, polarity: Polarity, at: datetime) -> SlotOp:
    """Return the operation that sets a value; in a slot of one value it replaces the old one.

    Raises:
        SchemaError: the schema has no such slot.
        UsageError: the value is not one of the slot's type.
    """
    slot = schema.slot(path)
    normal = normalise(value, slot)
    if normal is None:
        allowed = f"one of {', '.join(slot.values)}" if slot.values else f"a value of type {slot.type}"
        raise UsageError(f"expected {allowed} for {slot.path}, got {value!r}; give such a value, or forget the slot")
    return SlotOp(OpKind.ADD, slot.path, normal, at, polarity, Source.EDITED, slot.cardinality)


def unconfirmed(profile: Profile) -> tuple[SlotValue, ...]:
    """Return the values that were inferred and that the user neither repeated nor confirmed nor edited since."""
    return tuple(value for value in profile if value.source in INFERRED and value.confirmed_at is None)


def reviewing(schema: ProfileSchema, profile: Profile, path: str, value: str, *, is_right: bool, at: datetime) -> SlotOp:
    """Return the operation that confirms an inferred value or takes it back; nothing is erased by it.

    Raises:
        SchemaError: the schema has no such slot.
        UsageError: the profile does not hold the value.
    """
    slot = schema.slot(path)
    held = next((each for each in profile.values(slot.path) if is_same_value(each.value, value)), None)
    if held is None:
        raise UsageError(f"expected a value that the profile holds in {slot.path}, got {value!r}; read the review queue again")
    kind = OpKind.CONFIRM if is_right else OpKind.RETRACT
    return SlotOp(kind, slot.path, held.value, at, held.polarity, Source.EDITED, slot.cardinality)
