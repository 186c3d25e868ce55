"""``config show``."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.config import Settings
from tests.cli.conftest import Cli


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TOML file and variables of which some hold secrets."""
    toml = tmp_path / "mine.toml"
    toml.write_text('language = "pt"\nopenai_api_key = "sk-from-file"\n', "utf-8")
    monkeypatch.setenv("PERSONALAGENT_CONFIG", str(toml))
    monkeypatch.setenv("PERSONALAGENT_DATABASE_URL", "postgresql://app:hunter2@db/agent")
    return toml


def test_every_setting_is_shown_with_its_origin(cli: Cli, layers: Path) -> None:
    shown = cli("--set", "timeout_s=30", "config", "show", "--origin")
    assert shown.code == 0, shown.err
    rows = {line.split()[0]: line.split("  ", 1)[1].split() for line in shown.out.splitlines()}
    assert list(rows) == list(Settings.model_fields)
    assert rows["timeout_s"] == ["30.0", "flag"]
    assert rows["language"] == ["pt", "file", str(layers)]
    assert rows["openai_api_key"] == ["********", "file", str(layers)]
    assert rows["database_url"] == ["postgresql://app:********@db/agent", "environment", "variable", "PERSONALAGENT_DATABASE_URL"]
    assert rows["openai_base_url"] == ["not", "set", "default"]


def test_values_alone_are_shown_where_no_origin_is_asked_for(cli: Cli, layers: Path) -> None:
    lines = cli("config", "show").out.splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("language ")] == [["pt"]]


def test_json_has_the_origins_and_no_secret(cli: Cli, layers: Path) -> None:
    shown = cli("config", "show", "--json")
    rows = {row["name"]: row for row in shown.json}
    assert rows["language"] == {"name": "language", "value": "pt", "origin": {"kind": "file", "place": str(layers)}}
    assert rows["max_retries"] == {"name": "max_retries", "value": 2, "origin": {"kind": "default", "place": None}}
    assert rows["consent"]["value"] == ["ask"]
    assert "sk-from-file" not in shown.out and "hunter2" not in shown.out


def test_a_setting_that_cannot_be_is_named_with_its_origin(cli: Cli) -> None:
    shown = cli("--set", "timeout_s=soon", "config", "show")
    assert shown.code == 2 and "expected timeout_s" in shown.err and "from the flag" in shown.err
