"""REST: a user as a whole: consents, export, import, erasure, and what a request of theirs needs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Response

from personalagent.json_forms import assessment_json
from personalagent.portable import export_document, imported_operations, parse_export
from personalagent.profile import ProfileDelta
from personalagent.server import wire
from personalagent.server.idempotency import Once
from personalagent.server.rest_access import Access, NewWriter, Reader, Writer, rest_router

router = rest_router("user")

TRAINING = "training"
"""Stands among the categories for the consent to train on what was said."""


async def _consents(access: Access) -> wire.Consents:
    asked = await asyncio.to_thread(access.store.consents, access.user_id)
    training = await asyncio.to_thread(access.store.training_consent, access.user_id)
    return wire.Consents(
        user_id=access.user_id,
        categories={category.id: asked.get(category.id) for category in access.agent.schema.categories},
        training=training is not None,
    )


@router.get("/consents", response_model=wire.Consents)
async def get_consents(reader: Reader) -> wire.Consents:
    """Return which sensitive facts may be kept, and whether training on what was said is allowed."""
    return await _consents(reader)


@router.put("/consents/{category}", response_model=wire.Consents)
async def put_consent(
    writer: NewWriter,
    category: Annotated[str, Path(description="A category of the schema, or `training`.", examples=["health_wellbeing"])],
    consent: wire.Consent,
) -> wire.Consents:
    """Give a consent or take it back; it holds from the next turn on. The user is created where they are new."""
    if category == TRAINING:
        await asyncio.to_thread(writer.store.ensure_user, writer.user_id)
        await asyncio.to_thread(writer.store.set_training_consent, writer.user_id, is_granted=consent.is_granted)
    elif consent.is_granted:
        await writer.agent.grant(writer.user_id, category)
    else:
        await writer.agent.deny(writer.user_id, category)
    return await _consents(writer)


@router.get("/export", response_model=wire.Export)
async def get_export(reader: Reader) -> wire.Export:
    """Return everything that is kept about the user; POST /import reads it, here or in another database."""
    document = await asyncio.to_thread(export_document, reader.store, reader.user_id, at=datetime.now(UTC))
    return wire.Export.model_validate(document)


@router.post("/import", response_model=wire.Change)
async def post_import(writer: NewWriter, once: Once, export: wire.Export) -> Response:
    """Add an exported profile to the user's: all of it or nothing. The user is created where they are new."""

    async def add() -> wire.Change:
        operations = imported_operations(parse_export(export.model_dump_json()), writer.agent.schema)
        await asyncio.to_thread(writer.store.ensure_user, writer.user_id)
        await asyncio.to_thread(writer.store.edit, writer.user_id, ProfileDelta(operations))
        version = await writer.version()
        return wire.Change(profile_version=version, operations=[wire.Operation.of(op) for op in operations])

    return await once(writer, add)


@router.delete("", status_code=204)
async def erase_user(writer: Writer) -> Response:
    """Erase the user and everything about them, to the byte; a repetition finds nobody and answers 404."""
    await asyncio.to_thread(writer.store.delete_user, writer.user_id)
    return Response(status_code=204)


@router.post("/assess", response_model=wire.Assessment)
async def post_assess(reader: Reader, asked: wire.AssessRequest) -> wire.Assessment:
    """Decide whether what is known is enough for a request, and what to ask if it is not; nothing is answered or kept."""
    assessment = await reader.agent.assess(reader.user_id, asked.request, session_id=asked.session_id)
    return wire.Assessment.model_validate(assessment_json(reader.user_id, assessment))
