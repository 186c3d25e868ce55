"""``keys`` and ``jobs``."""

from __future__ import annotations

from pathlib import Path

from personalagent.store import Store
from tests.cli.conftest import Cli


def test_a_key_is_made_listed_and_ended(cli: Cli, tmp_path: Path) -> None:
    made = cli("keys", "create", "--name", "phone", "--user", "alice", "--tenant", "acme", "--days", "30", "--json")
    assert made.code == 0, made.err
    secret = made.json["secret"]
    with Store.open(f"sqlite:///{tmp_path / 'agent.db'}") as store:
        key = store.find_key(secret)
        assert key is not None and (key.tenant, key.user_id) == ("acme", "alice")
        assert key.scopes == ("chat", "profile:read", "profile:write")
    listed = cli("keys", "list", "--json")
    assert [each["name"] for each in listed.json] == ["phone"] and secret not in listed.out
    assert "phone" in cli("keys", "list").out
    assert cli("keys", "revoke", made.json["prefix"]).code == 0
    with Store.open(f"sqlite:///{tmp_path / 'agent.db'}") as store:
        assert store.find_key(secret) is None


def test_a_secret_alone_is_on_standard_output(cli: Cli) -> None:
    made = cli("keys", "create", "--scope", "chat")
    assert made.out.strip().startswith("pa_live_") and len(made.out.split()) == 1 and "only its hash is kept" in made.err


def test_a_key_is_given_limits_of_its_own(cli: Cli) -> None:
    made = cli("keys", "create", "--rate-limit", "60/minute", "--quota", "5000/day", "--json")
    assert (made.json["rate_limit"], made.json["quota"]) == ("60/minute", "5000/day")
    assert "60/minute" in cli("keys", "list").out
    wrong = cli("keys", "create", "--quota", "lots")
    assert wrong.code == 2 and "got 'lots'" in wrong.err and "e.g. 120/minute" in wrong.err


def test_a_wrong_scope_is_named(cli: Cli) -> None:
    made = cli("keys", "create", "--scope", "profile:reed")
    assert made.code == 2 and "got 'profile:reed'" in made.err and "profile:read" in made.err
    assert cli("keys", "list", "--json").json == []


def test_jobs_are_listed_and_dead_ones_tried_again(cli: Cli, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'agent.db'}") as store:
        store.start_session("alice", "s")
        store.append_turn("alice", "s", "Hello", enqueue=True)
        (job,) = store.lease_jobs("w", 1, 30)
        store.fail_job(job, "unreadable", None)
    assert [(each["user_id"], each["state"], each["reason"]) for each in cli("jobs", "list", "--json").json] == [
        ("alice", "dead", "unreadable")
    ]
    assert "alice" in cli("jobs", "list").out
    assert cli("jobs", "retry", "alice").code == 0
    assert cli("jobs", "list", "--json").json[0]["state"] == "queued"
    again = cli("jobs", "retry", "alice")
    assert again.code == 2 and "expected a user with a dead job" in again.err
