"""A model's endpoint on loopback for tests: it answers what it is told to, fails as it is told to, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]


@dataclass(slots=True)
class Plan:
    """How the endpoint answers; change it between requests."""

    text: str = "Try a curry."
    status: int = 200
    raw: bytes | None = None
    """The whole body instead of a completion."""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    message: Json | None = None
    """The whole message instead of the text."""
    finish_reason: str = "stop"
    chunks: list[Json] | None = None
    """The choices of a stream's chunks instead of the text's words."""
    cut_after: int | None = None
    """Break the connection after so many chunks of a stream."""
    stall_after: int | None = None
    """Say nothing more after so many chunks, until the caller leaves."""


@dataclass(slots=True)
class Endpoint:
    """A running endpoint."""

    plan: Plan = field(default_factory=Plan)
    requests: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, as they were spelt."""
    address: str = ""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a caller left before its answer ended."""

    @property
    def last(self) -> Json:
        """The last request."""
        found: Json = json.loads(self.requests[-1])
        return found

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer as planned."""
        raw = await request.read()
        self.requests.append(raw)
        self.headers.append(dict(request.headers))
        plan = self.plan
        try:
            if plan.status != 200 or plan.raw is not None:
                return web.Response(
                    body=plan.raw or b"", status=plan.status, headers={"Content-Type": plan.content_type, **plan.headers}
                )
            if json.loads(raw).get("stream"):
                return await self._stream(request, plan)
            if plan.stall_after is not None:
                await asyncio.sleep(60)
            message = plan.message or {"role": "assistant", "content": plan.text}
            choice = {"index": 0, "message": message, "finish_reason": plan.finish_reason, "logprobs": None}
            return web.json_response({**_head("chat.completion"), "choices": [choice], "system_fingerprint": "fp_x"})
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def _stream(self, request: web.Request, plan: Plan) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunks = plan.chunks or [
            *({"delta": {"content": f"{word} "}, "finish_reason": None} for word in plan.text.split()),
            {"delta": {}, "finish_reason": plan.finish_reason},
        ]
        for number, chunk in enumerate(chunks):
            if number == plan.cut_after:
                await asyncio.sleep(0.05)  # so that what was sent is read before the connection breaks
                assert request.transport is not None
                request.transport.abort()
                return response
            if number == plan.stall_after:
                await asyncio.sleep(60)
            body = {**_head("chat.completion.chunk"), "choices": [{"index": 0, **chunk}]}
            await response.write(b"data: " + json.dumps(body).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def _head(kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "tiny"}


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "test"}]})


@contextmanager
def running_endpoint(endpoint: Endpoint | None = None) -> Iterator[Endpoint]:
    """Run an endpoint in a thread."""
    endpoint = endpoint or Endpoint()
    loop, started = asyncio.new_event_loop(), threading.Event()
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", endpoint.chat), web.get("/v1/models", _models)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()

    def work() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(10)
        yield endpoint
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
