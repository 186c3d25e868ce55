"""The command line run in this process: real settings, real SQLite, scripted models."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from personalagent.cli.main import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli(Protocol):
    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result: ...


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run ``personalagent ARGUMENTS`` in a world of its own."""
    for name in os.environ:
        if name.startswith(("PERSONALAGENT_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PERSONALAGENT_DATABASE_URL", f"sqlite:///{tmp_path / 'agent.db'}")
    monkeypatch.setenv("PERSONALAGENT_MODELS_DIR", str(tmp_path / "models"))

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what a role answers, reply by reply."""

    def write(role: str, *replies: str) -> None:
        path = tmp_path / f"{role}.json"
        path.write_text(json.dumps(replies), "utf-8")
        monkeypatch.setenv(f"PERSONALAGENT_{role.upper()}", f"scripted:{path}")

    write("policy")
    write("responder")
    return write


def facts(*lines: str) -> str:
    """Write what a general policy says a turn revealed: ``path | op | polarity | value | quote``."""
    return "<classification>\n" + "\n".join(lines) + "\n</classification>"


NO_FACTS = facts("none")
THAI = facts("consumption_lifestyle.diet.cuisines | add | like | Thai | I love Thai food")
LACTOSE = facts("basic_demographics.health.allergies_intolerances | add | neutral | lactose | I'm lactose intolerant")
