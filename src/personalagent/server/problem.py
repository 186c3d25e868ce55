"""Errors of the REST routes as RFC 9457 ``application/problem+json``.

Every problem says what was expected, what came and what to do; ``type`` is a URN that programs may compare.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from personalagent.errors import (
    Conflict,
    LLMError,
    LLMTimeout,
    ModelError,
    PersonalAgentError,
    StoreError,
    UsageError,
)
from personalagent.server.wire import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
NO_SUCH_USER = "expected a user that this key may see and of whom something is kept, got none of that id; check id and key"
"""The same for a user of another key, of another tenant, erased or never seen: it tells nothing about them."""
_log = logging.getLogger(__name__)
_NAMES = {
    400: "bad-request",
    401: "no-valid-key",
    403: "scope-missing",
    404: "not-found",
    409: "in-flight",
    412: "stale-version",
    413: "too-large",
    422: "invalid-input",
    429: "too-many",
    500: "failed",
    502: "model-failed",
    503: "unavailable",
    504: "model-too-slow",
}
_STATUS: tuple[tuple[type[PersonalAgentError], int, str], ...] = (
    (LLMTimeout, 504, "the model that infers to answer in time, got nothing"),
    (LLMError, 502, "the model that infers to answer, got an error"),
    (ModelError, 503, "the model to be there, got an error"),
    (StoreError, 503, "the database to work, got an error"),
    (PersonalAgentError, 500, "an answer, got an error inside the server"),
)
"""What is told of an error that is not the caller's: its own message may name files and hosts, so it goes to the log."""


class RestError(Exception):
    """A request that a REST route refuses for a reason of HTTP's own."""

    def __init__(self, status: int, detail: str, *, name: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.name = name


def problem(
    status: int, detail: str, *, name: str | None = None, headers: Mapping[str, str] | None = None, **more: object
) -> Response:
    """Return a problem document; ``more`` are its extension members."""
    body = {
        "type": f"urn:personalagent:problem:{name or _NAMES.get(status, 'failed')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    text = Problem.model_validate(body).model_dump_json(exclude_none=True)
    return Response(text, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Response:
    """Return the problem document of an exception; what is not the caller's is told in the log, one that nobody foresaw without its words."""
    if isinstance(error, RestError):
        return problem(error.status, error.detail, name=error.name)
    if isinstance(error, RequestValidationError):
        found = [{"where": ".".join(map(str, each["loc"])), "expected": str(each["msg"])} for each in error.errors()]
        return problem(
            422, "expected a request as /openapi.json describes it, got another; correct what `errors` names", errors=found
        )
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, Conflict):
        return problem(412, str(error))
    if isinstance(error, UsageError):
        return problem(422, str(error))
    for kind, status, expected in _STATUS:
        if isinstance(error, kind):
            _log.error("a REST route answered %d: %s", status, error)
            return _not_yours(status, expected)
    trace = "".join(traceback.format_tb(error.__traceback__))
    _log.error("a REST route failed: %s\n%s", type(error).__name__, trace)
    return _not_yours(500, _STATUS[-1][2])


def _not_yours(status: int, expected: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return problem(status, f"expected {expected}; try again later, its operator finds the reason in the log", headers=headers)


class ProblemRoute(APIRoute):
    """A route whose errors are problem documents, those of its dependencies included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler with its errors answered."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # the HTTP edge: whatever happens is answered and recorded
                return problem_of(error)

        return answer


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status in (401, 403, 404, 409, 412, 422, 429, 503)
}
"""The problems that the routes answer with, for their documentation."""
