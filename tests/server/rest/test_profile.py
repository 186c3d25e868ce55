"""GET, PATCH and DELETE of a profile, its history, undo and review."""

from __future__ import annotations

import pytest

from tests.server.rest.conftest import CITY, CUISINES, Server


def set_city(server: Server, city: str, **headers: str) -> int:
    answer = server.client.patch("/alice/profile", json={"set": [{"slot": "location.city", "value": city}]}, headers=headers)
    return answer.status_code


def cities(server: Server) -> list[str]:
    return [value["value"] for value in server.client.get("/alice/profile").json()["profile"] if value["slot"] == CITY]


def test_a_profile_has_its_proof_and_its_version(server: Server) -> None:
    server.say("I love Thai food", "Thai")
    answer = server.client.get("/alice/profile")
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["ETag"] == f'"{body["profile_version"]}"'
    assert [(value["slot"], value["value"], value["source"]) for value in body["profile"]] == [(CUISINES, "Thai", "stated")]
    assert body["profile"][0]["evidence"] == [{"quote": "I love Thai food", "session_id": "s1", "turn_index": 0}]


def test_a_profile_that_did_not_change_is_not_sent_again(server: Server) -> None:
    set_city(server, "Porto")
    tag = server.client.get("/alice/profile").headers["ETag"]
    assert server.client.get("/alice/profile", headers={"If-None-Match": tag}).status_code == 304
    set_city(server, "Faro")
    assert server.client.get("/alice/profile", headers={"If-None-Match": tag}).status_code == 200


def test_patch_sets_and_forgets(server: Server) -> None:
    server.say("I love Thai food", "Thai")
    patch = {"set": [{"slot": "location.city", "value": "Porto"}], "forget": [{"slot": "diet.cuisines"}]}
    answer = server.client.patch("/alice/profile", json=patch)
    body = answer.json()
    assert (answer.status_code, body["erased"]) == (200, 1)
    assert [(op["op"], op["path"], op["value"], op["source"]) for op in body["operations"]] == [("add", CITY, "Porto", "edited")]
    now = server.client.get("/alice/profile")
    assert [value["value"] for value in now.json()["profile"]] == ["Porto"]
    assert now.headers["ETag"] == answer.headers["ETag"] == f'"{body["profile_version"]}"'


def test_a_change_made_for_an_older_profile_is_refused(server: Server) -> None:
    set_city(server, "Porto")
    stale = server.client.get("/alice/profile").headers["ETag"]
    assert set_city(server, "Faro", **{"If-Match": stale}) == 200
    assert set_city(server, "Lisbon", **{"If-Match": stale}) == 412
    deleted = server.client.delete("/alice/profile/location.city", headers={"If-Match": stale})
    assert (deleted.status_code, deleted.json()["type"]) == (412, "urn:personalagent:problem:stale-version")
    assert set_city(server, "Lisbon", **{"If-Match": "yesterday"}) == 412
    assert cities(server) == ["Faro"]
    assert set_city(server, "Lisbon", **{"If-Match": "*"}) == 200


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"set": [{"slot": "location.city"}]}, "body.set.0.value"),
        ({"set": [{"slot": "location.city", "value": "Porto", "polarity": "fond"}]}, "body.set.0.polarity"),
        ({"put": []}, "body.put"),
        ({}, "expected values to set or to forget"),
        ({"set": [{"slot": "location.cities", "value": "Porto"}]}, "location.cities"),
        ({"set": [{"slot": "location.city", "value": "Porto"}], "forget": [{"slot": "nowhere"}]}, "nowhere"),
    ],
)
def test_a_patch_that_is_wrong_says_where_and_changes_nothing(server: Server, patch: dict[str, object], said: str) -> None:
    set_city(server, "Faro")
    answer = server.client.patch("/alice/profile", json=patch)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["title"] == "Unprocessable Entity"
    assert "expected" in answer.json()["detail"]
    assert said in answer.text
    assert cities(server) == ["Faro"]


def test_delete_erases_one_value_or_the_slot(server: Server) -> None:
    for value in ("Thai", "Greek", "Mexican"):
        server.say(f"I love {value} food", value)
    one = server.client.delete("/alice/profile/diet.cuisines", params={"value": "Thai"})
    assert (one.status_code, one.json()["operations"], one.json()["turns"]) == (200, 1, 1)
    assert [value["value"] for value in server.client.get("/alice/profile").json()["profile"]] == ["Greek", "Mexican"]
    assert server.client.delete(f"/alice/profile/{CUISINES}").json()["operations"] == 2
    assert server.client.get("/alice/profile").json()["profile"] == []


def test_history_is_read_page_by_page_with_no_row_lost_or_twice(server: Server) -> None:
    for number in range(125):
        patch = {
            "set": [{"slot": "location.city", "value": f"City {number}"}, {"slot": "diet.cuisines", "value": f"Food {number}"}]
        }
        assert server.client.patch("/alice/profile", json=patch).status_code == 200
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = server.client.get("/alice/history", params={"limit": 7} | ({"cursor": cursor} if cursor else {})).json()
        seen += [operation["value"] for operation in page["operations"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [value for number in range(125) for value in (f"City {number}", f"Food {number}")]
    assert server.client.get("/alice/history", params={"limit": 250}).json()["next_cursor"] is None


def test_history_of_one_slot_and_a_cursor_of_nothing(server: Server) -> None:
    set_city(server, "Porto")
    server.say("I love Thai food", "Thai")
    assert [op["value"] for op in server.client.get("/alice/history", params={"slot": "location.city"}).json()["operations"]] == [
        "Porto"
    ]
    for params in ({"cursor": "soup"}, {"cursor": "x y"}, {"limit": "0"}, {"slot": "nowhere"}):
        assert server.client.get("/alice/history", params=params).status_code == 422


def test_undo_takes_back_the_last_change(server: Server) -> None:
    set_city(server, "Porto")
    set_city(server, "Faro")
    answer = server.client.post("/alice/undo")
    assert answer.status_code == 200
    assert answer.json()["operations"] != []
    assert cities(server) == ["Porto"]


def test_review_confirms_and_rejects_what_was_inferred(server: Server) -> None:
    set_city(server, "Porto")
    server.say("I love Thai food", "Thai")
    server.say("Mexican was a mistake", "Mexican")
    queue = server.client.get("/alice/review").json()
    assert [value["value"] for value in queue["values"]] == ["Thai", "Mexican"]
    verdicts = [
        {"slot": CUISINES, "value": "Thai", "verdict": "confirm"},
        {"slot": CUISINES, "value": "Mexican", "verdict": "reject"},
    ]
    answer = server.client.post("/alice/review", json={"verdicts": verdicts})
    assert [op["op"] for op in answer.json()["operations"]] == ["confirm", "retract"]
    assert server.client.get("/alice/review").json()["values"] == []
    now = server.client.get("/alice/profile").json()
    assert [value["value"] for value in now["history"]] == ["Mexican"]
    again = server.client.post("/alice/review", json={"verdicts": verdicts})
    assert (again.status_code, "expected a value that the profile holds" in again.json()["detail"]) == (422, True)


def test_a_change_made_for_a_profile_that_never_was_creates_nobody(server: Server) -> None:
    assert server.client.patch(
        "/bob/profile", json={"set": [{"slot": "location.city", "value": "Porto"}]}, headers={"If-Match": '"3"'}
    ).status_code in (412, 422)
    assert server.store.users() == ()
