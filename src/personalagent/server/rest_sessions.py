"""REST: the sessions of a user, and what each of them changed."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import Path

from personalagent.json_forms import diff_json
from personalagent.server import wire_sessions
from personalagent.server.problem import RestError
from personalagent.server.rest_access import Cursor, Limit, Reader, read_cursor, rest_router, write_cursor
from personalagent.sessions import session_diff, session_summary

router = rest_router("sessions")


@router.get("/sessions", response_model=wire_sessions.Sessions)
async def get_sessions(reader: Reader, limit: Limit = 100, cursor: Cursor = None) -> wire_sessions.Sessions:
    """Return the user's sessions, oldest first, page by page."""
    ids = await asyncio.to_thread(reader.store.session_ids, reader.user_id)
    start = 0
    if cursor:
        (last,) = read_cursor(cursor, parts=1)
        if last not in ids:
            raise RestError(422, "expected next_cursor of the page before, got one of no session; leave it out to start again")
        start = ids.index(last) + 1
    page = ids[start : start + limit]
    found = [await asyncio.to_thread(session_summary, reader.store, reader.user_id, each) for each in page]
    return wire_sessions.Sessions(
        sessions=[wire_sessions.Session(**asdict(each)) for each in found],
        next_cursor=write_cursor(page[-1]) if start + limit < len(ids) else None,
    )


@router.get("/sessions/{session_id:path}", response_model=wire_sessions.SessionDiff)
async def get_session(
    reader: Reader, session_id: Annotated[str, Path(description="The session's id.", examples=["s1"])]
) -> wire_sessions.SessionDiff:
    """Return a session's turns with what each taught, and the profile before and after (P_old, P_new)."""
    if session_id not in await asyncio.to_thread(reader.store.session_ids, reader.user_id):
        raise RestError(404, "expected a session of this user, got no such session; GET /sessions lists them")
    diff = await asyncio.to_thread(session_diff, reader.store, reader.user_id, session_id)
    return wire_sessions.SessionDiff.model_validate(diff_json(reader.user_id, diff))
