"""Memobase's calls about users, and about what they said: a blob is a session, each message of the user in it a turn."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Depends, Query, Request
from pydantic import ValidationError

from personalagent.errors import PersonalAgentError
from personalagent.server.auth import Principal, Scope, require
from personalagent.server.memobase_learning import Flusher, said_in
from personalagent.server.memobase_wire import (
    BlobType,
    MemobaseAnswer,
    MemobaseBlob,
    MemobaseChat,
    MemobaseUser,
    Sayer,
    answer,
    memobase_router,
)
from personalagent.server.problem import NO_SUCH_USER, RestError
from personalagent.server.rest_access import Access, Reader, Writer
from personalagent.server.wire import MAX_TEXT
from personalagent.store import JobState, StoredTurn

router = memobase_router()

WaitProcess = Annotated[bool, Query(description="Whether to wait until everything the user said is inferred.")]
BufferState = Annotated[str, Query(pattern="^(idle|processing|done|failed)$", description="Which blobs.")]


@router.get("/healthcheck")
async def healthcheck(request: Request) -> MemobaseAnswer:
    """Say whether the server and its database work."""
    try:
        await asyncio.to_thread(request.app.state.agent.store.queue_depth)
    except PersonalAgentError:
        raise RestError(503, "expected the database to work, got an error; its operator finds the reason in the log") from None
    return answer()


@router.post("/users")
async def add_user(
    request: Request, principal: Annotated[Principal, Depends(require(Scope.PROFILE_WRITE))], user: MemobaseUser
) -> MemobaseAnswer:
    """Add a user, under the given id or a new one."""
    user_id = user.id or principal.user_id or str(uuid4())
    if principal.user_id not in (None, user_id):
        raise RestError(422, "expected the id of the user that the key speaks for, got another; use a service key for others")
    _check(user)
    store = request.app.state.agent.store.for_tenant(principal.tenant)
    if not await asyncio.to_thread(store.create_user, user_id, user.data):
        raise RestError(409, "expected a user who is new, got one who exists; read them with GET, or choose another id")
    return answer(id=user_id)


@router.get("/users/{user_id}")
async def get_user(reader: Reader) -> MemobaseAnswer:
    """Return the application's own data about the user."""
    account = await reader.store.read(reader.store.account, reader.user_id)
    if account is None:  # erased meanwhile
        raise RestError(404, NO_SUCH_USER)
    return answer(id=reader.user_id, data=account.data, created_at=account.created_at, updated_at=None)


@router.put("/users/{user_id}")
async def update_user(writer: Writer, user: MemobaseUser) -> MemobaseAnswer:
    """Keep the application's own data about the user, in place of what was kept before. Nothing is learned from it."""
    _check(user)
    await asyncio.to_thread(writer.store.set_user_data, writer.user_id, user.data)
    return answer(id=writer.user_id)


@router.delete("/users/{user_id}")
async def delete_user(writer: Writer) -> MemobaseAnswer:
    """Erase the user and everything about them, to the byte."""
    await asyncio.to_thread(writer.store.delete_user, writer.user_id)
    return answer()


@router.post("/blobs/insert/{user_id}")
async def insert_blob(request: Request, sayer: Sayer, blob: MemobaseBlob, wait_process: WaitProcess = False) -> MemobaseAnswer:
    """Keep a chat as a session and queue what the user said in it to be inferred; what the assistant said teaches nothing."""
    if blob.blob_type is not BlobType.CHAT:
        raise RestError(
            501,
            f"expected a chat, got a blob of type {blob.blob_type.value!r}; send what the user said, for only that is learned from",
        )
    if blob.fields:
        raise RestError(501, "expected a blob without fields, got some, and they would not be kept; leave `fields` out")
    try:
        chat = MemobaseChat.model_validate(blob.blob_data)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()}))
        raise RestError(
            422, f"expected `blob_data` with 1 to 1000 `messages` of role user or assistant, got another at {where}; correct it"
        ) from None
    session_id = str(uuid4())
    flusher: Flusher = request.app.state.flusher
    await flusher.keep(sayer, session_id, said_in(chat.messages, blob.created_at or datetime.now(UTC)))
    if wait_process:
        await flusher.flush(sayer, kept=f" The blob is kept as {session_id}: do not send it again.")
    return answer(id=session_id)


@router.post("/users/buffer/{user_id}/{blob_type}")
async def flush_buffer(request: Request, sayer: Sayer, blob_type: BlobType, wait_process: WaitProcess = False) -> MemobaseAnswer:
    """Infer what the user said and was not inferred yet, also what was given up before."""
    flusher: Flusher = request.app.state.flusher
    if blob_type is BlobType.CHAT:
        await flusher.revive(sayer)
        if wait_process:
            await flusher.flush(sayer)
    return answer()


@router.get("/users/buffer/capacity/{user_id}/{blob_type}")
async def get_buffer(reader: Reader, blob_type: BlobType, status: BufferState = "idle") -> MemobaseAnswer:
    """Return the blobs that wait to be inferred (idle), are being inferred, were given up (failed), or are done."""
    waiting = await reader.store.read(reader.store.pending_turns, reader.user_id)
    pending = list(dict.fromkeys(turn.session_id for turn in waiting))
    if blob_type is not BlobType.CHAT:
        found: list[str] = []
    elif status == "done":
        sessions = await reader.store.read(reader.store.session_ids, reader.user_id)
        found = [session_id for session_id in sessions if session_id not in pending]
    else:
        found = pending if status == await _job_status(reader) else []
    return answer(ids=found)


@router.get("/users/blobs/{user_id}/{blob_type}")
async def list_blobs(
    reader: Reader,
    blob_type: BlobType,
    page: Annotated[int, Query(ge=0, description="From 0.")] = 0,
    page_size: Annotated[int, Query(ge=1, le=1000, description="Ids of a page.")] = 10,
) -> MemobaseAnswer:
    """Return the user's blobs, oldest first: every session, whichever way it came. There are only chats."""
    ids = await reader.store.read(reader.store.session_ids, reader.user_id) if blob_type is BlobType.CHAT else ()
    return answer(ids=list(ids[page * page_size : (page + 1) * page_size]))


@router.get("/blobs/{user_id}/{blob_id}")
async def get_blob(reader: Reader, blob_id: str) -> MemobaseAnswer:
    """Return what is kept of a blob: the user's messages and the answers to them, without words that were erased since."""
    if blob_id not in await reader.store.read(reader.store.session_ids, reader.user_id):
        raise RestError(404, "expected a blob of this user, got no such blob; check the id")
    turns = await reader.store.read(reader.store.turns, reader.user_id, blob_id)
    return answer(
        blob_type=BlobType.CHAT,
        blob_data={"messages": [message for turn in turns for message in _messages(turn)]},
        fields=None,
        created_at=turns[0].at if turns else None,
        updated_at=turns[-1].at if turns else None,
    )


def _messages(turn: StoredTurn) -> list[dict[str, Any]]:
    said = (("user", turn.utterance), ("assistant", turn.response))
    return [{"role": role, "content": text, "created_at": turn.at.isoformat()} for role, text in said if text]


async def _job_status(reader: Access) -> str:
    names = {JobState.QUEUED: "idle", JobState.RUNNING: "processing", JobState.DEAD: "failed"}
    jobs = await reader.store.read(reader.store.jobs)
    mine = [job for job in jobs if (job.tenant, job.user_id) == (reader.principal.tenant, reader.user_id)]
    return names[mine[0].state] if mine else "idle"


def _check(user: MemobaseUser) -> None:
    if (length := len(json.dumps(user.data))) > MAX_TEXT:
        raise RestError(422, f"expected `data` of at most {MAX_TEXT} characters in JSON, got {length}; send less")
