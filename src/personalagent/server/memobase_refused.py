"""Memobase's calls that this server cannot answer: each says so, and what there is instead. Nothing is pretended."""

from __future__ import annotations

import re

from fastapi import APIRouter, Depends

from personalagent.server.auth import Scope, require
from personalagent.server.memobase_wire import MemobaseAnswer, memobase_router
from personalagent.server.problem import RestError

_EVENTS = "events, and none are kept; a session's changes are at GET /v1/users/{user_id}/sessions/{session_id}"
_USAGE = "the usage of a project, and tokens are not counted; GET /metrics counts requests and inferences"
_PARAMETER = {"in": "path", "required": True, "schema": {"type": "string"}}
REFUSED: tuple[tuple[str, str, Scope, str], ...] = (
    (
        "POST",
        "/project/profile_config",
        Scope.ADMIN,
        "a new config, and it is fixed while the server runs; add to the schema with the setting schema_file",
    ),
    ("GET", "/project/billing", Scope.PROFILE_READ, _USAGE),
    ("GET", "/project/usage", Scope.PROFILE_READ, _USAGE),
    ("GET", "/project/users", Scope.PROFILE_READ, "a list of all users, and none is given out; name the users you know"),
    (
        "DELETE",
        "/blobs/{user_id}/{blob_id}",
        Scope.PROFILE_WRITE,
        "the erasure of one blob, and what it taught would stay; delete entries of the profile, or the user",
    ),
    ("GET", "/users/event/{user_id}", Scope.PROFILE_READ, _EVENTS),
    ("PUT", "/users/event/{user_id}/{event_id}", Scope.PROFILE_WRITE, _EVENTS),
    ("DELETE", "/users/event/{user_id}/{event_id}", Scope.PROFILE_WRITE, _EVENTS),
    ("GET", "/users/event/search/{user_id}", Scope.PROFILE_READ, _EVENTS),
    ("GET", "/users/event_gist/search/{user_id}", Scope.PROFILE_READ, _EVENTS),
    ("GET", "/users/event_tags/search/{user_id}", Scope.PROFILE_READ, _EVENTS),
)
"""Method, path, the scope that it takes all the same, and what it is about, why it is not there, and what to do."""


def refused_router() -> APIRouter:
    """Return the router of the calls that are refused."""
    router = memobase_router()
    for call in REFUSED:
        _add(router, *call)
    return router


def _add(router: APIRouter, method: str, path: str, scope: Scope, about: str) -> None:
    message = f"expected a call that this server supports, got one about {about}"

    async def refuse() -> MemobaseAnswer:
        raise RestError(501, message)

    router.add_api_route(
        path,
        refuse,
        methods=[method],
        name=f"refuse {method} {path}",
        summary="Not supported",
        description=f"Always errno 501: {message}.",
        dependencies=[Depends(require(scope))],
        openapi_extra={"parameters": [_PARAMETER | {"name": each} for each in re.findall(r"{(\w+)}", path)]},
    )
