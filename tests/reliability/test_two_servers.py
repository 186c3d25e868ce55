"""Two server processes on one Postgres: what eight sessions say about one user at once is all kept, at no extra cost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from aiohttp import web

from personalagent.store import Store
from tests.server.endpoint import Endpoint, running_endpoint
from tests.store.conftest import empty_postgres, postgres

__all__ = ["empty_postgres", "postgres"]
SESSIONS, UPDATES = 8, 20
FOODS = "consumption_lifestyle.diet.foods"
DEADLINE_S = 180
SERVE = "from personalagent.cli.main import main; main()"


class Policy(Endpoint):
    """A policy that learns the dish of a message, and that needs nothing."""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer one of the two tasks."""
        raw = await request.read()
        prompt = json.loads(raw)["messages"][-1]["content"]
        is_needs = "Request:" in prompt
        if not is_needs:
            self.requests.append(raw)
        dish = re.findall(r"dish\d+", prompt.rpartition("Message:")[2])
        text = (
            "<needs>none</needs>"
            if is_needs
            else f"<classification>\n{FOODS} | add | like | {dish[0]} | {dish[0]}\n</classification>"
        )
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]})


@contextmanager
def server(database: str, policy: str, responder: str) -> Iterator[str]:
    """Run ``personalagent serve`` in a process of its own; yield its address."""
    settings = {"database_url": database, "policy": f"tiny@{policy}", "responder": f"tiny@{responder}", "learn_mode": "after"}
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PERSONALAGENT_", "OPENAI_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *given, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://[\d.]+:\d+", line):
                yield found[0]
                break
        else:
            pytest.fail("the server did not start")
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_no_update_is_lost_and_no_model_is_asked_twice(empty_postgres: str) -> None:
    with ExitStack() as stack:
        responder = stack.enter_context(running_endpoint())
        policy = stack.enter_context(running_endpoint(Policy()))
        servers = [stack.enter_context(server(empty_postgres, policy.address, responder.address)) for _ in range(2)]

        def talk(session: int) -> None:
            for update in range(UPDATES):
                dish = f"dish{session * UPDATES + update:03}"
                answer = httpx.post(
                    f"{servers[(session + update) % 2]}/v1/chat/completions",
                    json={"model": "tiny", "user": "alice", "messages": [{"role": "user", "content": f"I like {dish}"}]},
                    headers={"X-PersonalAgent-Session": f"s{session}"},
                    timeout=60,
                )
                assert answer.status_code == 200, answer.text

        with ThreadPoolExecutor(SESSIONS) as threads:
            list(threads.map(talk, range(SESSIONS)))
        with Store.open(empty_postgres) as store:
            deadline = time.monotonic() + DEADLINE_S
            while store.jobs():
                assert time.monotonic() < deadline, "expected the queue to be worked off"
                time.sleep(0.1)
            wanted = {f"dish{number:03}" for number in range(SESSIONS * UPDATES)}
            assert {value.value for value in store.load_profile("alice").values(FOODS)} == wanted
            assert len(store.turns("alice")) == len(wanted)
            assert store.verify().problems == ()
        assert len(policy.requests) <= 1.05 * len(wanted)
