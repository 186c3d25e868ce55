"""The documentation is true: every command, option and setting is in docs/cli.md, and every example runs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import typer

from personalagent.cli.main import app
from personalagent.config import Settings, environment_variable
from tests.conftest import ROOT

CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")
PAGES = sorted(path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if path.is_file())
GLOBAL = {"--help", "--set", "--debug", "--version"}
_FENCE = re.compile(r"(?P<mark><!-- not run: [^\n]+ -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(node: Any, path: str = "personalagent") -> Iterator[tuple[str, Any]]:
    """Yield every command of the command line with its whole name."""
    for name, child in getattr(node, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(child, f"{path} {name}")
        else:
            yield f"{path} {name}", child


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(command: str) -> str:
    """Return what docs/cli.md says about a command: from its heading to the next one."""
    found = re.search(rf"^### `{command}(?: [^`]*)?`\n(.*?)(?=^##)", f"{CLI}\n##", re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no heading '### `{command}`'"
    return found[1]


def options(command: Any) -> set[str]:
    """Return the long names of a command's options."""
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")} - GLOBAL


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_are_documented_and_no_others(name: str) -> None:
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", re.sub(r"```.*?```", "", section(name), flags=re.DOTALL)))
    assert documented - GLOBAL == options(COMMANDS[name])


def test_no_heading_names_a_command_that_is_not_there() -> None:
    headings = re.findall(r"^### `(personalagent[a-z -]*[a-z])", CLI, re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


def test_the_options_of_every_command_are_documented() -> None:
    assert [name for name in sorted(GLOBAL) if f"`{name}" not in CLI] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_explain_themselves(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    silent = [parameter.name for parameter in command.params if parameter.name != "help" and not getattr(parameter, "help", None)]
    assert silent == []


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_documented_with_its_environment_variable(name: str) -> None:
    assert f"| `{name}` | `{environment_variable(name)}` |" in CLI


def test_no_setting_is_documented_that_is_not_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `[A-Z_]+` \|", CLI, re.MULTILINE)
    assert rows == list(Settings.model_fields)


@dataclass(frozen=True)
class Example:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    output: str | None
    """What the block after it says it prints."""


def examples() -> Iterator[Example]:
    """Yield the Python and bash blocks that are not marked ``<!-- not run: why -->``."""
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = list(_FENCE.finditer(text))
        for block, after in zip_longest(blocks, blocks[1:]):
            if block["language"] in ("python", "bash") and not block["mark"]:
                output = after["code"] if after is not None and after["language"] == "output" else None
                yield Example(page, text.count("\n", 0, block.start()) + 1, block["language"], block["code"], output)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty folder that has the corpus, and to a database of its own."""
    for name in [name for name in os.environ if name.startswith(("PERSONALAGENT_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.setenv("PERSONALAGENT_DATABASE_URL", f"sqlite:///{tmp_path / 'agent.db'}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", tuple(examples()), ids=lambda each: f"{each.page.name}:{each.line}")
def test_an_example_runs(example: Example, folder: Path) -> None:
    if example.language == "bash":
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", example.code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    else:
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            exec(compile(example.code, str(example.page), "exec"), {"__name__": "__main__"})
        printed = stdout.getvalue()
    if example.output is not None:
        assert printed == example.output
