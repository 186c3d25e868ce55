"""How every command fails, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from personalagent.cli import main as main_module
from personalagent.cli.terminal import printable
from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cook"], "No such command 'cook'; see: personalagent --help"),
        (["profile", "cook"], "No such command 'cook'; see: personalagent profile --help"),
        (["profile", "show"], "Missing argument 'USER'; see: personalagent profile show --help"),
        (["replay", "x.json", "--limit", "0"], "see: personalagent replay --help"),
        (["--set", "policy", "verify"], "expected --set NAME=VALUE, got 'policy'"),
        (["--set", "polici=x", "verify"], "expected a known setting, got the argument 'polici'. Did you mean 'policy'?"),
        (["--set", "timeout_s=soon", "verify"], "expected timeout_s to be valid"),
        (["--set", "database_url=nowhere", "verify"], "expected the database to be an SQLAlchemy URL"),
        (["replay", "x.json", "--consent", "helth"], "expected consent to be ask, all, none or categories"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(cli: Cli, arguments: list[str], says: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert says in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_without_a_command_the_help_is_shown(cli: Cli) -> None:
    result = cli()
    assert "chat" in result.out + result.err
    assert "Traceback" not in result.err


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert cli("--version").out == "personalagent 0.1.0\n"


def test_a_bug_is_one_line_and_its_text_is_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("what the user said")

    monkeypatch.setattr(main_module, "app", broken)
    result = cli("verify")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "ZeroDivisionError" in result.err
    assert "what the user said" not in result.err


def test_debug_adds_the_traceback(cli: Cli) -> None:
    result = cli("--debug", "profile", "show", "nobody")
    assert result.code == 2
    assert "Traceback" in result.err


def test_an_interrupt_exits_with_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "app", interrupted)
    assert cli("verify").code == 130


def test_no_colour_is_written_where_no_color_is_set(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    assert "\x1b[" in cli("profile", "history", "alice").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli("profile", "history", "alice").out


def test_control_characters_of_others_are_not_written() -> None:
    assert printable("a\x1b[31mb\u202ec\td\n") == "a\ufffd[31mb\ufffdc\td\n"


def test_a_flag_wins_over_the_environment(cli: Cli, script: Callable[..., None], tmp_path: object) -> None:
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    elsewhere = f"--set=database_url=sqlite:///{tmp_path}/other.db"
    assert cli("profile", "show", "alice").code == 0
    assert cli(elsewhere, "profile", "show", "alice").code == 2
