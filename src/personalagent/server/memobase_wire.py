"""The HTTP shapes of the Memobase layer: its envelope, what its clients send, and errors as they read them.

Every answer is ``{"data", "errno", "errmsg"}``. An error is HTTP 200 with an ``errno`` that is an HTTP status, since the clients take any
other HTTP status for a server that is broken; only 401, 403 and 429 are HTTP statuses as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from personalagent.server.auth import Scope
from personalagent.server.problem import problem_of
from personalagent.server.rest_access import Access, access
from personalagent.server.wire import MAX_TEXT, Text, example
from personalagent.store.rows import MAX_ID

PREFIX = "/api/v1"
_HTTP_ERRORS = (401, 403, 429)
_ENTRY: dict[str, Any] = {
    "id": "6a4e4a6e-3a3c-5d0e-9b7d-2b1a3c4d5e6f",
    "content": "Thai (like); Ethiopian",
    "attributes": {"topic": "diet", "sub_topic": "cuisines"},
    "created_at": "2026-03-01T12:00:00Z",
    "updated_at": "2026-03-02T09:00:00Z",
}

Sayer = Annotated[Access, Depends(access(Scope.CHAT))]
"""Who may let a user say something."""


class BlobType(StrEnum):
    """Kinds of blobs; only chats are kept here."""

    CHAT = "chat"
    SUMMARY = "summary"
    DOC = "doc"
    IMAGE = "image"
    CODE = "code"
    TRANSCRIPT = "transcript"


class MemobaseAnswer(BaseModel):
    """What every route answers."""

    model_config = example(data={"id": "alice"}, errno=0, errmsg="")

    data: dict[str, Any] | None = None
    """Null for an error, and where there is nothing to say."""
    errno: int = 0
    """0, or the HTTP status that fits the error."""
    errmsg: str = ""
    """What was expected, what came, what to do."""


class MemobaseUser(BaseModel):
    """A user to add or to change. Unknown fields are ignored, as they are there."""

    model_config = example(id="7b1f1a52-0c1c-4c58-a1c5-5b7c7a3f5f10", data=None)

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)] | None = None
    """A new UUID where none is given."""
    data: dict[str, Any] | None = None
    """Data of the application's own."""


class MemobaseMessage(BaseModel):
    """One message of a chat."""

    model_config = example(role="user", content="I'm vegan", created_at="2026-03-01T12:00:00Z")

    role: Literal["user", "assistant"]
    content: str = Field(max_length=MAX_TEXT)
    alias: str | None = None
    """Not kept."""
    created_at: str | None = None
    """When it was said, in ISO 8601, taken as UTC where it names no zone; any other text is not kept."""


class MemobaseBlob(BaseModel):
    """What a user said."""

    model_config = example(blob_type="chat", blob_data={"messages": [{"role": "user", "content": "I'm vegan"}]})

    blob_type: BlobType
    blob_data: dict[str, Any]
    """For a chat: ``messages``."""
    fields: dict[str, Any] | None = None
    created_at: datetime | None = None
    """When messages were said that have no time of their own."""


class MemobaseChat(BaseModel):
    """What a chat blob has in it."""

    messages: list[MemobaseMessage] = Field(min_length=1, max_length=1000)


class MemobaseAttributes(BaseModel):
    """Where in a profile an entry stands."""

    model_config = example(topic="diet", sub_topic="cuisines")

    topic: Text
    """A group of the schema."""
    sub_topic: Text
    """A slot of it."""


class MemobaseEntry(BaseModel):
    """A slot's new content."""

    model_config = example(content="Thai (like); Ethiopian", attributes={"topic": "diet", "sub_topic": "cuisines"})

    content: Text
    attributes: MemobaseAttributes


class MemobaseConfig(BaseModel):
    """A profile config in YAML."""

    model_config = example(profile_config="overwrite_user_profiles: []")

    profile_config: str


ENTRIES_EXAMPLE: dict[str, Any] = {"data": {"profiles": [_ENTRY]}, "errno": 0, "errmsg": ""}


def answer(**data: Any) -> MemobaseAnswer:
    """Return an answer; without data, that something was done."""
    return MemobaseAnswer(data=data or None)


class EnvelopeRoute(APIRoute):
    """A route whose errors are in the envelope, those of its dependencies included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler with its errors answered."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # the HTTP edge: whatever happens is answered and recorded
                return _envelope_of(error)

        return answered


def _envelope_of(error: Exception) -> Response:
    found = problem_of(error)
    document = json.loads(bytes(found.body))
    wrong = "; ".join(f"{each['where']}: {each['expected']}" for each in document.get("errors", ()))
    body = MemobaseAnswer(errno=found.status_code, errmsg=f"{document['detail']}{f' ({wrong})' if wrong else ''}")
    is_http = found.status_code in _HTTP_ERRORS
    headers = {name: text for name, text in found.headers.items() if not name.startswith("content-")}
    return JSONResponse(body.model_dump(), found.status_code if is_http else 200, headers)


def memobase_router() -> APIRouter:
    """Return a router of the layer."""
    return APIRouter(prefix=PREFIX, tags=["memobase"], route_class=EnvelopeRoute)
