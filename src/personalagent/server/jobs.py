"""The background worker: infers the turns that were answered first, user by user, and gives up on none silently."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from personalagent.agent import PersonalAgent
from personalagent.errors import LLMUnreachable, PersonalAgentError
from personalagent.server.learning import UserLocks
from personalagent.server.metrics import Metrics
from personalagent.store import Job

MAX_ATTEMPTS = 3
"""Then a job is dead, and waits for ``personalagent jobs retry``. A policy that is down does not count: it is waited for."""
LONGEST_PAUSE_S = 300.0
_log = logging.getLogger(__name__)


class Worker:
    """Leases jobs of all tenants from the database and infers them; several processes may do so at once.

    Args:
        concurrency: users that are inferred at the same time.
        lease_s: after so long without a sign of life another worker takes a job over.
        poll_s: how often the queue is looked at when nothing wakes the worker.
        pause_s: before the second attempt at the latest; each further one may take four times as long.
    """

    def __init__(
        self,
        agent: PersonalAgent,
        metrics: Metrics,
        locks: UserLocks,
        *,
        concurrency: int = 2,
        lease_s: float = 30.0,
        poll_s: float = 1.0,
        pause_s: float = 2.0,
    ) -> None:
        self._agent = agent
        self._metrics = metrics
        self._locks = locks
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._pause_s = pause_s
        self._name = uuid4().hex
        self._work = asyncio.Event()
        self._is_stopping = False
        self._drain_s = 0.0
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look at the queue now."""
        self._work.set()

    async def run(self) -> None:
        """Work until ``stop``; then let the jobs under way end, and leave to the database what does not end in time."""
        while not self._is_stopping:
            self._work.clear()
            free = self._concurrency - len(self._running)
            if not free:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            jobs: tuple[Job, ...] = ()
            try:
                jobs = await asyncio.to_thread(self._agent.store.lease_jobs, self._name, free, self._lease_s)
            except PersonalAgentError as error:
                _log.warning("the queue could not be read: %s", type(error).__name__)
            for job in jobs:
                task = asyncio.create_task(self._do(job))
                self._running.add(task)
                task.add_done_callback(self._done)
            if len(jobs) < free:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), self._poll_s)
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._drain_s)
            for task in late:
                task.cancel()

    def stop(self, within_s: float) -> None:
        """Take no more jobs; ``run`` ends when those under way have ended, or after so many seconds."""
        self._drain_s = within_s
        self._is_stopping = True
        self.wake()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a job failed: %s", type(error).__name__)

    async def _do(self, job: Job) -> None:
        alive = asyncio.create_task(self._keep_lease(job))
        try:
            async with self._locks.of(job.tenant, job.user_id):
                learned = await self._agent.for_tenant(job.tenant).catch_up(job.user_id)
            failed = [each for each in learned if each.is_queued]
            if not failed:
                await asyncio.to_thread(self._agent.store.finish_job, job)
                self._metrics.inferences.labels("done").inc()
                return
            first = failed[0]
            reason = type(first.error).__name__ if first.error else "unreadable"
            await self._fail(job, reason, is_down=isinstance(first.error, LLMUnreachable))
        except PersonalAgentError as error:
            await self._fail(job, type(error).__name__, is_down=False)
        finally:
            alive.cancel()

    async def _fail(self, job: Job, reason: str, *, is_down: bool) -> None:
        is_dead = job.attempts + 1 >= MAX_ATTEMPTS and not is_down
        longest = min(LONGEST_PAUSE_S, self._pause_s * 4.0 ** min(job.attempts, 10))
        pause = timedelta(seconds=random.uniform(0, longest))  # noqa: S311 - full jitter, no secret
        await asyncio.to_thread(self._agent.store.fail_job, job, reason, None if is_dead else datetime.now(UTC) + pause)
        self._metrics.inferences.labels("dead" if is_dead else "retry").inc()

    async def _keep_lease(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            await asyncio.to_thread(self._agent.store.renew_lease, job, self._lease_s)
