"""The REST routes behind a real HTTP server and a real SQLite file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from personalagent.agent import PersonalAgent
from personalagent.config import Settings
from personalagent.llm.openai import OpenAICompatibleLLM
from personalagent.llm.scripted import ScriptedLLM
from personalagent.profile import Evidence, OpKind, Polarity, ProfileDelta, SlotOp, Source
from personalagent.server.app import create_app
from personalagent.server.auth import Scope
from personalagent.store import Store
from tests.strategies import NOON

CUISINES = "consumption_lifestyle.diet.cuisines"
CITY = "geography_environment.location.city"
NEEDS = f"<needs>\n{CUISINES}\n</needs>"
STARTS_WITHIN_S = 20.0


@dataclass(frozen=True)
class Server:
    """A running server, its store and a client of it."""

    store: Store
    client: httpx.Client
    database: Path
    app: FastAPI

    def say(self, text: str, value: str, *, path: str = CUISINES, user_id: str = "alice", session_id: str = "s1") -> None:
        """Let a user say something that revealed a value."""
        self.store.start_session(user_id, session_id)
        turn_index = self.store.append_turn(user_id, session_id, text)
        cardinality = self.app.state.agent.schema.slot(path).cardinality
        proof = Evidence(text, session_id, turn_index)
        op = SlotOp(OpKind.ADD, path, value, NOON, Polarity.NEUTRAL, Source.STATED, cardinality, proof)
        self.store.commit_delta(user_id, session_id, turn_index, ProfileDelta((op,)))
        self.store.set_response(user_id, session_id, turn_index, f"You said: {text}")

    def key(self, *scopes: Scope, user_id: str | None = None) -> dict[str, str]:
        """Return the headers of a new key."""
        secret, _ = self.store.create_key("default", scopes, user_id=user_id)
        return {"Authorization": f"Bearer {secret}"}


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run a server on a database in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "agent.db"
    store = Store.open(f"sqlite:///{database}")
    policy = ScriptedLLM(lambda messages: NEEDS)
    responder = OpenAICompatibleLLM("tiny", base_url="http://127.0.0.1:9/v1", api_key="none")
    app = create_app(PersonalAgent(Settings(), policy=policy, responder=responder, store=store), worker=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1/users", timeout=30) as client:
            yield Server(store, client, database, app)
    finally:
        server.should_exit = True
        thread.join(STARTS_WITHIN_S)
        store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server without keys: every request may do everything."""
    with serving(tmp_path / "a") as running:
        yield running
