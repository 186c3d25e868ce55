"""Every example runs as it stands, with scripted models in place of the embedded one, and is short."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import LACTOSE, NO_FACTS, THAI, facts
from tests.conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
VEGAN = facts("consumption_lifestyle.diet.pattern | add | neutral | vegan | I'm vegan")
EXPECTED: dict[str, tuple[list[str], list[str], str]] = {
    "chat": (
        [VEGAN, "consumption_lifestyle.diet.cuisines"],
        ["A chickpea curry."],
        'learned consumption_lifestyle.diet.pattern: vegan ("I\'m vegan")',
    ),
    "sensitive_facts": (
        [LACTOSE],
        [],
        "withheld: ['lactose']\nkept after consent: ['lactose']\nerased operations: 1\nleft: []\n",
    ),
    "own_slots": ([], [], "sailing.boat.rig: gaff cutter\nexpected a slot of the schema, got 'job.occupation'"),
    "replay_history": ([THAI, NO_FACTS], [], "consumption_lifestyle.diet.cuisines: Thai, like"),
}
"""By example: what the policy says, what the responder says, what must be printed."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], list[str]], None]:
    """Set up a folder with scripted models and a database of its own, and go there."""

    def build(policy: list[str], responder: list[str]) -> None:
        for name in [name for name in os.environ if name.startswith(("PERSONALAGENT_", "OPENAI_"))]:
            monkeypatch.delenv(name)
        for role, replies in (("policy", policy), ("responder", responder)):
            (tmp_path / f"{role}.json").write_text(json.dumps(replies), "utf-8")
            monkeypatch.setenv(f"PERSONALAGENT_{role.upper()}", f"scripted:{tmp_path / role}.json")
        monkeypatch.setenv("PERSONALAGENT_DATABASE_URL", f"sqlite:///{tmp_path / 'agent.db'}")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)

    return build


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_what_it_promises(
    path: Path, world: Callable[[list[str], list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    policy, responder, printed = EXPECTED[path.stem]
    world(policy, responder)
    runpy.run_path(str(path), run_name="__main__")
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 60
    assert text.startswith('"""')
