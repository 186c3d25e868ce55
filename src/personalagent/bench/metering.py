"""What answering one example costs: calls, tokens and seconds, apart for the history and for the request.

A system that reads the history beforehand (PersonalAgent, MemBank) spends once a turn what others spend at every request, so the two are
counted apart. Tokens are those the endpoint reports; a call without them is counted as such, and nothing is estimated.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Unpack

from personalagent.dialogue import Message
from personalagent.errors import LLMError
from personalagent.llm.base import LLM, Completion, Embedding, Usage
from personalagent.llm.wrapped import CompleteOptions, StreamOptions, WrappedLLM


class Phase(StrEnum):
    """What a call was made for."""

    HISTORY = "history"
    """To read what was said before the request; a deployed system does it when it is said."""
    REQUEST = "request"
    """To answer the request."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent; adds up with ``+``."""

    calls: int = 0
    """Calls of a language model that were answered."""
    failed_calls: int = 0
    """Calls that raised an error, retried ones included; nothing is known of their tokens."""
    calls_without_usage: int = 0
    """Of ``calls``, those whose tokens the endpoint did not report: where it is not 0, the sums of tokens are too low."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Wall time of the calls, failed ones included."""
    embedded_texts: int = 0
    texts_without_usage: int = 0
    """Of ``embedded_texts``, those whose tokens the endpoint did not report."""
    embedding_tokens: int = 0
    embedding_seconds: float = 0.0
    """Wall time of the embeddings when they were computed, also of those that were remembered."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Spent)))


class Meter:
    """The meter of one answered example; every model and embedder that its system uses counts on it."""

    def __init__(self) -> None:
        self._spent = {phase: Spent() for phase in Phase}

    def spent(self, phase: Phase) -> Spent:
        """Return what was spent on the history, or on the request."""
        return self._spent[phase]

    @property
    def total(self) -> Spent:
        """What was spent on both."""
        return self._spent[Phase.HISTORY] + self._spent[Phase.REQUEST]

    def add(self, spent: Spent, phase: Phase) -> None:
        """Count something more."""
        self._spent[phase] += spent

    def add_embedding(self, embedding: Embedding, phase: Phase) -> None:
        """Count one embedded text."""
        is_unknown = embedding.tokens is None
        self.add(
            Spent(
                embedded_texts=1,
                texts_without_usage=int(is_unknown),
                embedding_tokens=embedding.tokens or 0,
                embedding_seconds=embedding.elapsed_s,
            ),
            phase,
        )


class MeteredLLM(WrappedLLM):
    """A language model whose calls are counted on a meter. It is only borrowed: whoever opened it closes it.

    ```python
    llm = MeteredLLM(opened)
    reply = await system.answer(example, llm)
    llm.meter.total.prompt_tokens
    ```
    """

    def __init__(self, llm: LLM, meter: Meter | None = None, *, phase: Phase = Phase.REQUEST) -> None:
        super().__init__(llm)
        self._phase = phase
        self.meter = meter or Meter()

    def during(self, phase: Phase) -> MeteredLLM:
        """Return the same model and meter, counting for a phase."""
        return MeteredLLM(self._llm, self.meter, phase=phase)

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[CompleteOptions]) -> Completion:
        """Answer as the model does, and count it."""
        start = time.perf_counter()
        try:
            completion = await super().complete(messages, max_tokens=max_tokens, **options)
        except LLMError:
            self.meter.add(Spent(failed_calls=1, seconds=time.perf_counter() - start), self._phase)
            raise
        self._count(completion.usage, time.perf_counter() - start)
        return completion

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[StreamOptions]
    ) -> AsyncIterator[str]:
        """Stream as the model does; a streamed call has no usage."""
        start = time.perf_counter()
        try:
            async for piece in super().stream(messages, max_tokens=max_tokens, **options):
                yield piece
        except LLMError:
            self.meter.add(Spent(failed_calls=1, seconds=time.perf_counter() - start), self._phase)
            raise
        self._count(Usage(), time.perf_counter() - start)

    async def aclose(self) -> None:
        """Do nothing: the model is borrowed."""

    def _count(self, usage: Usage, seconds: float) -> None:
        is_unknown = usage.prompt_tokens is None or usage.completion_tokens is None
        spent = Spent(1, 0, int(is_unknown), usage.prompt_tokens or 0, usage.completion_tokens or 0, seconds)
        self.meter.add(spent, self._phase)


def metered(llm: LLM, *, phase: Phase = Phase.REQUEST, like: LLM | None = None) -> MeteredLLM:
    """Return the model as one that counts for a phase: on its own meter, on that of ``like``, or else on a new one."""
    meter = like.meter if isinstance(like, MeteredLLM) else None
    if isinstance(llm, MeteredLLM) and meter in (None, llm.meter):
        return llm.during(phase)
    return MeteredLLM(llm, meter, phase=phase)
