"""``verify``, ``doctor`` and ``model``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_verify_finds_a_profile_that_is_not_the_fold_of_its_log(cli: Cli, tmp_path: Path) -> None:
    for user in ("alice", "bob"):
        cli("profile", "edit", user, "diet.cuisines", "Thai")
    assert cli("verify").out == "2 users, 0 turns, 2 operations; 0 problems\n"
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("UPDATE profiles SET profile = replace(profile, 'Thai', 'Greek') WHERE user_id = 'alice'")
    result = cli("verify", "--json")
    assert result.code == 1
    assert "user 'alice': the stored profile is not the fold of the log" in result.json["problems"][0]
    assert cli("verify", "alice").code == 1
    assert cli("verify", "bob").out == "1 users, 0 turns, 1 operations; 0 problems\n"
    assert cli("verify", "carol").code == 2


def test_doctor_names_everything_it_looked_at(cli: Cli, script: Callable[..., None]) -> None:
    script("policy")
    script("responder")
    result = cli("doctor", "--json")
    assert result.code == 0, result.out
    assert {check["name"] for check in result.json} >= {
        "python", "personalagent", "training", "config", "schema", "database", "policy", "responder"
    }  # fmt: skip
    assert "ok" in cli("doctor").out


def test_doctor_says_what_to_do_about_a_missing_model(cli: Cli) -> None:
    result = cli("doctor")
    assert result.code == 3
    assert "personalagent model pull qwen2.5-coder-0.5b-instruct" in result.out


def test_doctor_survives_a_broken_schema_and_a_broken_database(
    cli: Cli, script: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("policy")
    script("responder")
    (tmp_path / "agent.db").write_bytes(b"no database at all, " * 100)
    (tmp_path / "schema.yaml").write_text("categories: 1", "utf-8")
    monkeypatch.setenv("PERSONALAGENT_SCHEMA_FILE", str(tmp_path / "schema.yaml"))
    result = cli("doctor", "--json")
    assert [check["name"] for check in result.json if check["status"] == "problem"] == ["schema", "database"]


def test_model_list_says_what_is_here(cli: Cli) -> None:
    models = {model["name"]: model["is_cached"] for model in cli("model", "list", "--json").json}
    assert models == {"qwen2.5-coder-0.5b-instruct": False, "qwen2.5-coder-1.5b-instruct": False, "smollm2-135m-instruct": False}
    assert "qwen2.5-coder-0.5b-instruct" in cli("model", "list").out


def test_model_pull_takes_a_file_and_shows_how_far_it_is(cli: Cli, tmp_path: Path) -> None:
    weights = tmp_path / "mine.gguf"
    weights.write_bytes(b"GGUF" + b"\0" * 1000)
    result = cli("model", "pull", str(weights))
    assert result.code == 0, result.err
    assert Path(result.out.strip()).read_bytes() == weights.read_bytes()
    assert "mine" in cli("model", "list").out
    assert "MB" in result.err
    refused = cli("model", "pull", "qwen")
    assert (refused.code, "expected a known model" in refused.err) == (2, True)
