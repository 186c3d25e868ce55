"""A profile that can be carried: what ``profile export`` and GET ``/export`` write, and ``import`` reads."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from personalagent.errors import DataError, SchemaError
from personalagent.profile import OpKind, SlotOp, Source
from personalagent.schema import ProfileSchema
from personalagent.store import Store, dump_operations, parse_operations

FORMAT = "personalagent.profile/1"
"""What an exported profile says it is."""


def export_document(store: Store, user_id: str, *, at: datetime) -> dict[str, object]:
    """Return everything that is kept about a user: the log, which ``import`` reads, and what was said, asked and allowed."""
    trained_on = store.training_consent(user_id)
    account = store.account(user_id)
    return {
        "format": FORMAT,
        "user_id": user_id,
        "exported_at": at.isoformat(timespec="seconds"),
        "operations": json.loads(dump_operations(store.operations(user_id))),
        "turns": [
            {
                "session_id": turn.session_id,
                "turn_index": turn.turn_index,
                "at": turn.at.isoformat(),
                "utterance": turn.utterance,
                "response": turn.response,
                "inference": turn.inference.value,
            }
            for turn in store.turns(user_id)
        ],
        "asks": [
            {"session_id": ask.session_id, "slot": ask.path, "state": ask.state.value, "at": ask.at.isoformat()}
            for ask in store.asks(user_id)
        ],
        "consents": store.consents(user_id),
        "training_consent_at": trained_on and trained_on.isoformat(),
        "data": account and account.data,
    }


def parse_export(text: str) -> tuple[SlotOp, ...]:
    """Read the operations of an exported profile.

    Raises:
        DataError: it is something else, or damaged.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("expected an exported profile in JSON, got text that does not parse; export it again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        got = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise DataError(f"expected an exported profile (format {FORMAT!r}), got {got!r}; export the profile again")
    return parse_operations(json.dumps(document.get("operations")))


def imported_operations(operations: tuple[SlotOp, ...], schema: ProfileSchema) -> tuple[SlotOp, ...]:
    """Return the operations as an import appends them: of this schema's slots, their source ``imported``.

    What was forgotten left nothing in the log but a mark, which is not carried on.

    Raises:
        SchemaError: the schema has no such slot.
    """
    return tuple(_imported(op, schema) for op in operations if op.op is not OpKind.FORGET)


def _imported(op: SlotOp, schema: ProfileSchema) -> SlotOp:
    slot = schema.find(op.path)
    if slot is None:
        raise SchemaError(
            f"expected slots of this schema, got {op.path!r} in the export; add it to your schema_file, or remove those operations"
        )
    return replace(op, path=slot.path, source=Source.IMPORTED, cardinality=slot.cardinality)
