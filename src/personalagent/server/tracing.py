"""Where the time goes: a span for every request and for every call of a model, as OpenTelemetry's conventions name them.

A span has model, tokens, times, route and status, never what was said, who said it, or a path that names a user.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Unpack
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from personalagent.agent import PersonalAgent
from personalagent.dialogue import Message
from personalagent.llm.base import LLM, LLM_KINDS, Completion
from personalagent.llm.openai import Endpoint
from personalagent.llm.wrapped import CompleteOptions, StreamOptions, WrappedLLM

EMBEDDED, ENDPOINT = "llama.cpp", "openai"
"""Providers: an endpoint is known by its protocol, whoever runs it."""


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a call is for."""

    model: str
    provider: str
    address: str | None = None
    port: int | None = None


class ModelSpan:
    """The span of one call of a model; of a server without tracing it holds nothing."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return what tells the endpoint whose span its own belong to."""
        return {}

    def answered(self, completion: Mapping[str, Any]) -> None:
        """Note model, tokens and finish reasons of an answer, which is a chat completion of the wire, or like one."""

    def failed(self, kind: str) -> None:
        """Note how an answer failed that raised nothing."""


class Tracing:
    """What a server without tracing does about it: nothing."""

    def of(self, agent: PersonalAgent) -> PersonalAgent:
        """Return the agent with models whose calls are spans; the agent itself stays as it is."""
        return agent

    def model_call(self, target: Target) -> AbstractContextManager[ModelSpan]:
        """Open the span of a call; what is raised inside is named in it. The block may end in another task than it began in."""
        return nullcontext(ModelSpan())

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application with a span around every request."""
        return app

    def close(self) -> None:
        """Send what was not sent yet; it may take seconds."""


class TracedLLM(WrappedLLM):
    """A model whose calls are spans."""

    def __init__(self, llm: LLM, tracing: Tracing) -> None:
        super().__init__(llm)
        self._tracing = tracing

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[CompleteOptions]) -> Completion:
        """Return the model's answer; raises what the model raises."""
        with self._tracing.model_call(_target_of(self._llm)) as span:
            completion = await super().complete(messages, max_tokens=max_tokens, **options)
            usage = {"prompt_tokens": completion.usage.prompt_tokens, "completion_tokens": completion.usage.completion_tokens}
            choices = [{"finish_reason": str(completion.finish_reason)}]
            span.answered({"model": completion.model, "usage": usage, "choices": choices})
            return completion

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[StreamOptions]
    ) -> AsyncIterator[str]:
        """Stream the model's answer; raises what the model raises."""
        with self._tracing.model_call(_target_of(self._llm)):
            async for piece in super().stream(messages, max_tokens=max_tokens, **options):
                yield piece


def traced(agent: PersonalAgent, tracing: Tracing) -> PersonalAgent:
    """Return a twin of an agent with models whose calls are spans."""
    twin = copy.copy(agent)
    twin.policy, twin.responder = TracedLLM(agent.policy, tracing), TracedLLM(agent.responder, tracing)
    return twin


def target_of(endpoint: Endpoint, model: object) -> Target:
    """Return the model that a request to an endpoint names."""
    return _target(str(model), EMBEDDED if endpoint.is_embedded else ENDPOINT, endpoint.base_url)


def _target_of(llm: LLM) -> Target:
    model, at, rest = llm.name.rpartition("@http")
    if at:
        return _target(model, ENDPOINT, f"http{rest}")
    kind, _, named = llm.name.partition(":")
    if kind in LLM_KINDS.targets:
        return Target(named or kind, EMBEDDED if kind == "embedded" else kind)
    return Target(llm.name, ENDPOINT)


def _target(model: str, provider: str, base_url: str) -> Target:
    parts = urlsplit(base_url)
    return Target(model, provider, parts.hostname, parts.port)
