"""A real server in a thread, over real SQLite, an endpoint of ``tests.server.endpoint`` and a scripted policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from personalagent import Message, PersonalAgent, ScriptedLLM, Settings
from personalagent.llm.openai import OpenAICompatibleLLM
from personalagent.server.app import create_app
from personalagent.server.listen import DrainingServer
from personalagent.store import StoredTurn
from tests.server.endpoint import Endpoint

NOTHING = "<classification>none</classification>"
NO_NEEDS = "<needs>none</needs>"
VEGAN = "<classification>\nconsumption_lifestyle.diet.pattern | add | neutral | vegan | I'm vegan\n</classification>"
DIET_NEEDED = "<needs>\nconsumption_lifestyle.diet.pattern\n</needs>"
Answered = str | Exception


@dataclass
class Clock:
    """A clock that goes on by a second whenever it is looked at, and by days when it is told to."""

    now: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        self.now += timedelta(seconds=1)
        return self.now


@dataclass
class Policy:
    """What the scripted policy answers to its two tasks; change it while the server runs."""

    infer: Callable[[str], Answered] = lambda prompt: VEGAN if "I'm vegan" in prompt else NOTHING
    needs: Callable[[str], Answered] = lambda prompt: NO_NEEDS

    def llm(self) -> ScriptedLLM:
        """Return the policy."""

        def answer(messages: Sequence[Message]) -> Answered:
            prompt = messages[-1].content
            return self.needs(prompt) if "Request:" in prompt else self.infer(prompt)

        return ScriptedLLM(answer)


@dataclass
class Served:
    """A running server."""

    agent: PersonalAgent
    policy: Policy
    clock: Clock
    address: str
    server: DrainingServer
    headers: dict[str, str] = field(default_factory=dict)

    def client(self, **options: Any) -> OpenAI:
        """Return the official client for it."""
        return OpenAI(base_url=f"{self.address}/v1", api_key="none", max_retries=0, timeout=30, **options)

    def post(self, body: dict[str, Any] | bytes, **headers: str) -> httpx.Response:
        """Send a request as it is."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.address}/v1/chat/completions"
        if isinstance(body, bytes):
            return httpx.post(url, content=body, headers=named, timeout=30)
        return httpx.post(url, json=body, headers=named, timeout=30)

    def get(self, path: str) -> httpx.Response:
        """Read a path."""
        return httpx.get(f"{self.address}{path}", timeout=30)

    def turns(self, user_id: str) -> tuple[StoredTurn, ...]:
        """Return what is kept of a user."""
        return self.agent.store.turns(user_id)

    def values(self, user_id: str) -> list[str]:
        """Return what is known about a user."""
        return [value.value for value in self.agent.store.load_profile(user_id)]

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so; a test that waits in vain fails."""
        deadline = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < deadline, "expected it to become so within 20 s"
            time.sleep(0.01)

    def wait_until_inferred(self, user_id: str) -> None:
        """Wait until no turn of a user waits to be inferred."""
        self.wait_for(lambda: bool(self.turns(user_id)) and not self.agent.store.pending_turns(user_id))


@contextmanager
def serving(folder: Path, endpoint: Endpoint, *, worker: bool = True, **settings: Any) -> Iterator[Served]:
    """Run a server."""
    policy, clock = Policy(), Clock()
    agent = PersonalAgent(
        Settings.load(database_url=f"sqlite:///{folder / 'served.db'}", **{"question_wait_s": 5, "timeout_s": 5, **settings}),
        policy=policy.llm(),
        responder=OpenAICompatibleLLM("tiny", base_url=endpoint.address, api_key="upstream-key"),
        clock=clock,
    )
    listening = threading.Event()
    found: list[str] = []

    def on_listening(address: str) -> None:
        found.append(address)
        listening.set()

    server = DrainingServer(create_app(agent, worker=worker), "127.0.0.1", 0, drain_s=5, on_listening=on_listening)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert listening.wait(20)
        yield Served(agent, policy, clock, found[0], server)
    finally:
        server.should_exit = True
        thread.join()
        agent.store.close()
