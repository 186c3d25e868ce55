"""What stands before every route: a request id, a longest body, a highest number of requests at once, counting and a line in the log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personalagent.server.metrics import Metrics
from personalagent.server.openai_errors import RETRY_AFTER_S, OpenAIError
from personalagent.server.request_log import log_request

REQUEST_ID = "x-request-id"
LEFT = 499
"""The status of a request whose caller left before it was answered."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ALWAYS_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
_READABLE = re.compile(r"[\w.:-]{1,128}")


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request took: its path may name a user."""
    return getattr(scope.get("route"), "path", "other")


def method_of(scope: Scope) -> str:
    """Return the method of a request; a caller may send any word as one."""
    return scope["method"] if scope["method"] in _METHODS else "_OTHER"


class Gate:
    """An ASGI middleware; it passes streams through without holding them, and sees a caller leave."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, max_body_bytes: int, max_in_flight: int, is_draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_in_flight = max_in_flight
        self._is_draining = is_draining
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _READABLE.fullmatch(given) else uuid4().hex
        status = LEFT

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = MutableHeaders(scope=message)
                told[REQUEST_ID] = request_id
                told.update(scope.get("state", {}).get("rate_limit_headers", {}))
            await send(message)

        started = time.perf_counter()
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            refusal = self._refusal(scope, headers)
            app = refusal.response() if refusal else self._app
            await app(scope, self._counted(receive), sending)
        except Exception:
            status = 500
            raise
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)
            route, principal = route_of(scope), scope.get("state", {}).get("principal")
            self._metrics.requests.labels(route, str(status)).inc()
            if scope["path"] not in ALWAYS_OPEN:
                taken_s = time.perf_counter() - started
                log_request(
                    principal, request_id=request_id, method=method_of(scope), route=route, status=status, duration_s=taken_s
                )

    def _refusal(self, scope: Scope, headers: Headers) -> OpenAIError | None:
        if scope["path"] in ALWAYS_OPEN:
            return None
        if self._is_draining() or self._in_flight > self._max_in_flight:
            return OpenAIError(
                503, "expected fewer requests at once, got more than fit; try again", code="busy", retry_after=str(RETRY_AFTER_S)
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return OpenAIError(413, self._too_long())
        return None

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counting() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._max_body_bytes:
                raise HTTPException(413, self._too_long())
            return message

        return counting

    def _too_long(self) -> str:
        return f"expected a body of at most {self._max_body_bytes} bytes, got more; send less"
