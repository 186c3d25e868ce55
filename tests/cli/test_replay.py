"""Replaying dialogues: what is printed for each turn, whose profile it goes to, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import LACTOSE, NO_FACTS, THAI, Cli, facts

MESSAGES = [
    {"role": "user", "content": "I love Thai food"},
    {"role": "assistant", "content": "Good to know."},
    {"role": "user", "content": "Thanks, that's all"},
]


@pytest.fixture
def dialogue(tmp_path: Path) -> str:
    path = tmp_path / "dialogue.json"
    path.write_text(json.dumps(MESSAGES), "utf-8")
    return str(path)


def test_json_has_an_object_per_turn_and_then_the_profile(cli: Cli, script: Callable[..., None], dialogue: str) -> None:
    invented = "consumption_lifestyle.diet.cuisines | add | like | sushi | I love sushi"
    script("policy", THAI, facts(invented))
    result = cli("replay", dialogue, "--json")
    assert result.code == 0
    first, second, profile = result.lines
    assert set(first) == {
        "turn_index", "session_id", "operations", "refusals", "outcome", "ms", "prompt_tokens", "completion_tokens"
    }  # fmt: skip
    assert (first["turn_index"], first["session_id"], first["outcome"]) == (0, "dialogue/1", "ok")
    assert first["operations"] == [
        {
            "slot": "consumption_lifestyle.diet.cuisines",
            "value": "Thai",
            "polarity": "like",
            "op": "add",
            "quote": "I love Thai food",
        }
    ]
    assert second["operations"] == []
    assert second["refusals"][0]["reason"] == "quote_not_found"
    assert second["refusals"][0]["slot"] == "consumption_lifestyle.diet.cuisines"
    assert [value["value"] for value in profile["profile"]] == ["Thai"]


def test_without_a_user_nothing_is_kept(cli: Cli, script: Callable[..., None], dialogue: str) -> None:
    script("policy", THAI, NO_FACTS)
    assert "+ diet.cuisines  Thai (like)  “I love Thai food”" in cli("replay", dialogue).out
    assert cli("verify", "--json").json["users"] == 0


def test_with_a_user_the_profile_stays(cli: Cli, script: Callable[..., None], dialogue: str) -> None:
    script("policy", THAI, NO_FACTS)
    cli("replay", dialogue, "--user", "alice")
    assert [value["value"] for value in cli("profile", "show", "alice", "--json").json["profile"]] == ["Thai"]
    assert cli("verify").code == 0


def test_standard_input_is_a_file_too(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", THAI, NO_FACTS)
    assert len(cli("replay", "-", "--json", stdin=json.dumps(MESSAGES).encode()).lines) == 3


@pytest.mark.parametrize(
    ("consent", "kept"), [("all", ["lactose"]), ("none", []), ("basic_demographics", ["lactose"]), ("geography_environment", [])]
)
def test_consent_decides_about_sensitive_facts(cli: Cli, script: Callable[..., None], consent: str, kept: list[str]) -> None:
    script("policy", LACTOSE)
    message = json.dumps([{"role": "user", "content": "I'm lactose intolerant"}]).encode()
    turn, profile = cli("replay", "-", "--json", "--consent", consent, stdin=message).lines
    assert [value["value"] for value in profile["profile"]] == kept
    assert [refusal["reason"] for refusal in turn["refusals"]] == ([] if kept else ["no_consent"])


def test_each_dialogue_has_a_profile_of_its_own_and_some_can_be_chosen(cli: Cli, script: Callable[..., None]) -> None:
    lines = b"\n".join(json.dumps({"id": name, "messages": MESSAGES}).encode() for name in ("one", "two", "three"))
    script("policy", *[THAI, NO_FACTS] * 2)
    objects = cli("replay", "-", "--json", "--limit", "2", stdin=lines).lines
    assert [each["user_id"] for each in objects if "user_id" in each] == ["one", "two"]
    script("policy", THAI, NO_FACTS)
    assert cli("replay", "-", "--json", "--dialogue", "three", stdin=lines).lines[-1]["user_id"] == "three"
    wrong = cli("replay", "-", "--dialogue", "tree", stdin=lines)
    assert (wrong.code, "Did you mean 'three'?" in wrong.err) == (2, True)


def test_an_unreadable_policy_is_shown_as_such(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", "I would rather not.", "No, really.")
    message = json.dumps([{"role": "user", "content": "I love Thai food"}]).encode()
    turn, profile = cli("replay", "-", "--json", stdin=message).lines
    assert turn["outcome"] == "unreadable"
    assert profile["profile"] == []
