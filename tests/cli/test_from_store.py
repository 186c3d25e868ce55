"""From a conversation to training data: consent, review, ``data from-store``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import THAI, Cli

pytest.importorskip("faker", reason="needs the pseudonyms extra")


@pytest.fixture
def session(cli: Cli, script: Callable[..., None]) -> str:
    """A session in which alice said that she loves Thai food."""
    script("policy", THAI)
    cli("replay", "-", "--user", "alice", stdin=b'[{"role": "user", "content": "I love Thai food"}]')
    return str(cli("profile", "review", "alice", "--json").json[0]["session_id"])


def test_consent_is_given_shown_and_withdrawn(cli: Cli, session: str) -> None:
    assert cli("profile", "training", "alice").out == "alice: training not allowed\n"
    assert "training allowed since 20" in cli("profile", "training", "alice", "--give").out
    assert cli("profile", "training", "alice", "--json").json["is_granted"] is True
    withdrawn = cli("profile", "training", "alice", "--withdraw", "--json")
    assert withdrawn.json == {"user_id": "alice", "is_granted": False, "at": None}
    assert "what `data from-store` wrote before is not changed" in withdrawn.err
    assert cli("profile", "training", "alice", "--give", "--withdraw").code == 2
    assert cli("profile", "training", "alicia").code == 2


def test_a_review_shows_what_was_said_and_learned_and_is_kept(cli: Cli, session: str) -> None:
    assert cli("profile", "review", "alice").out == f"{session}: 1 turns, 1 not reviewed\n"
    shown = cli("profile", "review", "alice", session).out
    assert "I love Thai food" in shown and "diet.cuisines  Thai (like)" in shown and "1 turns not reviewed" in shown
    assert cli("profile", "review", "alice", session, "--done", "--json").json[0]["not_reviewed"] == 0
    assert "expected the SESSION" in cli("profile", "review", "alice", "--done").err
    assert "expected a session of 'alice', got 'x'" in cli("profile", "review", "alice", "x").err


def test_reviewed_sessions_of_users_who_consented_become_a_corpus(cli: Cli, session: str, tmp_path: Path) -> None:
    out = tmp_path / "own"
    refused = cli("data", "from-store", "--out", str(out))
    assert (refused.code, out.exists()) == (2, False)
    assert "left out: 1 users without consent" in refused.err
    cli("profile", "training", "alice", "--give")
    assert "left out: 1 turns not reviewed" in cli("data", "from-store", "--out", str(out)).err
    cli("profile", "review", "alice", session, "--done")
    written = cli("data", "from-store", "--out", str(out), "--user", "alice", "--json")
    assert written.json == {"path": str(out), "turns": 1, "pairs": 0, "users": 1, "left_out": {}}
    record = json.loads((out / "turns" / "own.jsonl").read_text("utf-8"))
    assert (record["user"], record["inferred"][0]["value"]) == ("I love Thai food", "Thai")
    assert "alice" not in (out / "turns" / "own.jsonl").read_text("utf-8")
    assert cli("data", "validate", str(out / "turns" / "own.jsonl")).code == 0
    assert cli("data", "synth", "--data", str(out)).out.count("\n") == 1
    again = cli("data", "from-store", "--out", str(out))
    assert (again.code, "expected a folder that does not exist yet" in again.err) == (2, True)
    assert "expected a user of this database, got 'bob'" in cli("data", "from-store", "--out", "x", "--user", "bob").err
