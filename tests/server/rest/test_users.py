"""Sessions, consents, export, import, erasure, assessment and the live profile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.server.rest.conftest import CUISINES, Server, serving

CANARY = "Zanzibarian"


def test_sessions_and_what_each_changed(server: Server) -> None:
    server.say("I love Thai food", "Thai", session_id="s/1")
    server.say("I live in Faro", "Faro", path="geography_environment.location.city", session_id="s/1")
    server.say("I moved to Porto", "Porto", path="geography_environment.location.city", session_id="s2")
    listed = server.client.get("/alice/sessions").json()
    assert [(each["session_id"], each["turns"], each["not_reviewed"]) for each in listed["sessions"]] == [
        ("s/1", 2, 2),
        ("s2", 1, 1),
    ]
    first = server.client.get("/alice/sessions/s/1").json()
    assert first["old"] == []
    assert [value["value"] for value in first["added"]] == ["Thai", "Faro"]
    assert [turn["utterance"] for turn in first["turns"]] == ["I love Thai food", "I live in Faro"]
    assert [op["quote"] for op in first["turns"][0]["operations"]] == ["I love Thai food"]
    second = server.client.get("/alice/sessions/s2").json()
    assert [value["value"] for value in second["removed"]] == ["Faro"]
    assert [value["value"] for value in second["added"]] == ["Porto"]
    assert [value["value"] for value in second["new"]] == ["Thai", "Porto"]
    assert server.client.get("/alice/sessions/s3").status_code == 404


def test_sessions_come_page_by_page(server: Server) -> None:
    for number in range(5):
        server.say("I love Thai food", "Thai", session_id=f"s{number}")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = server.client.get("/alice/sessions", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [each["session_id"] for each in page["sessions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["s0", "s1", "s2", "s3", "s4"]
    assert server.client.get("/alice/sessions", params={"cursor": "c29tZXdoZXJl"}).status_code == 422


def test_consents_are_given_and_taken_back(server: Server) -> None:
    given = server.client.put("/alice/consents/basic_demographics", json={"is_granted": True}).json()
    assert given["categories"]["basic_demographics"] is True
    assert given["categories"]["interests_preferences"] is None
    assert given["training"] is False
    server.client.put("/alice/consents/basic_demographics", json={"is_granted": False})
    server.client.put("/alice/consents/training", json={"is_granted": True})
    now = server.client.get("/alice/consents").json()
    assert (now["categories"]["basic_demographics"], now["training"]) == (False, True)
    wrong = server.client.put("/alice/consents/astrology", json={"is_granted": True})
    assert (wrong.status_code, "expected a category" in wrong.json()["detail"]) == (422, True)


def test_an_export_holds_everything_and_imports_elsewhere_to_the_same_fold(server: Server, tmp_path: Path) -> None:
    server.say("I love Thai food", "Thai")
    server.say("I live in Faro", "Faro", path="geography_environment.location.city")
    server.client.patch("/alice/profile", json={"set": [{"slot": "location.city", "value": "Porto"}]})
    server.client.put("/alice/consents/training", json={"is_granted": True})
    document = server.client.get("/alice/export").json()
    assert [turn["utterance"] for turn in document["turns"]] == ["I love Thai food", "I live in Faro"]
    assert document["training_consent_at"] is not None
    with serving(tmp_path / "b") as other:
        answer = other.client.post("/bob/import", json=document)
        assert (answer.status_code, len(answer.json()["operations"])) == (200, 3)
        theirs = other.client.get("/bob/profile").json()
    ours = server.client.get("/alice/profile").json()
    for part in ("profile", "history"):
        assert [value | {"source": "imported"} for value in ours[part]] == theirs[part]
    assert [value["value"] for value in theirs["history"]] == ["Faro"]


def test_an_import_of_another_schema_or_format_changes_nothing(server: Server) -> None:
    server.say("I love Thai food", "Thai")
    document = server.client.get("/alice/export").json()
    strange = document | {"operations": [*document["operations"], document["operations"][0] | {"path": "a.b.c"}]}
    for body in (strange, document | {"format": "other/1"}, {"operations": []}):
        answer = server.client.post("/bob/import", json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert server.client.get("/bob/profile").status_code == 404


def test_an_erased_user_leaves_no_byte(server: Server) -> None:
    server.say(f"I love {CANARY} food", CANARY)
    key = {"Idempotency-Key": "k1"}
    patch = {"set": [{"slot": "diet.cuisines", "value": f"{CANARY} soup"}]}
    assert server.client.patch("/alice/profile", json=patch, headers=key).status_code == 200
    assert CANARY.encode() in b"".join(path.read_bytes() for path in server.database.parent.iterdir())
    assert server.client.delete("/alice").status_code == 204
    assert server.client.delete("/alice").status_code == 404
    assert server.client.get("/alice/profile").status_code == 404
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in server.database.parent.iterdir())


def test_an_erased_value_is_not_kept_in_a_stored_answer(server: Server) -> None:
    patch = {"set": [{"slot": "diet.cuisines", "value": CANARY}]}
    server.client.patch("/alice/profile", json=patch, headers={"Idempotency-Key": "k1"})
    server.client.delete("/alice/profile/diet.cuisines", headers={"Idempotency-Key": "k2"})
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in server.database.parent.iterdir())


def test_assess_says_what_a_request_needs(server: Server) -> None:
    server.say("I love Thai food", "Thai")
    body = server.client.post("/alice/assess", json={"request": "Any ideas for dinner tonight?"}).json()
    assert (body["needs"], body["missing"], body["decision"]) == ([CUISINES], [], "answer")
    assert [value["value"] for value in body["known"]] == ["Thai"]
    assert server.client.post("/alice/assess", json={"request": ""}).status_code == 422


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name and the data of server-sent events."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_events_show_what_another_request_changed(server: Server) -> None:
    server.say("I love Thai food", "Thai")
    with server.client.stream("GET", "/alice/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = events(answer.iter_lines())
        name, first = next(stream)
        assert (name, [value["value"] for value in first["profile"]]) == ("profile", ["Thai"])
        change = {"set": [{"slot": "location.city", "value": "Porto"}]}
        elsewhere = threading.Thread(
            target=httpx.patch, args=(f"{server.client.base_url}alice/profile",), kwargs={"json": change}
        )
        elsewhere.start()
        name, second = next(stream)
        assert (name, [value["value"] for value in second["profile"]]) == ("profile", ["Thai", "Porto"])
        elsewhere.join()
        assert server.store.delete_user("alice")
        assert next(stream) == ("erased", {})


def test_events_go_on_after_the_last_version_that_was_seen(server: Server) -> None:
    server.say("I love Thai food", "Thai")
    version = server.client.get("/alice/profile").json()["profile_version"]
    with server.client.stream("GET", "/alice/events", headers={"Last-Event-ID": str(version)}) as answer:
        server.say("I love Greek food", "Greek")
        _, first = next(events(answer.iter_lines()))
    assert first["profile_version"] != version
