"""Any OpenAI-compatible endpoint (OpenAI, vLLM, Ollama, llama.cpp, …) through the official async client."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import openai
from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion import Choice

from personalagent.config import Settings
from personalagent.dialogue import Message
from personalagent.errors import ConfigError, LLMError, LLMRefused, LLMResponseError, LLMTimeout, LLMUnreachable
from personalagent.llm.base import Completion, Embedding, FinishReason, LLMRole, TokenLogprob, Usage

OPENAI_BASE_URL = "https://api.openai.com/v1"
CONNECT_TIMEOUT_S = 10.0
TOP_LOGPROBS = 5
LONGEST_PAUSE_S = 600.0
"""An endpoint that asks for more is not waited for as long as it says."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is spoken to, for programs that pass requests on instead of writing their own."""

    model: str
    base_url: str
    """Without a slash at its end."""
    api_key: str | None
    extra_body: Mapping[str, object]
    """What must go with every request."""
    is_embedded: bool = False
    """Whether the endpoint is this process's own: it has one model, and takes what looks like a control token for one."""


def open_openai(argument: str, role: LLMRole, settings: Settings) -> OpenAICompatibleLLM:
    """Open `MODEL` or `MODEL@BASE_URL`; see `open_llm`."""
    model, at, url = argument.rpartition("@http")
    base_url = f"http{url}" if at else settings.openai_base_url
    if not at:
        model = argument
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    if not model or (base_url is None and key is None):
        raise ConfigError(
            f"expected a model with an endpoint for the {role}, got {argument!r} and neither OPENAI_BASE_URL nor OPENAI_API_KEY; "
            "set one of them, write MODEL@http://host/v1, or use embedded"
        )
    return OpenAICompatibleLLM(
        model, base_url=base_url, api_key=key, timeout_s=settings.timeout_s, max_retries=settings.max_retries
    )


class OpenAICompatibleLLM:
    """One model at one endpoint. May be used from several event loops; each gets its own connections."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        extra_body: Mapping[str, object] | None = None,
    ) -> None:
        self._model = model
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._extra_body = dict(extra_body or {})
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()
        self._refused_parameters: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """`MODEL@BASE_URL`, without what such a URL may hold of a password; `MODEL` at OpenAI."""
        return f"{self._model}@{re.sub('//[^/]*@', '//', self._base_url)}" if self._base_url else self._model

    def endpoint(self) -> Endpoint:
        """Return where the model is spoken to."""
        return Endpoint(self._model, (self._base_url or OPENAI_BASE_URL).rstrip("/"), self._api_key, self._extra_body)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        json_schema: Mapping[str, object] | None = None,
        logit_bias: Mapping[str, float] | None = None,
        logprobs: bool = False,
    ) -> Completion:
        """Return one answer; see `LLM.complete`."""
        body = self._body(messages, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop)
        if json_schema is not None:
            schema = {"name": "answer", "schema": dict(json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if logit_bias:
            body["logit_bias"] = dict(logit_bias)
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        started = time.perf_counter()
        failure: LLMError
        try:
            reply = await self._post(body)
            return _completion(reply, elapsed_s=time.perf_counter() - started)
        except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, _NotACompletion) as error:
            failure = self._failure(error, body)
        raise failure  # outside the except block: what the endpoint wrote may hold the user's words and must not travel along

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[str]:
        """Yield the answer piece by piece; see `LLM.stream`."""
        body = self._body(messages, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop) | {"stream": True}
        failure: LLMError | None = None
        try:
            chunks = await self._post_for_stream(body)
            finished = False
            try:
                async for chunk in chunks:
                    choice = chunk.choices[0] if chunk.choices else None
                    if choice and choice.delta and choice.delta.content:
                        yield choice.delta.content
                    finished = finished or bool(choice and choice.finish_reason)
            finally:
                await chunks.close()
            if not finished:
                failure = LLMResponseError(f"expected {self.name} to finish its answer, got a stream that broke off; try again")
        except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, _NotACompletion) as error:
            failure = self._failure(error, body)
        if failure:
            raise failure

    async def embed(self, text: str) -> Embedding:
        """Return a text as a vector, by /v1/embeddings; raises what `complete` raises."""
        started = time.perf_counter()
        failure: LLMError
        try:
            reply = await self._client().embeddings.create(model=self._model, input=text, encoding_format="float")
            return _embedding(reply, elapsed_s=time.perf_counter() - started)
        except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, ValueError, _NotACompletion) as error:
            failure = self._failure(error, {})
        raise failure

    async def aclose(self) -> None:
        """Close this event loop's connections; those of loops that are gone went with them."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def _client(self) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            base_url = self._base_url or OPENAI_BASE_URL
            client = AsyncOpenAI(
                base_url=base_url,
                api_key=self._api_key or "none",
                max_retries=self._max_retries,
                timeout=openai.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
                # A proxy of the environment is not for this machine's own servers.
                http_client=DefaultAsyncHttpxClient(trust_env=urlsplit(base_url).hostname not in LOOPBACK),
            )
            self._clients[loop] = client
        return client

    def _body(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int | None, stop: Sequence[str]
    ) -> Body:
        body: Body = {
            "model": self._model,
            "messages": [message.as_wire() for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if seed is not None:
            body["seed"] = seed
        if stop:
            body["stop"] = list(stop)
        return body | self._extra_body

    async def _post(self, body: Body) -> ChatCompletion:
        """Send the request; a parameter that the newest OpenAI models renamed or fixed is adapted once and remembered."""
        try:
            return await self._client().post("/chat/completions", cast_to=ChatCompletion, body=self._adapted(body))
        except openai.BadRequestError as error:
            if not self._learn(error):
                raise
        return await self._post(body)

    async def _post_for_stream(self, body: Body) -> AsyncStream[ChatCompletionChunk]:
        try:
            chunks = await self._client().post(
                "/chat/completions",
                cast_to=ChatCompletion,
                body=self._adapted(body),
                stream=True,
                stream_cls=AsyncStream[ChatCompletionChunk],
            )
        except openai.BadRequestError as error:
            if not self._learn(error):
                raise
            return await self._post_for_stream(body)
        if not chunks.response.headers.get("content-type", "").startswith("text/event-stream"):
            await chunks.close()
            raise _NotACompletion("no event stream")
        return chunks

    def _learn(self, error: openai.BadRequestError) -> bool:
        """Remember a parameter this endpoint refuses; tell whether the request is worth sending again."""
        parameter = error.param
        if parameter not in ("max_tokens", "temperature") or parameter in self._refused_parameters:
            return False
        self._refused_parameters |= {parameter}
        return True

    def _adapted(self, body: Body) -> Body:
        adapted = dict(body)
        if "max_tokens" in self._refused_parameters:
            adapted["max_completion_tokens"] = adapted.pop("max_tokens")
        if "temperature" in self._refused_parameters:
            del adapted["temperature"]
        return adapted

    def _failure(self, error: Exception, body: Body) -> LLMError:
        """Translate what the client raised; the endpoint's own sentences stay out, only its short codes are kept."""
        if isinstance(error, openai.APITimeoutError):
            return LLMTimeout(
                f"expected {self.name} to answer within {self._timeout_s:g} s, got nothing; raise PERSONALAGENT_TIMEOUT_S or try again"
            )
        if isinstance(error, openai.APIConnectionError):
            return LLMUnreachable(f"expected {self.name} to be reachable, got no connection; start it or correct its address")
        if isinstance(error, openai.APIStatusError):
            got = f"got HTTP {error.status_code}{_codes(error)}"
            if error.status_code >= 500:
                return LLMUnreachable(
                    f"expected {self.name} to answer, {got} after {self._max_retries} retries; look at its log or try again later"
                )
            return LLMRefused(
                f"expected {self.name} to accept the request, {got}; {_advice(error, body)}",
                status=error.status_code,
                is_too_long="context" in _codes(error),
                retry_after_s=_retry_after_s(error),
            )
        got = f"an error{_codes(error)}" if isinstance(error, openai.APIError) else "something else"
        return LLMResponseError(
            f"expected a chat completion or an embedding from {self.name}, got {got}; check that the address ends in /v1, and look at the endpoint's log"
        )


class _NotACompletion(Exception):
    """The endpoint answered 200 with something that is not a chat completion."""


def _completion(reply: object, *, elapsed_s: float) -> Completion:
    """Read a reply of the wire. An endpoint may leave out what the client's types promise, so every part is looked at."""
    if not isinstance(reply, ChatCompletion) or not reply.choices or not getattr(reply.choices[0], "message", None):
        raise _NotACompletion("no choices")
    choice = reply.choices[0]
    known = {str(reason) for reason in FinishReason}
    return Completion(
        text=choice.message.content or choice.message.refusal or "",
        usage=_usage(reply.usage),
        model=reply.model or "",
        finish_reason=FinishReason(choice.finish_reason) if choice.finish_reason in known else FinishReason.OTHER,
        elapsed_s=elapsed_s,
        token_logprobs=_token_logprobs(choice),
    )


def _embedding(reply: object, *, elapsed_s: float) -> Embedding:
    if not isinstance(reply, CreateEmbeddingResponse) or not reply.data or not reply.data[0].embedding:
        raise _NotACompletion("no embedding")
    return Embedding(tuple(reply.data[0].embedding), getattr(reply.usage, "prompt_tokens", None), elapsed_s)


def _usage(usage: CompletionUsage | None) -> Usage:
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    return Usage(
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        completion_tokens=getattr(usage, "completion_tokens", None),
        cached_tokens=getattr(details, "cached_tokens", None),
    )


def _token_logprobs(choice: Choice) -> tuple[TokenLogprob, ...] | None:
    tokens = getattr(choice.logprobs, "content", None)
    if tokens is None:
        return None
    return tuple(
        TokenLogprob(token.token, token.logprob, tuple((top.token, top.logprob) for top in token.top_logprobs or ()))
        for token in tokens
    )


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    """Return the pause that the endpoint asks for in seconds; a date, and what cannot be meant, is None."""
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds <= LONGEST_PAUSE_S:
            return seconds
    return None


def _codes(error: openai.APIError) -> str:
    """Return the identifiers of an error body (`type`, `code`, `param`), never its free text."""
    values = (error.type, error.code, error.param)
    found = [value for value in values if isinstance(value, str) and re.fullmatch(r"(?!\d+$)[\w.\[\]-]{1,60}", value)]
    return f" ({', '.join(dict.fromkeys(found))})" if found else ""


def _advice(error: openai.APIStatusError, body: Body) -> str:
    by_status = {
        401: "set OPENAI_API_KEY to a key of this endpoint",
        402: "this endpoint wants to be paid first",
        403: "the key has no right to use this model",
        404: "check the model's name and that the address ends in /v1",
        413: "send less text",
        429: "the endpoint's rate or quota is used up; wait, or use another one",
    }
    if error.status_code in by_status:
        return by_status[error.status_code]
    codes = _codes(error)
    if "context" in codes:
        return "the messages are longer than the model's context; send less text"
    for option, remedy in (
        ("response_format", "JSON-schema output"),
        ("logit_bias", "a bias on tokens named by text"),
        ("logprobs", "logprobs"),
    ):
        if option in body and (option in codes or not error.param):
            return f"the request asks for {remedy}, which this endpoint may not support; use one that does, or embedded"
    return "check the model's name and the request's options"
