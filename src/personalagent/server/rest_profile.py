"""REST: the profile of a user, its history, its review queue, and how to correct it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from fastapi import Body, Header, Path, Query, Response

from personalagent.edits import reviewing, setting, unconfirmed
from personalagent.errors import UsageError
from personalagent.json_forms import profile_json, value_json
from personalagent.profile import ProfileDelta, SlotOp
from personalagent.server import wire
from personalagent.server.idempotency import Once
from personalagent.server.rest_access import (
    Access,
    Cursor,
    IfMatch,
    Limit,
    NewWriter,
    Reader,
    Writer,
    etag,
    expected_version,
    read_cursor,
    rest_router,
    write_cursor,
)

router = rest_router("profile")

SlotPath = Annotated[str, Path(description="`category.group.slot`, or `group.slot`.", examples=["diet.cuisines"])]
IfNoneMatch = Annotated[str | None, Header(description="The ETag that the client has; 304 where nothing changed since.")]


async def profile_now(access: Access) -> wire.Profile:
    """Return the profile as it is; the version is read first, so that a client never has a version newer than its values."""
    version = await access.version()
    profile = await access.agent.profile(access.user_id)
    return wire.Profile.model_validate(profile_json(access.user_id, profile) | {"profile_version": version})


@router.get("/profile", response_model=wire.Profile, responses={304: {"description": "Nothing changed."}})
async def get_profile(reader: Reader, response: Response, if_none_match: IfNoneMatch = None) -> object:
    """Return what is known about the user, with the words that prove it."""
    found = await profile_now(reader)
    if if_none_match is not None and if_none_match.strip() == etag(found.profile_version):
        return Response(status_code=304, headers={"ETag": etag(found.profile_version)})
    response.headers["ETag"] = etag(found.profile_version)
    return found


@router.patch("/profile", response_model=wire.Change)
async def patch_profile(writer: NewWriter, once: Once, patch: wire.ProfilePatch, if_match: IfMatch = None) -> Response:
    """Set values by the user's own hand, then erase values; the user is created where they are new."""

    async def change() -> wire.Change:
        at = datetime.now(UTC)
        schema, store, user_id = writer.agent.schema, writer.store, writer.user_id
        operations = tuple(setting(schema, each.slot, each.value, polarity=each.polarity, at=at) for each in patch.set)
        paths = [schema.slot(each.slot).path for each in patch.forget]
        expected = expected_version(if_match)
        erased = 0
        if not operations and not paths:
            raise UsageError("expected values to set or to forget, got neither; name at least one")
        if operations:
            if expected is None:
                await asyncio.to_thread(store.ensure_user, user_id)
            await asyncio.to_thread(store.edit, user_id, ProfileDelta(operations), expected_version=expected)
            expected = None
        for path, each in zip(paths, patch.forget, strict=True):
            done = await asyncio.to_thread(store.forget, user_id, path, each.value, at=at, expected_version=expected)
            erased, expected = erased + done.operations, None
        return await _changed(writer, operations, erased)

    return await once(writer, change)


@router.delete("/profile/{slot}", response_model=wire.Erased)
async def delete_slot(
    writer: Writer,
    once: Once,
    slot: SlotPath,
    value: Annotated[str, Query(description="Only this value of the slot.")] = "",
    if_match: IfMatch = None,
) -> Response:
    """Erase a slot, or one value of it, to the byte, as if it had never been said."""

    async def erase() -> wire.Erased:
        path = writer.agent.schema.slot(slot).path
        done = await asyncio.to_thread(
            writer.store.forget, writer.user_id, path, value, at=datetime.now(UTC), expected_version=expected_version(if_match)
        )
        return wire.Erased(
            profile_version=await writer.version(),
            operations=done.operations,
            turns=done.turns,
            also_in=list(done.also_in),
            is_scrubbed=done.is_scrubbed,
        )

    return await once(writer, erase)


@router.get("/history", response_model=wire.History)
async def get_history(
    reader: Reader,
    limit: Limit = 100,
    cursor: Cursor = None,
    slot: Annotated[str | None, Query(description="Only this slot.")] = None,
) -> wire.History:
    """Return every change of the profile, oldest first, page by page."""
    path = reader.agent.schema.slot(slot).path if slot else None
    after = tuple(int(part) for part in read_cursor(cursor, parts=2)) if cursor else (-1, -1)
    log = await asyncio.to_thread(reader.store.log, reader.user_id)
    rest = (entry for entry in log if (entry.said, entry.position) > after and (path is None or entry.operation.path == path))
    page = list(islice(rest, limit + 1))
    last = page[limit - 1] if len(page) > limit else None
    return wire.History(
        operations=[wire.LoggedOperation.of_entry(entry) for entry in page[:limit]],
        next_cursor=write_cursor(last.said, last.position) if last else None,
    )


@router.post("/undo", response_model=wire.Change)
async def undo(writer: Writer, once: Once) -> Response:
    """Take back the last change of the profile by appending what undoes it; what was erased does not come back."""

    async def take_back() -> wire.Change:
        commit = await asyncio.to_thread(writer.store.undo, writer.user_id)
        return await _changed(writer, commit.operations)

    return await once(writer, take_back)


@router.get("/review", response_model=wire.ReviewQueue)
async def get_review(reader: Reader) -> wire.ReviewQueue:
    """Return what was inferred and not yet confirmed, for the user to go over."""
    version = await reader.version()
    values = unconfirmed(await reader.agent.profile(reader.user_id))
    return wire.ReviewQueue(
        user_id=reader.user_id,
        profile_version=version,
        values=[wire.SlotValue.model_validate(value_json(value)) for value in values],
    )


@router.post("/review", response_model=wire.Change)
async def post_review(writer: Writer, once: Once, review: Annotated[wire.Review, Body()], if_match: IfMatch = None) -> Response:
    """Confirm or reject inferred values; what is rejected no longer holds, but is not erased."""

    async def judge() -> wire.Change:
        at = datetime.now(UTC)
        profile = await writer.agent.profile(writer.user_id)
        operations = tuple(
            reviewing(writer.agent.schema, profile, each.slot, each.value, is_right=each.verdict == "confirm", at=at)
            for each in review.verdicts
        )
        expected = expected_version(if_match)
        await asyncio.to_thread(writer.store.edit, writer.user_id, ProfileDelta(operations), expected_version=expected)
        return await _changed(writer, operations)

    return await once(writer, judge)


async def _changed(writer: Access, operations: tuple[SlotOp, ...], erased: int = 0) -> wire.Change:
    return wire.Change(
        profile_version=await writer.version(), operations=[wire.Operation.of(op) for op in operations], erased=erased
    )
