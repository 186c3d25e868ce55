"""What surrounds the routes: health, metrics, request ids, limits, draining."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from personalagent import PersonalAgent, ScriptedLLM, Settings
from personalagent.errors import ConfigError
from personalagent.server.app import create_app
from tests.server.endpoint import Endpoint
from tests.server.serving import Served, serving

REQUEST = {"model": "tiny", "user": "secret-alice", "messages": [{"role": "user", "content": "Dinner ideas?"}]}


def test_a_fresh_server_is_healthy_and_ready(served: Served) -> None:
    assert served.get("/healthz").json() == {"status": "ok"}
    assert (served.get("/readyz").status_code, served.get("/readyz").json()) == (200, {"status": "ok"})


def test_a_draining_server_is_not_ready_and_takes_nothing_new(served: Served) -> None:
    served.server._app.state.is_draining = True
    assert served.get("/readyz").status_code == 503
    assert served.get("/healthz").status_code == 200
    answer = served.post(REQUEST)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
    assert answer.headers["retry-after"]


def test_the_metrics_count_by_route_and_name_no_user(served: Served) -> None:
    served.post(REQUEST)
    text = served.get("/metrics").text
    assert 'personalagent_requests_total{code="200",route="/v1/chat/completions"} 1.0' in text
    assert "personalagent_build_info" in text
    assert "secret-alice" not in text


def test_a_request_id_is_given_back_or_made(served: Served) -> None:
    assert served.post(REQUEST, X_Request_Id="mine-1").headers["x-request-id"] == "mine-1"
    made = served.post(REQUEST, X_Request_Id="not one <x>").headers["x-request-id"]
    assert len(made) == 32


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_long_is_a_413(tmp_path: Path, endpoint: Endpoint, is_chunked: bool) -> None:
    with serving(tmp_path, endpoint, max_body_bytes=1000) as served:
        raw = b" " * 2000
        content = (raw[i : i + 500] for i in range(0, 2000, 500)) if is_chunked else raw
        answer = httpx.post(f"{served.address}/v1/chat/completions", content=content)
        assert answer.status_code == 413
        assert "1000 bytes" in answer.json()["error"]["message"]
        assert endpoint.requests == []


def test_more_at_once_than_fit_are_told_to_come_back(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.plan.stall_after = 0
    with serving(tmp_path, endpoint, max_in_flight=1) as served:
        url = f"{served.address}/v1/chat/completions"
        with httpx.stream("POST", url, json={**REQUEST, "stream": True}, timeout=10):
            answer = served.post(REQUEST)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert served.get("/healthz").status_code == 200


def test_an_unknown_route_is_an_error_that_clients_read(served: Served) -> None:
    answer = served.get("/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


def test_a_responder_that_is_no_endpoint_is_refused(tmp_path: Path) -> None:
    scripted = ScriptedLLM([])
    agent = PersonalAgent(Settings.load(database_url=f"sqlite:///{tmp_path / 'x.db'}"), policy=scripted, responder=scripted)
    with pytest.raises(ConfigError, match="expected the server's responder"):
        create_app(agent)
    agent.store.close()
