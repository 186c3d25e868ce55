"""REST: the live profile as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

from personalagent.server.rest_access import Access, Reader, rest_router
from personalagent.server.rest_profile import profile_now

router = rest_router("events")

POLL_S = 0.5
"""How often the version is read: it also sees what other processes change."""


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "`event: profile`, `id:` the version, `data:` the profile as GET profile has it: at once, and after every "
            "change. `event: erased` is the last one, where the user was erased.",
            "content": {
                "text/event-stream": {"example": 'event: profile\nid: 7\ndata: {"user_id":"alice","profile_version":7}\n\n'}
            },
        }
    },
)
async def get_events(
    request: Request,
    reader: Reader,
    last_event_id: Annotated[
        str | None, Header(description="The last version that the client has; it is not sent again.")
    ] = None,
) -> EventSourceResponse:
    """Follow the user's profile as it changes."""
    return EventSourceResponse(_events(request, reader, last_event_id))


async def _events(request: Request, reader: Access, seen: str | None) -> AsyncIterator[ServerSentEvent]:
    while not (request.app.state.is_draining or await request.is_disconnected()):
        if not await reader.has_user():
            yield ServerSentEvent("{}", event="erased")
            return
        if str(await reader.version()) != seen:
            profile = await profile_now(reader)
            seen = str(profile.profile_version)
            yield ServerSentEvent(profile.model_dump_json(), event="profile", id=seen)
        await asyncio.sleep(POLL_S)
