"""The queue: a turn and its job are on disk together; leases, order, retries, death."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Barrier, Thread

import pytest

from personalagent.errors import UsageError
from personalagent.profile import ProfileDelta
from personalagent.store import Job, JobState, Store
from tests.strategies import NOON


class Clock:
    """A clock that tests set."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(url: str, clock: Clock) -> Store:
    return Store.open(url, clock=clock)


def say(store: Store, user_id: str, text: str = "Hello") -> int:
    store.start_session(user_id, "s")
    return store.append_turn(user_id, "s", text, enqueue=True)


def infer(store: Store, user_id: str) -> None:
    for turn in store.pending_turns(user_id):
        store.commit_delta(user_id, turn.session_id, turn.turn_index, ProfileDelta())


def test_a_user_has_one_job_whatever_waits(queue: Store) -> None:
    for text in ("one", "two", "three"):
        say(queue, "alice", text)
    say(queue, "bob")
    assert [(job.user_id, job.state, job.pending) for job in queue.jobs()] == [("alice", "queued", 3), ("bob", "queued", 1)]
    assert queue.queue_depth() == 2


def test_a_turn_that_is_not_enqueued_makes_no_job(queue: Store) -> None:
    queue.start_session("alice", "s")
    queue.append_turn("alice", "s", "Hello")
    assert queue.jobs() == ()


def test_a_leased_job_is_nobody_elses_until_its_lease_ends(queue: Store, clock: Clock) -> None:
    say(queue, "alice")
    (job,) = queue.lease_jobs("w1", 5, 30)
    assert (job.state, job.worker, job.leased_until) == (JobState.RUNNING, "w1", NOON + timedelta(seconds=30))
    assert queue.lease_jobs("w2", 5, 30) == ()
    clock.now = NOON + timedelta(seconds=20)
    assert queue.renew_lease(job, 30)
    clock.now = NOON + timedelta(seconds=45)
    assert queue.lease_jobs("w2", 5, 30) == ()
    clock.now = NOON + timedelta(seconds=51)
    (again,) = queue.lease_jobs("w2", 5, 30)
    assert again.worker == "w2"
    assert not queue.renew_lease(job, 30), "the first worker lost it"
    queue.finish_job(job)
    queue.fail_job(job, "late", None)
    assert [each.worker for each in queue.jobs()] == ["w2"], "and cannot end it"


def test_what_was_said_meanwhile_puts_a_job_at_the_end_of_the_queue(queue: Store, clock: Clock) -> None:
    say(queue, "alice")
    clock.now += timedelta(seconds=1)
    say(queue, "bob")
    (job,) = queue.lease_jobs("w", 1, 30)
    infer(queue, "alice")
    say(queue, "alice", "and another thing")
    clock.now += timedelta(seconds=1)
    queue.finish_job(job)
    assert [each.user_id for each in queue.lease_jobs("w", 2, 30)] == ["bob", "alice"]


def test_a_finished_job_is_gone(queue: Store) -> None:
    say(queue, "alice")
    (job,) = queue.lease_jobs("w", 1, 30)
    infer(queue, "alice")
    queue.finish_job(job)
    assert queue.jobs() == () and queue.queue_depth() == 0


def test_a_failed_job_waits_and_a_dead_one_stays_until_it_is_asked_for(queue: Store, clock: Clock) -> None:
    say(queue, "alice")
    (job,) = queue.lease_jobs("w", 1, 30)
    queue.fail_job(job, "LLMTimeout", NOON + timedelta(seconds=10))
    assert queue.lease_jobs("w", 1, 30) == ()
    clock.now = NOON + timedelta(seconds=10)
    (job,) = queue.lease_jobs("w", 1, 30)
    assert (job.attempts, job.reason) == (1, "LLMTimeout")
    queue.fail_job(job, "unreadable", None)
    assert queue.lease_jobs("w", 1, 30) == () and queue.queue_depth() == 0
    (dead,) = queue.jobs()
    assert (dead.state, dead.attempts, dead.reason, dead.pending) == (JobState.DEAD, 2, "unreadable", 1)
    queue.retry_job("alice")
    assert [(each.state, each.attempts) for each in queue.jobs()] == [(JobState.QUEUED, 0)]
    with pytest.raises(UsageError, match="expected a user with a dead job"):
        queue.retry_job("alice")


def test_a_dead_job_lives_again_when_something_new_is_said(queue: Store) -> None:
    say(queue, "alice")
    (job,) = queue.lease_jobs("w", 1, 30)
    queue.fail_job(job, "unreadable", None)
    say(queue, "alice")
    assert [(each.state, each.pending) for each in queue.jobs()] == [(JobState.QUEUED, 2)]


def test_workers_that_ask_at_once_share_the_jobs(queue: Store) -> None:
    names = [f"u{number:02}" for number in range(20)]
    for name in names:
        say(queue, name)
    ready, taken = Barrier(4), list[Job]()

    def work(worker: str) -> None:
        ready.wait()
        while found := queue.lease_jobs(worker, 2, 60):
            taken.extend(found)

    threads = [Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(job.user_id for job in taken) == names


def test_a_message_that_is_sent_again_is_kept_once(queue: Store) -> None:
    queue.start_session("alice", "s")
    queue.start_session("alice", "t")
    first = queue.append_turn("alice", "s", "Hello", enqueue=True, message_key="1:abc")
    assert queue.append_turn("alice", "s", "Hello", enqueue=True, message_key="1:abc") == first
    assert queue.append_turn("alice", "s", "Hello", enqueue=True, message_key="3:abc") == first + 1
    assert queue.append_turn("alice", "t", "Hello", message_key="1:abc") == 0
    assert len(queue.turns("alice")) == 3


def test_a_users_job_goes_with_them(queue: Store) -> None:
    say(queue, "alice")
    queue.delete_user("alice")
    assert queue.jobs() == ()


def test_a_turn_can_start_its_session(queue: Store) -> None:
    assert queue.append_turn("alice", "s", "Hello", starts_session=True) == 0
    assert queue.append_turn("alice", "s", "Bye", starts_session=True) == 1
    assert queue.session_ids("alice") == ("s",)
    with pytest.raises(UsageError, match="expected session_id to be"):
        queue.append_turn("alice", "", "Hello", starts_session=True)
    with pytest.raises(UsageError, match="start it with start_session"):
        queue.append_turn("alice", "t", "Hello")
    assert len(queue.turns("alice")) == 2
