"""The background worker: what fails is tried again, then shown as dead; what is one user's stays in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from personalagent import PersonalAgent, ScriptedLLM, Settings
from personalagent.errors import LLMResponseError, LLMUnreachable
from personalagent.server.jobs import Worker
from personalagent.server.learning import UserLocks
from personalagent.server.metrics import Metrics
from tests.server.serving import NOTHING, VEGAN, Policy

BROKEN = LLMResponseError("expected a chat completion, got something else; look at the log")
DOWN = LLMUnreachable("expected an endpoint, got no connection; start it")


@pytest.fixture
def policy() -> Policy:
    return Policy()


@pytest.fixture
def agent(tmp_path: Path, policy: Policy) -> PersonalAgent:
    settings = Settings.load(database_url=f"sqlite:///{tmp_path / 'jobs.db'}")
    return PersonalAgent(settings, policy=policy.llm(), responder=ScriptedLLM([]))


async def until(is_so: object, worker: Worker) -> None:
    """Run a worker until something is so, then stop it."""
    assert callable(is_so)
    working = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - what is waited for is in the database
            await asyncio.sleep(0.01)
    worker.stop(5)
    await working


def worker_of(agent: PersonalAgent) -> Worker:
    return Worker(agent, Metrics(), UserLocks(), poll_s=0.01, pause_s=0.001)


async def test_turns_of_a_user_are_inferred_together_and_in_order(agent: PersonalAgent, policy: Policy) -> None:
    for text in ("I'm vegan", "Hello", "Bye"):
        await agent.keep("alice", text, session_id="s")
    await until(lambda: not agent.store.jobs(), worker_of(agent))
    assert [call.messages[-1].content.rpartition("Message: ")[2] for call in agent.policy.calls] == ["I'm vegan", "Hello", "Bye"]
    assert [value.value for value in await agent.profile("alice")] == ["vegan"]


async def test_what_fails_is_tried_again(agent: PersonalAgent, policy: Policy) -> None:
    answers = iter([BROKEN, VEGAN])
    policy.infer = lambda prompt: next(answers)
    await agent.keep("alice", "I'm vegan", session_id="s")
    await until(lambda: not agent.store.jobs(), worker_of(agent))
    assert [value.value for value in await agent.profile("alice")] == ["vegan"]


async def test_what_fails_three_times_is_dead_and_seen(agent: PersonalAgent, policy: Policy) -> None:
    policy.infer = lambda prompt: BROKEN
    await agent.keep("alice", "I'm vegan", session_id="s")
    await until(lambda: [job.state for job in agent.store.jobs()] == ["dead"], worker_of(agent))
    (job,) = agent.store.jobs()
    assert (job.user_id, job.reason) == ("alice", "LLMResponseError")
    assert len(agent.policy.calls) == 3


async def test_a_dead_job_of_one_user_holds_up_no_other(agent: PersonalAgent, policy: Policy) -> None:
    policy.infer = lambda prompt: "nonsense" if "poison" in prompt else NOTHING
    await agent.keep("alice", "poison", session_id="s")
    await agent.keep("bob", "Hello", session_id="s")
    await until(lambda: [job.state for job in agent.store.jobs()] == ["dead"], worker_of(agent))
    assert agent.store.pending_turns("bob") == ()


async def test_a_policy_that_is_down_is_waited_for(agent: PersonalAgent, policy: Policy) -> None:
    policy.infer = lambda prompt: DOWN if len(agent.policy.calls) < 6 else VEGAN
    await agent.keep("alice", "I'm vegan", session_id="s")
    await until(lambda: not agent.store.jobs(), worker_of(agent))
    assert [value.value for value in await agent.profile("alice")] == ["vegan"]


async def test_a_worker_that_stops_ends_what_it_began(agent: PersonalAgent) -> None:
    for number in range(20):
        await agent.keep(f"user{number}", "I'm vegan", session_id="s")
    worker = worker_of(agent)
    await until(lambda: len(agent.store.jobs()) < 15, worker)
    states = {job.state for job in agent.store.jobs()}
    assert states <= {"queued"}
    await until(lambda: not agent.store.jobs(), worker_of(agent))
    assert len(agent.policy.calls) == 20
