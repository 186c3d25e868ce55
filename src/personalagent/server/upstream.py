"""The responder's endpoint, to which requests are passed on. Nothing is sent twice, and the key goes to no other host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from personalagent.errors import ConfigError
from personalagent.llm.base import LLM
from personalagent.llm.embedded import without_control_tokens
from personalagent.llm.openai import CONNECT_TIMEOUT_S, Endpoint, OpenAICompatibleLLM
from personalagent.server.chat_request import EXTENSION, Body
from personalagent.server.openai_errors import OpenAIError
from personalagent.server.tracing import Target, target_of

MAX_ERROR_BYTES = 1_000_000
PASSED_BACK = ("openai-", "x-ratelimit-", "retry-after")
"""Beginnings of the headers of an answer that the caller gets to see."""
_CONNECTIONS = 1_000


class Upstream:
    """One endpoint; use it from one event loop."""

    def __init__(self, responder: LLM, *, timeout_s: float) -> None:
        if not isinstance(responder, OpenAICompatibleLLM):
            raise ConfigError(
                f"expected the server's responder to be embedded or MODEL@BASE_URL, got {responder.name!r}; set PERSONALAGENT_RESPONDER"
            )
        self._responder = responder
        self._timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._endpoint: Endpoint | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def endpoint(self) -> Endpoint:
        """Return where requests go; an embedded server is started with the first one."""
        if self._endpoint is None:
            self._endpoint = await asyncio.to_thread(self._responder.endpoint)
        return self._endpoint

    async def target(self, body: Body) -> Target:
        """Return the model that a request goes to."""
        endpoint = await self.endpoint()
        return target_of(endpoint, _model_of(body, endpoint))

    async def adapted(self, body: Body) -> Body:
        """Return a request as the endpoint needs it: the alias becomes the model, and the embedded server gets its adapter scales."""
        endpoint = await self.endpoint()
        adapted = {**body, "model": _model_of(body, endpoint)}
        if endpoint.is_embedded:
            adapted["messages"] = [_without_control_tokens(message) for message in body["messages"]]
        return adapted | dict(endpoint.extra_body)

    @asynccontextmanager
    async def chat(self, payload: bytes, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a chat completion request, with these headers besides its own, and hold the answer open; leaving the block cuts it off.

        Raises:
            OpenAIError: the endpoint cannot be reached, or answered with an error.
        """
        response = await self._request("POST", "/chat/completions", payload, headers)
        try:
            if response.status >= 300:
                raise await _refusal(response)
            yield response
        finally:
            response.close()

    async def models(self) -> list[dict[str, Any]]:
        """Return the endpoint's models as it lists them; none where it lists nothing readable."""
        try:
            response = await self._request("GET", "/models", None, {})
            async with response:
                listed = await response.json(content_type=None)
        except (OpenAIError, aiohttp.ClientError, TimeoutError, ValueError):
            return []
        data = listed.get("data") if isinstance(listed, dict) else None
        return [each for each in data or [] if isinstance(each, dict) and isinstance(each.get("id"), str)]

    async def _request(self, method: str, path: str, payload: bytes | None, more: Mapping[str, str]) -> aiohttp.ClientResponse:
        endpoint = await self.endpoint()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS), timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = {**more, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        if endpoint.api_key:
            headers["Authorization"] = f"Bearer {endpoint.api_key}"
        try:
            return await self._session.request(
                method, endpoint.base_url + path, data=payload, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = failed(error)
        raise failure


def _model_of(body: Body, endpoint: Endpoint) -> object:
    named = body.get("model")
    return endpoint.model if named in (None, EXTENSION) or endpoint.is_embedded else named


def failed(error: Exception) -> OpenAIError:
    """Return a broken connection to the endpoint as an error of the wire; it names no address and no word of either side."""
    if isinstance(error, TimeoutError):
        return OpenAIError(504, "expected the model to go on, got nothing in time; try again", code="upstream_timeout")
    if isinstance(error, aiohttp.ClientConnectionError) and not isinstance(error, aiohttp.ServerDisconnectedError):
        return OpenAIError(502, "expected the model to be reachable, got no connection; try later", code="upstream_unreachable")
    return OpenAIError(502, "expected the model to end its answer, got a broken connection; try again", code="upstream_cut")


async def _refusal(response: aiohttp.ClientResponse) -> OpenAIError:
    """Return what an endpoint refused as the caller should see it: its own error object, or ours where it wrote none."""
    try:
        raw = await response.content.read(MAX_ERROR_BYTES)
        body = json.loads(raw)
    except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError):
        body = None
    status = response.status if response.status >= 400 else 502
    error = body.get("error") if isinstance(body, dict) else None
    retry_after = response.headers.get("Retry-After")
    if isinstance(error, Mapping) and isinstance(error.get("message"), str):
        return UpstreamRefused(status, dict(error), retry_after)
    return OpenAIError(
        status,
        f"expected the model to answer, got HTTP {response.status} without an error object; try again later",
        code="upstream_error",
        retry_after=retry_after,
    )


class UpstreamRefused(OpenAIError):
    """The endpoint's own error object, passed on as it is."""

    def __init__(self, status: int, error: dict[str, Any], retry_after: str | None) -> None:
        super().__init__(status, str(error["message"]), retry_after=retry_after)
        self.error = error

    def body(self) -> dict[str, object]:
        """Return the error object of the wire."""
        return {"error": self.error}


def passed_back(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the headers of an answer that go on to the caller."""
    return {name: value for name, value in response.headers.items() if name.lower().startswith(PASSED_BACK)}


def _without_control_tokens(message: Any) -> Any:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": without_control_tokens(content)}
    if isinstance(content, list):
        parts = [
            {**part, "text": without_control_tokens(part["text"])} if isinstance(part.get("text"), str) else part
            for part in content
            if isinstance(part, dict)
        ]
        return {**message, "content": parts}
    return message
