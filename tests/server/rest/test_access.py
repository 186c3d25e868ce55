"""Who may do what, requests that are sent twice, and the document that describes it all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from personalagent.server.auth import Scope
from personalagent.store import Store
from tests.server.rest.conftest import CUISINES, Server

CITY = {"set": [{"slot": "location.city", "value": "Porto"}]}
VERDICTS = {"verdicts": [{"slot": CUISINES, "value": "Thai", "verdict": "confirm"}]}
IMPORT: dict[str, Any] = {"format": "personalagent.profile/1", "user_id": "x", "exported_at": "now", "operations": []}
OPERATION = {
    "op": "add",
    "path": CUISINES,
    "value": "Thai",
    "at": "2026-03-01T12:00:00Z",
    "polarity": "like",
    "source": "edited",
    "cardinality": "many",
}
READS = [
    ("GET", "/profile", None),
    ("GET", "/history", None),
    ("GET", "/review", None),
    ("GET", "/sessions", None),
    ("GET", "/sessions/s1", None),
    ("GET", "/consents", None),
    ("GET", "/export", None),
    ("GET", "/events", None),
    ("POST", "/assess", {"request": "Any ideas for dinner?"}),
]
CHANGES = [
    ("DELETE", "/profile/diet.cuisines", None),
    ("POST", "/undo", None),
    ("POST", "/review", VERDICTS),
    ("DELETE", "", None),
]
CREATES: list[tuple[str, str, Any]] = [
    ("PATCH", "/profile", CITY),
    ("PUT", "/consents/training", {"is_granted": True}),
    ("POST", "/import", IMPORT),
]
USERS = "/v1/users/{user_id}"
EVERY = [*READS, *CHANGES, *CREATES]


def test_the_routes_here_are_all_routes(server: Server) -> None:
    here = {(method, path.replace("/s1", "/{session_id}").replace("/training", "/{category}")) for method, path, _ in EVERY}
    here = {(method, path.replace("/diet.cuisines", "/{slot}")) for method, path in here}
    paths = {path: item for path, item in server.app.openapi()["paths"].items() if path.startswith(USERS)}
    there = {(method.upper(), path.removeprefix(USERS)) for path, item in paths.items() for method in item}
    assert here == there


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
def test_a_route_wants_a_key_with_its_scope(server: Server, method: str, path: str, body: object) -> None:
    server.say("I love Thai food", "Thai")
    is_read = (method, path, body) in READS
    wrong = server.key(Scope.CHAT, Scope.PROFILE_WRITE) if is_read else server.key(Scope.CHAT, Scope.PROFILE_READ)
    for headers, status in ((wrong, 403), ({}, 401), ({"Authorization": "Bearer pa_live_' OR '1'='1"}, 401)):
        answer = server.client.request(method, f"/alice{path}", json=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert "Thai" not in answer.text
    assert len(server.store.load_profile("alice")) == 1


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
def test_another_user_and_nobody_look_the_same(server: Server, method: str, path: str, body: object) -> None:
    server.say("I love Thai food", "Thai")
    mine = server.key(Scope.PROFILE_READ, Scope.PROFILE_WRITE, user_id="bob")
    answers = [server.client.request(method, f"/{user_id}{path}", json=body, headers=mine) for user_id in ("alice", "nobody")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert len(server.store.load_profile("alice")) == 1
    assert server.store.users() == ("alice",)


@pytest.mark.parametrize(("method", "path", "body"), [*READS, *CHANGES])
def test_a_user_of_whom_nothing_is_kept_is_not_found(server: Server, method: str, path: str, body: object) -> None:
    assert server.client.request(method, f"/nobody{path}", json=body).status_code == 404
    assert server.store.users() == ()


def test_a_request_sent_again_has_its_effect_once(server: Server) -> None:
    key = {"Idempotency-Key": "k1"}
    first = server.client.patch("/alice/profile", json=CITY, headers=key)
    again = server.client.patch("/alice/profile", json=CITY, headers=key)
    assert (again.status_code, again.content, again.headers["ETag"]) == (200, first.content, first.headers["ETag"])
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert len(server.store.operations("alice")) == 1


def test_a_key_belongs_to_one_request_of_one_user(server: Server) -> None:
    key = {"Idempotency-Key": "k1"}
    other = {"set": [{"slot": "location.city", "value": "Faro"}]}
    assert server.client.patch("/alice/profile", json=CITY, headers=key).status_code == 200
    reused = server.client.patch("/alice/profile", json=other, headers=key)
    assert (reused.status_code, reused.json()["type"]) == (422, "urn:personalagent:problem:key-reused")
    assert server.client.post("/alice/undo", headers=key).status_code == 422
    assert server.client.patch("/bob/profile", json=other, headers=key).status_code == 200


def test_a_request_that_failed_may_be_sent_again_with_its_key(server: Server) -> None:
    server.client.patch("/alice/profile", json=CITY)
    key = {"Idempotency-Key": "k1", "If-Match": '"999"'}
    assert server.client.patch("/alice/profile", json=CITY, headers=key).status_code == 412
    assert server.client.patch("/alice/profile", json=CITY, headers=key).status_code == 412


def test_a_request_that_is_still_at_work_is_not_done_twice(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()
    edit: Callable[..., Any] = Store.edit

    def slow(*args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert leave.wait(30)
        return edit(*args, **kwargs)

    monkeypatch.setattr(Store, "edit", slow)
    key = {"Idempotency-Key": "k1"}
    answers: list[int] = []
    first = threading.Thread(
        target=lambda: answers.append(server.client.patch("/alice/profile", json=CITY, headers=key).status_code)
    )
    first.start()
    assert entered.wait(30)
    assert server.client.patch("/alice/profile", json=CITY, headers=key).status_code == 409
    leave.set()
    first.join(30)
    assert answers == [200]
    assert len(server.store.operations("alice")) == 1


def test_the_api_document_is_valid_and_every_body_has_an_example(server: Server) -> None:
    document: dict[str, Any] = server.app.openapi()
    validate(document)
    schemas = document["components"]["schemas"]
    bodies = [
        content["schema"]["$ref"].rpartition("/")[2]
        for path, item in document["paths"].items()
        if path.startswith(USERS)
        for operation in item.values()
        for part in (operation.get("requestBody", {}), operation["responses"].get("200", {}))
        for kind, content in part.get("content", {}).items()
        if kind == "application/json"
    ]
    assert bodies
    assert [name for name in bodies if not schemas[name].get("examples")] == []


def test_a_broken_database_is_a_problem_that_says_when_to_come_back(server: Server, tmp_path: Path) -> None:
    server.client.patch("/alice/profile", json=CITY)
    with server.store._database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE profiles")
    answer = server.client.get("/alice/profile")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    assert str(tmp_path) not in answer.text


NUL = {"set": [{"slot": "location.city", "value": "Po\0rto"}]}
HALF = '{"set": [{"slot": "location.city", "value": "\\ud800"}]}'


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("PATCH", "/alice/profile", json.dumps(NUL)),
        ("PATCH", "/alice/profile", HALF),
        ("PATCH", "/alice/profile", "{" * 50_000),
        ("PATCH", "/alice/profile", b"\xff\xfe"),
        ("POST", "/alice/import", json.dumps({**IMPORT, "operations": [{**OPERATION, "value": "Po\0rto"}]})),
        ("POST", "/alice/import", json.dumps({**IMPORT, "operations": [{**OPERATION, "at": "2026-03-01T12:00:00"}]})),
        ("PATCH", "/al%00ice/profile", json.dumps(CITY)),
        ("PATCH", "/" + "a" * 201 + "/profile", json.dumps(CITY)),
        ("GET", "/al%00ice/profile", ""),
    ],
)
def test_text_that_no_database_keeps_is_refused_and_changes_nothing(
    server: Server, method: str, path: str, content: str | bytes
) -> None:
    answer = server.client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [user_id for user_id in server.store.users() if len(server.store.load_profile(user_id))] == []


@pytest.mark.parametrize("strange", ["' OR '1'='1", "%27%20UNION%20SELECT", "*", "..%2Falice", "alice%00", "ALICE", "{{7*7}}"])
def test_an_id_is_compared_and_never_read_as_anything_else(server: Server, strange: str) -> None:
    server.say("I love Thai food", "Thai")
    answer = server.client.get(f"/{strange}/profile")
    assert answer.status_code in (404, 422)
    assert "Thai" not in answer.text


def test_a_user_of_another_tenant_is_another_user(server: Server) -> None:
    secret, _ = server.store.create_key("acme", (Scope.PROFILE_READ, Scope.PROFILE_WRITE))
    theirs = {"Authorization": f"Bearer {secret}"}
    server.say("I love Thai food", "Thai")
    assert server.client.get("/alice/profile", headers=theirs).status_code == 404
    assert server.client.patch("/alice/profile", json=CITY, headers=theirs).status_code == 200
    assert [value["value"] for value in server.client.get("/alice/profile", headers=theirs).json()["profile"]] == ["Porto"]
    assert server.client.delete("/alice", headers=theirs).status_code == 204
    assert [value.value for value in server.store.load_profile("alice")] == ["Thai"]


def test_an_answer_names_the_request(server: Server) -> None:
    answer = server.client.get("/nobody/profile", headers={"X-Request-Id": "r-17"})
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (404, "r-17")
