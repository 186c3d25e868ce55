"""The log: a line for every request, and nothing of anybody in it."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from personalagent import Settings
from personalagent.errors import ConfigError
from personalagent.server.auth import Scope
from personalagent.server.request_log import JsonFormatter, TextFormatter
from tests.server.endpoint import Endpoint, running_endpoint
from tests.server.serving import serving

SERVE = "from personalagent.cli.main import main; main()"
REQUEST = {"model": "tiny", "user": "canary-alice", "messages": [{"role": "user", "content": "I'm vegan, canary-word. Dinner?"}]}


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Collect what the server would write, at the levels that it logs at."""
    stream, root, ours = io.StringIO(), logging.getLogger(), logging.getLogger("personalagent")
    handler, levels = logging.StreamHandler(stream), (root.level, ours.level)
    handler.setFormatter(JsonFormatter())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


def requests_in(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines about requests."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["logger"] == "personalagent.requests"]


def test_every_request_is_a_line_with_its_route_and_key(tmp_path: Path, endpoint: Endpoint) -> None:
    with logged() as stream, serving(tmp_path, endpoint) as served:
        secret, key = served.agent.store.create_key("acme", list(Scope))
        served.post(REQUEST, Authorization=f"Bearer {secret}", X_Request_Id="mine-1")
        httpx.get(f"{served.address}/v1/users/nobody/profile", headers={"Authorization": f"Bearer {secret}"})
        served.post(REQUEST, Authorization="Bearer wrong")
        served.get("/v1/nothing")
        served.get("/healthz")
    chat, rest, refused, unknown = requests_in(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", chat.pop("time")) and chat.pop("duration_ms") > 0
    assert chat == {
        "level": "info",
        "logger": "personalagent.requests",
        "message": "request",
        "request_id": "mine-1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "tenant": "acme",
        "key_id": key.key_id,
    }
    assert (rest["method"], rest["route"], rest["status"]) == ("GET", "/v1/users/{user_id}/profile", 404)
    assert refused["status"] == 401 and "key_id" not in refused and "tenant" not in refused
    assert (unknown["route"], unknown["status"]) == ("other", 404)


def test_without_keys_a_line_names_the_tenant_alone(tmp_path: Path, endpoint: Endpoint) -> None:
    with logged() as stream, serving(tmp_path, endpoint) as served:
        served.post({**REQUEST, "stream": True})
    (line,) = requests_in(stream)
    assert line["tenant"] == "default" and "key_id" not in line


def test_nothing_of_anybody_is_in_the_log(tmp_path: Path, endpoint: Endpoint) -> None:
    with logged() as stream, serving(tmp_path, endpoint) as served:
        secret, _ = served.agent.store.create_key("default", list(Scope), name="canary-name")
        named = {"Authorization": f"Bearer {secret}", "X-PersonalAgent-Session": "canary-session", "X-Canary": "canary"}
        for body in (REQUEST, {**REQUEST, "stream": True}, {**REQUEST, "messages": "canary"}):
            served.post(body, **named)
        served.post(b'{"canary', **named)
        served.wait_until_inferred("canary-alice")
        served.policy.infer = lambda prompt: RuntimeError("canary-error")
        served.post({**REQUEST, "messages": [{"role": "user", "content": "And canary-lunch?"}]}, **named)
        endpoint.plan.status, endpoint.plan.raw = 500, b'{"error": {"message": "canary-refusal"}}'
        served.post(REQUEST, **named)
        served.post(REQUEST, Authorization="Bearer pa_live_canary")
        for path in ("profile?canary=canary", "canary", "sessions/canary"):
            httpx.get(f"{served.address}/v1/users/canary-alice/{path}", headers=named)
        httpx.patch(f"{served.address}/v1/users/canary-alice/profile", headers=named, json={"canary": "canary"})
        served.wait_for(lambda: len(requests_in(stream)) == 11)
    assert "canary" not in stream.getvalue().lower() and secret not in stream.getvalue() and secret[8:] not in stream.getvalue()


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_logged_without_its_words(formatter: logging.Formatter) -> None:
    try:
        raise KeyError("canary")
    except KeyError:
        record = logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "it failed", None, sys.exc_info())
    line = formatter.format(record)
    assert "KeyError" in line and "test_request_log.py" in line and "it failed" in line
    assert "canary" not in line.replace('raise KeyError("canary")', "").replace('raise KeyError(\\"canary\\")', "")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_server_writes_its_log_to_standard_error(tmp_path: Path, endpoint: Endpoint, log_format: str) -> None:
    with running_endpoint() as policy:
        settings = {
            "database_url": f"sqlite:///{tmp_path / 'x.db'}", "policy": f"tiny@{policy.address}",
            "responder": f"tiny@{endpoint.address}", "log_format": log_format,
        }  # fmt: skip
        given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PERSONALAGENT_", "OPENAI_"))}
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *given, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.search(r"http://[\d.]+:\d+", first)
        assert found, first
        answer = httpx.post(f"{found[0]}/v1/chat/completions", json=REQUEST, timeout=60)
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(60) == 0 and answer.status_code == 200
    if log_format == "text":
        assert rest == "" and first.startswith("listening")
        return
    lines = [json.loads(line) for line in (first + rest).splitlines()]
    requests = [line for line in lines if line["logger"] == "personalagent.requests"]
    assert [(line["route"], line["status"]) for line in requests] == [("/v1/chat/completions", 200)]
    assert "canary" not in rest


def test_another_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="log_format"):
        Settings.load(log_format="xml")
