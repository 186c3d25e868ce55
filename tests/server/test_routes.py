"""Every route takes the scope that the policy table says; one that is not in the table fails here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Route

from personalagent.server.auth import ROUTES, Requirement, Scope
from personalagent.server.memobase_refused import REFUSED
from personalagent.server.memobase_wire import PREFIX
from personalagent.server.problem import NO_SUCH_USER
from tests.server.endpoint import Endpoint
from tests.server.serving import Served, serving

PARTS = {"slot": "location.city", "category": "basic_demographics", "session_id": "s"}
PARTS |= {"blob_id": "s", "blob_type": "chat", "profile_id": "p", "event_id": "e"}
SCOPED = [(method, path, scope) for (method, path), scope in ROUTES.items() if scope is not None]


def scopes_of(dependant: Dependant) -> Iterator[Scope]:
    """Yield the scopes that a route's dependencies take."""
    if isinstance(dependant.call, Requirement):
        yield dependant.call.scope
    for each in dependant.dependencies:
        yield from scopes_of(each)


def routes_of(router: Any) -> Iterator[Route]:
    """Yield the routes of an application or router, included ones too; anything else that answers requests fails the test."""
    for route in router.routes:
        if included := getattr(route, "original_router", None):
            yield from routes_of(included)
        else:
            assert isinstance(route, Route), route
            yield route


def test_the_table_names_every_route_with_the_scope_it_takes(served: Served) -> None:
    found: dict[tuple[str, str], Scope | None] = {}
    for route in routes_of(served.server.config.app):
        scopes = list(scopes_of(route.dependant)) if isinstance(route, APIRoute) else []
        assert len(scopes) <= 1
        for method in (route.methods or set()) - {"HEAD"}:
            found[method, route.path] = scopes[0] if scopes else None
    assert found == ROUTES


def ask(served: Served, method: str, path: str, key: str | None, **headers: str) -> httpx.Response:
    """Ask a route about alice, with a body that is good enough to get past its shape."""
    where = path.replace(":path", "").format(user_id="alice", **PARTS)
    if path.endswith("/events"):
        headers["Accept"] = "text/event-stream"
    given = {**headers, **({"Authorization": f"Bearer {key}"} if key else {})}
    return httpx.request(
        method, f"{served.address}{where}", headers=given, json={} if method in ("POST", "PATCH", "PUT") else None
    )


def is_refused(method: str, path: str) -> bool:
    """Tell whether a call of the Memobase layer is refused to everybody."""
    return any((method, path) == (each[0], f"{PREFIX}{each[1]}") for each in REFUSED)


@pytest.fixture
def keyed(tmp_path: Path, endpoint: Endpoint) -> Iterator[Served]:
    """A server for which a key exists."""
    with serving(tmp_path, endpoint) as running:
        running.agent.store.create_key("default", list(Scope), name="service")
        yield running


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_no_route_answers_without_a_valid_key(keyed: Served, method: str, path: str, scope: Scope) -> None:
    store, long_ago = keyed.agent.store, datetime.now(UTC) - timedelta(days=1)
    expired, _ = store.create_key("default", list(Scope), expires_at=long_ago)
    revoked, key = store.create_key("default", list(Scope))
    store.revoke_key(key.key_id)
    for secret in (None, "pa_live_guessed", expired, revoked, ""):
        assert ask(keyed, method, path, secret).status_code == 401
    basic = httpx.request(method, f"{keyed.address}/v1/models", headers={"Authorization": f"Basic {revoked}"})
    assert basic.status_code in (401, 405)


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_a_key_without_the_scope_is_refused(keyed: Served, method: str, path: str, scope: Scope) -> None:
    others, _ = keyed.agent.store.create_key("default", [each for each in Scope if each is not scope])
    assert ask(keyed, method, path, others).status_code == 403


@pytest.mark.parametrize(("method", "path", "scope"), [each for each in SCOPED if "{user_id}" in each[1]])
def test_a_key_of_a_user_sees_nobody_else(keyed: Served, method: str, path: str, scope: Scope) -> None:
    """Whether alice exists or not, bob's key is told the same."""
    bobs, _ = keyed.agent.store.create_key("default", list(Scope), user_id="bob")
    before = ask(keyed, method, path, bobs)
    keyed.agent.store.start_session("alice", "s")
    after = ask(keyed, method, path, bobs)
    assert (before.status_code, before.content) == (after.status_code, after.content)
    if is_refused(method, path):
        assert before.json()["errno"] == 501
        return
    status = before.json()["errno"] if path.startswith(PREFIX) else before.status_code
    assert status == 404 and NO_SUCH_USER in before.text


def test_without_keys_only_this_machine_is_let_in(served: Served) -> None:
    assert served.get("/v1/models").status_code == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = httpx.get(f"{served.address}/v1/models", headers=headers)
        assert answer.status_code == 403
    assert httpx.get(f"{served.address}/v1/models", headers={"Origin": "http://localhost:3000"}).status_code == 200


def test_the_secret_is_kept_nowhere(keyed: Served, tmp_path: Path) -> None:
    secret, key = keyed.agent.store.create_key("default", [Scope.CHAT])
    assert secret.startswith(key.prefix) and len(secret) >= len("pa_live_") + 43
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert secret.encode() not in everything and secret[len(key.prefix) :].encode() not in everything
