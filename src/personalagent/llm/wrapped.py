"""A model that answers through another: what counts calls, keeps a pace or fixes the decoding says only what it does differently."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypedDict, Unpack

from personalagent.dialogue import Message
from personalagent.llm.base import LLM, Completion


class StreamOptions(TypedDict, total=False):
    """What ``LLM.stream`` may be given besides messages and length."""

    temperature: float
    seed: int | None
    stop: Sequence[str]


class CompleteOptions(StreamOptions, total=False):
    """What ``LLM.complete`` may be given besides messages and length."""

    json_schema: Mapping[str, object] | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool


class WrappedLLM:
    """Answers as the model does that it was given, and is closed with it."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    @property
    def name(self) -> str:
        """The spec of the model itself."""
        return self._llm.name

    @property
    def adapter(self) -> object:
        """The adapter of an embedded policy, by which its notation is known; None for any other model."""
        return getattr(self._llm, "adapter", None)

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[CompleteOptions]) -> Completion:
        """Return the model's answer; raises what the model raises."""
        return await self._llm.complete(messages, max_tokens=max_tokens, **options)

    def stream(self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[StreamOptions]) -> AsyncIterator[str]:
        """Stream the model's answer; raises what the model raises."""
        return self._llm.stream(messages, max_tokens=max_tokens, **options)

    async def aclose(self) -> None:
        """Close the model."""
        await self._llm.aclose()
