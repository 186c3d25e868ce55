"""Streams of chat completion chunks: passed on as they come, with a question before the end where one is due.

The truth about how a stream ended is kept: a cut one ends with an error frame and has no ``finish_reason`` that the model did not give.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from personalagent.server.chat_request import EXTENSION
from personalagent.server.openai_errors import OpenAIError
from personalagent.server.upstream import failed

DONE = b"data: [DONE]\n\n"
_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST_EVENT = 64_000_000
Chunk = dict[str, Any]


@dataclass(slots=True)
class Streamed:
    """What has come of a stream so far."""

    pieces: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    has_tool_calls: bool = False
    model: str | None = None
    usage: Chunk | None = None
    """Tokens, where the model counts them in a stream."""
    is_complete: bool = False
    """Whether the model ended its answer itself."""

    @property
    def text(self) -> str:
        """Return the answer's text."""
        return "".join(self.pieces)

    @property
    def completion(self) -> Chunk:
        """Return what the answer would have been without a stream, but for its words."""
        return {"model": self.model, "usage": self.usage, "choices": [{"finish_reason": self.finish_reason}]}

    @property
    def takes_question(self) -> bool:
        """Tell whether the answer ended in a way that a question may follow."""
        return self.finish_reason == "stop" and not self.has_tool_calls and bool(self.text.strip())


Question = Callable[[], Awaitable[str | None]]
End = Callable[[Streamed], Awaitable[Chunk | None]]
"""Called once, before the last frame; returns the extension object, where the caller wants it."""


async def relay(response: aiohttp.ClientResponse, question: Question | None, end: End) -> AsyncIterator[bytes]:
    """Yield the frames for the caller from those of the endpoint."""
    streamed = Streamed()
    last: Chunk = {}
    done = b""
    failure: OpenAIError | None = None
    try:
        async for event in _events(response):
            data = _data(event)
            if data == b"[DONE]":
                streamed.is_complete, done = True, event
                break
            chunk = _chunk(data)
            if chunk is None:
                yield event
                continue
            if chunk.get("error"):
                yield event
                await end(streamed)
                yield DONE
                return
            last = chunk
            _note(chunk, streamed)
            asked = await question() if question and _ends(chunk) and streamed.takes_question else None
            for frame in _with_question(chunk, event, asked):
                yield frame
            if asked:
                streamed.pieces.append(f"\n\n{asked}")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        failure = failed(error)
    streamed.is_complete = streamed.is_complete or streamed.finish_reason is not None
    if not streamed.is_complete:
        failure = failure or failed(aiohttp.ClientPayloadError())
        yield _frame(failure.body())
    extension = await end(streamed)
    if extension is not None:
        yield _frame(_like(last, choices=[]) | {EXTENSION: extension})
    yield done or DONE


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield whole events, each with its blank line; half an event at the end is dropped."""
    buffer = b""
    async for piece in response.content.iter_any():
        buffer += piece
        while found := _END_OF_EVENT.search(buffer):
            yield buffer[: found.end()]
            buffer = buffer[found.end() :]
        if len(buffer) > _LONGEST_EVENT:
            raise aiohttp.ClientPayloadError


def _data(event: bytes) -> bytes:
    lines = re.split(rb"\r\n|\n|\r", event)
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")).strip()


def _chunk(data: bytes) -> Chunk | None:
    try:
        chunk = json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None


def _first_choice(chunk: Chunk) -> Chunk:
    choices = chunk.get("choices")
    found = [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []
    return next((each for each in found if each.get("index", 0) == 0), {})


def _note(chunk: Chunk, streamed: Streamed) -> None:
    streamed.model, streamed.usage = chunk.get("model") or streamed.model, chunk.get("usage") or streamed.usage
    choice = _first_choice(chunk)
    delta = choice.get("delta")
    if isinstance(delta, dict):
        if isinstance(delta.get("content"), str):
            streamed.pieces.append(delta["content"])
        streamed.has_tool_calls = streamed.has_tool_calls or bool(delta.get("tool_calls") or delta.get("function_call"))
    streamed.finish_reason = choice.get("finish_reason") or streamed.finish_reason


def _ends(chunk: Chunk) -> bool:
    return bool(_first_choice(chunk).get("finish_reason"))


def _with_question(chunk: Chunk, event: bytes, question: str | None) -> tuple[bytes, ...]:
    """Return the last chunk with the question in front of its end; without one the event as it came."""
    if question is None:
        return (event,)
    choice = _first_choice(chunk)
    asking = _frame(_like(chunk, choices=[{"index": 0, "delta": {"content": f"\n\n{question}"}, "finish_reason": None}]))
    if not (isinstance(choice.get("delta"), dict) and choice["delta"].get("content")):
        return (asking, event)
    words = _frame({**chunk, "choices": [{**choice, "finish_reason": None}]})
    return (words, asking, _frame({**chunk, "choices": [{**choice, "delta": {}}]}))


def _like(chunk: Chunk, *, choices: list[Chunk]) -> Chunk:
    head: Chunk = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
    return {**head, **{name: chunk[name] for name in head if name in chunk}, "choices": choices}


def _frame(chunk: Chunk | dict[str, object]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
