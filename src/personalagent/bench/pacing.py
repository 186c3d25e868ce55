"""Rate limits: when an endpoint says that it is asked too often, everybody waits, not only who was told.

The official client already sends a refused request again, but each request for itself. A run therefore opens its models with
``max_retries=0`` and wraps them here, so that nothing is sent again twice.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Unpack

from personalagent.dialogue import Message
from personalagent.errors import LLMRefused, LLMTimeout, LLMUnreachable
from personalagent.llm.base import LLM, Completion
from personalagent.llm.wrapped import CompleteOptions, WrappedLLM

RATE_LIMITED = 429
PASSING = (408, 409)
"""Refusals that may be none a moment later; the client would send these again too."""
RATE_TRIES = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Pace:
    """When the next request to one endpoint may start; shared by all who send to it."""

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._open_at = 0.0
        self.waited = 0
        """How often the endpoint asked for a pause."""

    def hold(self, seconds: float) -> None:
        """Let nobody start before so many seconds have passed."""
        self.waited += 1
        self._open_at = max(self._open_at, self._clock() + seconds)

    async def turn(self) -> None:
        """Wait until a request may start."""
        while (left := self._open_at - self._clock()) > 0:
            await self._sleep(left)

    async def pause(self, seconds: float) -> None:
        """Wait alone."""
        await self._sleep(seconds)


class PacedLLM(WrappedLLM):
    """A model that keeps a pace with all its users, and sends again what failed in passing."""

    def __init__(self, llm: LLM, *, max_retries: int, pace: Pace | None = None) -> None:
        super().__init__(llm)
        self._max_retries = max_retries
        self.pace = pace or Pace()

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[CompleteOptions]) -> Completion:
        """Answer as the model does, when the endpoint lets it."""
        failed = limited = 0
        while True:
            await self.pace.turn()
            try:
                return await super().complete(messages, max_tokens=max_tokens, **options)
            except LLMRefused as error:
                if error.status == RATE_LIMITED and limited < RATE_TRIES:
                    limited += 1
                    self.pace.hold(_pause(limited) if error.retry_after_s is None else error.retry_after_s)
                    continue
                if error.status not in PASSING or failed >= self._max_retries:
                    raise
            except (LLMUnreachable, LLMTimeout):
                if failed >= self._max_retries:
                    raise
            failed += 1
            await self.pace.pause(_pause(failed))


def _pause(tries: int) -> float:
    """Return 1, 2, 4, … seconds, up to a minute, a quarter of it by chance."""
    return min(FIRST_PAUSE_S * math.ldexp(1.0, tries - 1), LONGEST_PAUSE_S) * (1 - random.random() / 4)  # noqa: S311 - a pause, not secrets
