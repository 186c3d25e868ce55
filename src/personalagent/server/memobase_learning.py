"""How a chat that is sent whole is kept and inferred: each message of the user's is a turn with its job, as the proxy keeps them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from personalagent.errors import LLMTimeout, LLMUnreachable, UsageError
from personalagent.server.learning import UserLocks
from personalagent.server.memobase_wire import MemobaseMessage
from personalagent.server.problem import RestError
from personalagent.server.rest_access import Access
from personalagent.store.rows import check_text


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the user's, and what the assistant said to it."""

    text: str
    at: datetime
    response: str | None = None


def said_in(messages: Sequence[MemobaseMessage], otherwise_at: datetime) -> tuple[Said, ...]:
    """Return what the user said, in order; an answer belongs to the message before it, and one before the first to none.

    Raises:
        DataError: a text holds what no database keeps.
    """
    said: list[Said] = []
    for message in messages:
        check_text("message", message.content)
        if not message.content.strip():
            continue
        if message.role == "user":
            said.append(Said(message.content, _time(message.created_at) or _aware(otherwise_at)))
        elif said:
            earlier = said[-1].response
            said[-1] = replace(said[-1], response=f"{earlier}\n{message.content}" if earlier else message.content)
    return tuple(said)


@dataclass(frozen=True, slots=True)
class Flusher:
    """Keeps what was said and infers it, at once or in the background; it is at ``app.state.flusher``."""

    locks: UserLocks
    wake: Callable[[], None]

    async def keep(self, sayer: Access, session_id: str, said: Sequence[Said]) -> None:
        """Keep a session; each turn is on disk together with the job that infers it."""
        store, user_id = sayer.store, sayer.user_id
        await asyncio.to_thread(store.start_session, user_id, session_id)
        for each in said:
            keep = partial(store.append_turn, at=each.at, enqueue=True)
            index = await asyncio.to_thread(keep, user_id, session_id, each.text)
            if each.response is not None:
                await asyncio.to_thread(store.set_response, user_id, session_id, index, each.response)
        self.wake()

    async def revive(self, sayer: Access) -> None:
        """Let the worker try again what it gave up."""
        with contextlib.suppress(UsageError):  # there is nothing that was given up
            await asyncio.to_thread(sayer.store.retry_job, sayer.user_id)
        self.wake()

    async def flush(self, sayer: Access, *, kept: str = "") -> None:
        """Infer everything that waits; the job stays queued and finds nothing left to do.

        Args:
            kept: is said after the reason where not everything could be inferred.

        Raises:
            RestError: the policy is down, or wrote what cannot be read; what was said is kept and inferred later.
        """
        async with self.locks.of(sayer.principal.tenant, sayer.user_id):
            learned = await sayer.agent.catch_up(sayer.user_id)
        self.wake()
        failed = [each for each in learned if each.is_queued]
        if not failed:
            return
        error = failed[0].error
        status = 504 if isinstance(error, LLMTimeout) else 503 if isinstance(error, LLMUnreachable) else 502
        reason = type(error).__name__ if error else "an answer that cannot be read"
        raise RestError(
            status,
            f"expected everything to be inferred, got {reason} for {len(failed)} of {len(learned)} messages; "
            f"they wait and are tried again.{kept}",
        )


def _time(text: str | None) -> datetime | None:
    try:
        return _aware(datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
