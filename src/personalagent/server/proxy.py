"""``/v1/chat/completions`` and ``/v1/models``: requests go on to the responder, with what the user prefers, and come back as they are.

What is not about a user (no user named, switched off, a chat UI's own call) goes through untouched, to the byte.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import aiohttp
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from personalagent.agent import PersonalAgent
from personalagent.response import with_question
from personalagent.server.auth import Principal, Scope, require
from personalagent.server.chat_request import EXTENSION, Body, ChatRequest, is_background, read_chat, session_of
from personalagent.server.identity import user_of
from personalagent.server.learning import Learner, OpenTurn
from personalagent.server.metrics import Metrics
from personalagent.server.openai_errors import OpenAIError
from personalagent.server.personalise import with_preferences
from personalagent.server.sse import Streamed, relay
from personalagent.server.tracing import ModelSpan, Tracing
from personalagent.server.upstream import Upstream, failed, passed_back

T = TypeVar("T")
router = APIRouter(prefix="/v1", tags=["chat"])
Chatter = Annotated[Principal, Depends(require(Scope.CHAT))]


@dataclass(frozen=True, slots=True)
class Proxy:
    """What the routes need; it is at ``app.state.proxy``."""

    agent: PersonalAgent
    upstream: Upstream
    learner: Learner
    metrics: Metrics
    tracing: Tracing

    async def open_turn(self, call: ChatRequest, request: Request, principal: Principal) -> OpenTurn | None:
        """Return the turn that a request is; None where it is to go through untouched."""
        settings = self.agent.settings
        user_id = user_of(principal, request.headers, call.body, settings.trusted_user_header)
        if user_id is None or call.mode == "off" or is_background(call, request.headers):
            return None
        agent = self.agent.for_tenant(principal.tenant)
        session_id = session_of(call, request.headers, user_id)
        return await self.learner.open(agent, principal.tenant, user_id, session_id, call)

    async def payload(self, call: ChatRequest, turn: OpenTurn | None) -> bytes:
        """Return the request for the endpoint: the very bytes that came, where nothing has to be changed."""
        used = turn.used if turn else ()
        body: Body = {**call.body, "messages": with_preferences(call.messages, used)}
        adapted = await self.upstream.adapted(body)
        if adapted == call.body and not call.wants_extension:
            return call.raw
        return json.dumps(adapted, ensure_ascii=False).encode("utf-8", "surrogatepass")

    async def answer(self, call: ChatRequest, turn: OpenTurn | None, started: float) -> Response:
        """Send a request on and return the endpoint's answer; the turn is closed with it."""
        async with AsyncExitStack() as stack:
            if turn is not None:
                stack.callback(turn.close)
            payload = await self.payload(call, turn)
            sent = time.perf_counter()
            self.metrics.preparation.observe(sent - started)
            span = stack.enter_context(self.tracing.model_call(await self.upstream.target(call.body)))
            response = await self._sent(stack, payload, span, turn)
            self.metrics.first_bytes.observe(time.perf_counter() - sent)
            if response.content_type == "text/event-stream":
                held = stack.pop_all()  # the stream closes what it needs when it ends, or when its reader leaves
                frames = self._frames(response, call, turn, held, span)
                headers = {**passed_back(response), "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
                return HeldStream(frames, held, headers=headers, media_type="text/event-stream")
            try:
                raw = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise failed(error) from None
            content = await self._finished(raw, call, turn, span)
            return Response(content, response.status, headers=passed_back(response), media_type="application/json")

    async def _sent(
        self, stack: AsyncExitStack, payload: bytes, span: ModelSpan, turn: OpenTurn | None
    ) -> aiohttp.ClientResponse:
        """Send a request on while the user's words are put on disk; there is an answer only to what is there."""
        sending = asyncio.create_task(stack.enter_async_context(self.upstream.chat(payload, span.headers)))
        try:
            if turn is not None:
                await turn.kept()
            return await sending
        except BaseException:
            sending.cancel()
            await asyncio.wait({sending})
            raise

    async def _finished(self, raw: bytes, call: ChatRequest, turn: OpenTurn | None, span: ModelSpan) -> bytes:
        """Return a whole answer with what belongs into it, and keep it; the very bytes that came, where nothing does."""
        completion = _completion(raw)
        span.answered(completion)
        if turn is None:
            return raw
        choice = completion["choices"][0]
        message = choice.get("message") if isinstance(choice, dict) else None
        text = message.get("content") if isinstance(message, dict) else None
        is_plain = isinstance(text, str) and bool(text.strip()) and not message.get("tool_calls")  # type: ignore[union-attr]  # a str came out of it
        question = None
        if is_plain and choice.get("finish_reason") == "stop":
            question = await turn.question(self.agent.settings.question_wait_s)
        if question:
            text = message["content"] = with_question(text, question)  # type: ignore[index,arg-type]  # as above
        await turn.end(text if isinstance(text, str) else None)
        if call.wants_extension:
            completion[EXTENSION] = await turn.extension()
        is_changed = bool(question) or call.wants_extension
        return json.dumps(completion, ensure_ascii=False).encode("utf-8", "surrogatepass") if is_changed else raw

    async def _frames(
        self, response: aiohttp.ClientResponse, call: ChatRequest, turn: OpenTurn | None, held: AsyncExitStack, span: ModelSpan
    ) -> AsyncIterator[bytes]:
        async def question() -> str | None:
            return await turn.question(self.agent.settings.question_wait_s) if turn else None

        async def end(streamed: Streamed) -> dict[str, Any] | None:
            span.answered(streamed.completion)
            if not streamed.is_complete:
                self.metrics.broken_streams.inc()
                span.failed("upstream_cut")
            if turn is None:
                return None
            await turn.end(streamed.text if streamed.is_complete and streamed.text else None)
            return await turn.extension() if call.wants_extension else None

        async with held:
            with self.metrics.streams.track_inprogress():
                async for frame in relay(response, question if turn and turn.assessing else None, end):
                    yield frame


class HeldStream(StreamingResponse):
    """A stream that gives back what it holds also where its first frame is never asked for."""

    def __init__(self, frames: AsyncIterator[bytes], held: AsyncExitStack, *, headers: dict[str, str], media_type: str) -> None:
        super().__init__(frames, headers=headers, media_type=media_type)
        self._held = held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._held.aclose()


@router.post("/chat/completions")
async def chat_completions(request: Request, principal: Chatter) -> Response:
    """Answer as the responder does, personal to the user that the request names; see docs/server.md for what is read and added."""
    started = time.perf_counter()
    proxy: Proxy = request.app.state.proxy
    call = read_chat(await request.body())

    async def work() -> Response:
        turn = await proxy.open_turn(call, request, principal)
        return await proxy.answer(call, turn, started)

    return await while_connected(request, work)


@router.get("/models")
async def models(request: Request, principal: Chatter) -> dict[str, object]:
    """List the responder's models, and the alias for the one that is configured."""
    proxy: Proxy = request.app.state.proxy
    alias = {"id": EXTENSION, "object": "model", "created": 0, "owned_by": EXTENSION}
    return {"object": "list", "data": [alias, *await proxy.upstream.models()]}


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do something for a caller, and stop as soon as the caller leaves."""
    working = asyncio.ensure_future(work())
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise OpenAIError(499, "expected the caller to wait for the answer, got a closed connection")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _completion(raw: bytes) -> dict[str, Any]:
    """Read an answer.

    Raises:
        OpenAIError: it is no chat completion.
    """
    try:
        completion = json.loads(raw)
    except (ValueError, RecursionError):
        completion = None
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not isinstance(completion, dict) or not isinstance(choices, list) or not choices:
        raise OpenAIError(502, "expected the model to answer a chat completion, got something else", code="upstream_bad_answer")
    return completion
