"""Jobs: whose turns wait to be inferred. A table with leases in the same database, so that a turn and its job are on disk at once.

A user has one job, whatever waits: turns stay in order and are inferred together. A job that was served goes to the end of the queue.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, or_, select, update

from personalagent.errors import UsageError
from personalagent.store.records import InferenceState, Job, JobState
from personalagent.store.rows import insertion
from personalagent.store.scope import Scope, scoped, split
from personalagent.store.tables import jobs, turns


class Jobs(Scope):
    """The queue of all tenants, whichever tenant the store sees."""

    def lease_jobs(self, worker: str, limit: int, lease_s: float) -> tuple[Job, ...]:
        """Take the jobs that have waited longest, at most ``limit``; they are the worker's for ``lease_s`` seconds.

        A job whose lease ran out, because its worker is gone, is taken again.
        """
        now = self._clock()
        is_due = or_(
            and_(jobs.c.state == JobState.QUEUED.value, jobs.c.run_after <= now),
            and_(jobs.c.state == JobState.RUNNING.value, jobs.c.leased_until < now),
        )
        due = select(jobs).where(is_due).order_by(jobs.c.run_after, jobs.c.user_id).limit(limit)
        with self._database.reading() as connection:
            if connection.execute(due).first() is None:
                return ()
        with self._database.writing() as connection:
            taken = [row["user_id"] for row in connection.execute(due.with_for_update(skip_locked=True)).mappings()]
            lease = {"state": JobState.RUNNING.value, "worker": worker, "leased_until": now + timedelta(seconds=lease_s)}
            connection.execute(update(jobs).where(jobs.c.user_id.in_(taken)).values(lease))
            rows = connection.execute(select(jobs).where(jobs.c.user_id.in_(taken)).order_by(jobs.c.run_after)).mappings().all()
            return tuple(_job(connection, row) for row in rows)

    def renew_lease(self, job: Job, lease_s: float) -> bool:
        """Keep a job for longer; False where another worker has it by now."""
        until = self._clock() + timedelta(seconds=lease_s)
        with self._database.writing() as connection:
            return bool(connection.execute(update(jobs).where(_mine(job)).values(leased_until=until)).rowcount)

    def finish_job(self, job: Job) -> None:
        """End a job; where turns were said meanwhile it goes to the end of the queue. Nothing happens where another worker has it."""
        key = scoped(job.tenant, job.user_id)
        again = {"state": JobState.QUEUED.value, "attempts": 0, "run_after": self._clock(), "worker": None, "reason": None}
        with self._database.writing() as connection:
            if _pending(connection, key):
                connection.execute(update(jobs).where(_mine(job)).values(again))
            else:
                connection.execute(delete(jobs).where(_mine(job)))

    def fail_job(self, job: Job, reason: str, retry_at: datetime | None) -> None:
        """Note why a job failed, and let it wait until ``retry_at``; with None it is dead, and stays to be seen."""
        state = JobState.DEAD if retry_at is None else JobState.QUEUED
        change = {"state": state.value, "attempts": job.attempts + 1, "reason": reason[:64], "worker": None, "leased_until": None}
        with self._database.writing() as connection:
            connection.execute(update(jobs).where(_mine(job)).values({**change, "run_after": retry_at or job.run_after}))

    def jobs(self) -> tuple[Job, ...]:
        """Return every job there is, dead ones included, those that waited longest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(jobs).order_by(jobs.c.enqueued_at, jobs.c.user_id)).mappings().all()
            return tuple(_job(connection, row) for row in rows)

    def retry_job(self, user_id: str) -> None:
        """Put a dead job of this tenant's user back into the queue.

        Raises:
            UsageError: the user has no dead job.
        """
        mine = and_(jobs.c.user_id == self._of(user_id), jobs.c.state == JobState.DEAD.value)
        change = {"state": JobState.QUEUED.value, "attempts": 0, "run_after": self._clock()}
        with self._database.writing() as connection:
            if connection.execute(update(jobs).where(mine).values(change)).rowcount == 0:
                raise UsageError(f"expected a user with a dead job, got {user_id!r}; `personalagent jobs list` shows them")

    def queue_depth(self) -> int:
        """Return how many jobs wait or are under way."""
        query = select(func.count()).select_from(jobs).where(jobs.c.state != JobState.DEAD.value)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())


def enqueue(connection: Connection, kept: str, at: datetime) -> None:
    """Make sure that a user has a job; one that is dead lives again, for there is something new."""
    row = {"user_id": kept, "state": JobState.QUEUED.value, "attempts": 0, "run_after": at, "enqueued_at": at}
    revived = {name: row[name] for name in ("state", "attempts", "run_after")}
    is_dead = jobs.c.state == JobState.DEAD.value
    put = insertion(connection, jobs).values(row).on_conflict_do_update(index_elements=["user_id"], set_=revived, where=is_dead)
    connection.execute(put)


def _mine(job: Job) -> ColumnElement[bool]:
    key = scoped(job.tenant, job.user_id)
    return and_(jobs.c.user_id == key, jobs.c.worker == job.worker, jobs.c.state == JobState.RUNNING.value)


def _pending(connection: Connection, kept: str) -> int:
    query = select(func.count()).where(turns.c.user_id == kept, turns.c.inference == InferenceState.PENDING.value)
    return int(connection.execute(query).scalar_one())


def _job(connection: Connection, row: RowMapping) -> Job:
    tenant, user_id = split(row["user_id"])
    return Job(
        tenant=tenant,
        user_id=user_id,
        state=JobState(row["state"]),
        attempts=row["attempts"],
        run_after=row["run_after"],
        enqueued_at=row["enqueued_at"],
        leased_until=row["leased_until"],
        worker=row["worker"],
        reason=row["reason"],
        pending=_pending(connection, row["user_id"]),
    )
