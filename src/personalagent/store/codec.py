"""Operations and profiles as JSON, exactly: what is read back equals what was written."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from personalagent.errors import DataError
from personalagent.profile import Profile, SlotOp

_PROFILE = TypeAdapter(Profile)
_OPERATION = TypeAdapter(SlotOp)
_OPERATIONS = TypeAdapter(tuple[SlotOp, ...])


def dump_profile(profile: Profile) -> str:
    """Write a profile as JSON; slots are in the order of their paths."""
    ordered = Profile({path: profile.slots[path] for path in sorted(profile.slots)}, profile.history)
    return _PROFILE.dump_json(ordered).decode()


def parse_profile(text: str) -> Profile:
    """Read a profile that ``dump_profile`` wrote.

    Raises:
        DataError: it is not one.
    """
    try:
        return _PROFILE.validate_json(text)
    except ValidationError as error:
        raise _refused("a profile", error) from None


def dump_operation(operation: SlotOp) -> str:
    """Write one operation as JSON."""
    return _OPERATION.dump_json(operation).decode()


def dump_operations(operations: Iterable[SlotOp]) -> str:
    """Write a log as a JSON array."""
    return _OPERATIONS.dump_json(tuple(operations)).decode()


def parse_operations(text: str) -> tuple[SlotOp, ...]:
    """Read a log that ``dump_operations`` wrote, or that someone wrote by hand.

    Raises:
        DataError: a field is missing or has an impossible value.
    """
    try:
        operations = _OPERATIONS.validate_json(text)
    except ValidationError as error:
        raise _refused("a list of slot operations", error) from None
    for index, operation in enumerate(operations):
        if operation.at.tzinfo is None:
            raise DataError(f"expected a time with a time zone in {index}.at, got one without; append 'Z' if it is UTC")
    return operations


def _refused(expected: str, error: ValidationError) -> DataError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "the text"
    return DataError(f"expected {expected}, got an error at {where}: {first['msg']}; correct it and try again")
