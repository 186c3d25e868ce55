"""Rate limits and quotas, counted for every key over real HTTP. Days are long enough for no window to end within a test."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from limits.storage import MemoryStorage
from openai import RateLimitError

from personalagent import PersonalAgent, ScriptedLLM, Settings
from personalagent.errors import ConfigError
from personalagent.llm.openai import OpenAICompatibleLLM
from personalagent.server.app import create_app
from personalagent.server.auth import Scope
from tests.server.endpoint import Endpoint
from tests.server.serving import Served, serving

REQUEST = {"model": "tiny", "messages": [{"role": "user", "content": "Dinner ideas?"}]}
DAY_S = 24 * 3600


def key_of(served: Served, **limits: str) -> str:
    """Make a key that may do everything, and return its header's value."""
    return f"Bearer {served.agent.store.create_key('default', list(Scope), **limits)[0]}"


def left(answer: httpx.Response) -> dict[str, int]:
    """Read what ``RateLimit`` says is left, by the limit's name."""
    parts = [part.strip().split(";") for part in answer.headers["ratelimit"].split(",")]
    return {name.strip('"'): int(rest.removeprefix("r=")) for name, rest, _ in parts}


def test_one_request_too_many_is_refused_as_openais_clients_read_it(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, rate_limit="2/day") as served:
        answers = [served.post(REQUEST) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [left(answer) for answer in answers] == [{"rate": 1}, {"rate": 0}, {"rate": 0}]
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {f'"rate";q=2;w={DAY_S}'}
        refused = answers[-1]
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "expected at most 2 requests a day with this key" in error["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 2 * DAY_S
        assert len(endpoint.requests) == 2
        with pytest.raises(RateLimitError):
            served.client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}])


def test_the_profile_routes_answer_with_a_problem(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, rate_limit="1/day") as served:
        assert served.get("/v1/users/alice/profile").status_code == 404
        refused = served.get("/v1/users/alice/profile")
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert refused.json()["type"] == "urn:personalagent:problem:too-many"
        assert int(refused.headers["retry-after"]) >= 1 and left(refused) == {"rate": 0}


def test_health_and_metrics_are_free(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, rate_limit="1/day") as served:
        assert [served.post(REQUEST).status_code for _ in range(2)] == [200, 429]
        for path in ("/healthz", "/readyz", "/metrics"):
            answer = served.get(path)
            assert answer.status_code == 200 and "ratelimit" not in answer.headers


def test_every_key_is_counted_on_its_own_and_its_own_limits_go_first(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, rate_limit="2/day") as served:
        usual, strict, free = key_of(served), key_of(served, rate_limit="1/day"), key_of(served, rate_limit="none")
        codes = {
            name: [served.post(REQUEST, Authorization=key).status_code for _ in range(3)]
            for name, key in {"usual": usual, "strict": strict, "free": free}.items()
        }
        assert codes == {"usual": [200, 200, 429], "strict": [200, 429, 429], "free": [200, 200, 200]}
        assert served.post(REQUEST, Authorization="Bearer pa_live_wrong").status_code == 401


def test_a_quota_is_told_apart_and_what_the_rate_refuses_takes_nothing_from_it(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint) as served:
        small = key_of(served, quota="1/month")
        assert served.post(REQUEST, Authorization=small).status_code == 200
        refused = served.post(REQUEST, Authorization=small)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        both = key_of(served, rate_limit="1/day", quota="5/month")
        answers = [served.post(REQUEST, Authorization=both) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 429, 429]
        assert left(answers[-1]) == {"rate": 0, "quota": 4}


def test_without_limits_nothing_is_said_of_them(served: Served) -> None:
    assert "ratelimit" not in served.post(REQUEST).headers


class LostStorage(MemoryStorage):
    """A storage whose server is gone."""

    STORAGE_SCHEME = ["lost"]  # noqa: RUF012 - as in the package

    @property
    def base_exceptions(self) -> type[Exception]:
        return ConnectionError

    def _lose(self, *arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no connection to lost://app:hunter2@cache")

    incr = acquire_sliding_window_entry = _lose


def test_requests_that_cannot_be_counted_are_let_through(
    tmp_path: Path, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        serving(tmp_path, endpoint, quota="1/day", rate_limit_storage="lost://app:hunter2@cache") as served,
    ):
        assert [served.post(REQUEST).status_code for _ in range(2)] == [200, 200]
    assert "a request could not be counted: ConnectionError" in caplog.text and "hunter2" not in caplog.text


@pytest.mark.parametrize("limit", ["often", "120", "0/minute", "120/fortnight", "-1/day", "1/minute;5/day", ""])
def test_a_limit_that_cannot_be_read_is_refused_at_the_start(limit: str) -> None:
    with pytest.raises(ConfigError, match=r"expected quota .*NUMBER/UNIT .* e\.g\. 120/minute, or none"):
        Settings.load(quota=limit)


@pytest.mark.parametrize("url", ["nowhere://app:hunter2@cache", "async+memory://"])
def test_a_storage_that_there_is_not_is_refused_at_the_start(tmp_path: Path, endpoint: Endpoint, url: str) -> None:
    agent = PersonalAgent(
        Settings.load(database_url=f"sqlite:///{tmp_path / 'x.db'}", rate_limit_storage=url),
        policy=ScriptedLLM([]),
        responder=OpenAICompatibleLLM("tiny", base_url=endpoint.address),
    )
    with pytest.raises(ConfigError, match=r"expected rate_limit_storage to be memory://") as raised:
        create_app(agent)
    agent.store.close()
    assert "hunter2" not in str(raised.value)
