"""Chatting: what is shown, what is asked, what is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import pytest

from tests.cli.conftest import LACTOSE, NO_FACTS, THAI, Cli

BUDGET = "purchase.budget_timeline"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[str]], None]:
    """Let somebody sit at a terminal and type lines; Ctrl-D follows."""

    def start(lines: Iterable[str]) -> None:
        rest = iter(lines)

        def read(prompt: str = "") -> str:
            try:
                return next(rest)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr("personalagent.cli.chat.is_interactive", lambda: True)

    return start


def test_a_line_of_standard_input_is_a_turn(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", THAI, "none", NO_FACTS, "none")
    script("responder", "Try a green curry.", "You are welcome.")
    result = cli("chat", "--user", "alice", stdin=b"I love Thai food\n\nthanks\n")
    assert result.code == 0
    assert "Try a green curry." in result.out
    assert "You are welcome." in result.out
    assert "+ diet.cuisines  Thai (like)  “I love Thai food”" in result.out


def test_it_says_why_it_asks(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", NO_FACTS, BUDGET)
    script("responder", "A grey one goes with everything.")
    result = cli("chat", stdin=b"Pick a sofa\n")
    assert "What's your budget, and when do you need it by?" in result.out
    assert "asks because a good answer depends on purchase.budget_timeline, which is not known" in result.out


def test_json_has_one_object_per_turn(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", THAI, BUDGET)
    script("responder", "Try a green curry.")
    (reply,) = cli("chat", "--json", stdin=b"I love Thai food. Any ideas?\n").lines
    assert reply["turn_index"] == 0
    assert reply["operations"][0]["quote"] == "I love Thai food"
    assert reply["decision"] == "answer_and_ask"
    assert reply["text"] == f"Try a green curry.\n\n{reply['question']}"


def test_a_session_can_be_gone_on_with(cli: Cli, script: Callable[..., None]) -> None:
    for index in (0, 1):
        script("policy", NO_FACTS, "none")
        script("responder", "Yes.")
        (reply,) = cli("chat", "--session", "monday", "--json", stdin=b"Are you there?\n").lines
        assert (reply["session_id"], reply["turn_index"]) == ("monday", index)


def test_a_sensitive_fact_is_not_kept_where_nobody_can_be_asked(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", LACTOSE, "none")
    script("responder", "Noted.")
    result = cli("chat", "--user", "alice", stdin=b"I'm lactose intolerant\n")
    assert "not kept: sensitive; allow it with --consent basic_demographics" in result.err
    assert cli("profile", "show", "alice", "--json").json["profile"] == []


@pytest.mark.parametrize(("answer", "kept"), [("y", ["lactose"]), ("n", []), ("", [])])
def test_it_asks_before_a_sensitive_fact_is_kept(
    cli: Cli, script: Callable[..., None], typed: Callable[[Iterable[str]], None], answer: str, kept: list[str]
) -> None:
    script("policy", LACTOSE, "none")
    script("responder", "Noted.")
    typed(["I'm lactose intolerant", answer])
    result = cli("chat", "--user", "alice")
    assert "? health.allergies_intolerances  lactose" in result.out
    profile = cli("profile", "show", "alice", "--json").json["profile"]
    assert [value["value"] for value in profile] == kept


def test_no_is_remembered_and_not_asked_again(
    cli: Cli, script: Callable[..., None], typed: Callable[[Iterable[str]], None]
) -> None:
    script("policy", LACTOSE, "none")
    script("responder", "Noted.")
    typed(["I'm lactose intolerant", "n"])
    cli("chat", "--user", "alice")
    script("policy", LACTOSE, "none")
    script("responder", "Noted.")
    typed(["As I said, I'm lactose intolerant"])
    assert "? health" not in cli("chat", "--user", "alice").out


def test_slash_commands_show_explain_forget_and_quit(
    cli: Cli, script: Callable[..., None], typed: Callable[[Iterable[str]], None]
) -> None:
    script("policy", THAI, "diet.cuisines")
    script("responder", "A green curry.")
    typed(
        [
            "/why",
            "I love Thai food. Any ideas?",
            "/profile",
            "/why",
            "/forget diet.cuisines",
            "/help",
            "/forget",
            "/skip",
            "/quit",
            "never",
        ]
    )
    result = cli("chat", "--user", "alice")
    assert result.code == 0
    assert "There is no reply to explain yet." in result.out
    assert "Known: cuisines (diet) is 'Thai'." in result.out
    assert "Used: diet.cuisines: Thai (like)  “I love Thai food”" in result.out
    assert "erased: 1 operation(s), and what you said in 1 turn(s)" in result.out
    assert "/quit" in result.out
    assert "expected /forget SLOT [VALUE], got no slot" in result.err
    assert "expected a question to skip" in result.err
    assert cli("profile", "show", "alice", "--json").json["profile"] == []


def test_a_skipped_question_is_not_asked_again(
    cli: Cli, script: Callable[..., None], typed: Callable[[Iterable[str]], None]
) -> None:
    script("policy", NO_FACTS, BUDGET)
    script("responder", "A grey one.")
    typed(["Pick a sofa", "/skip"])
    assert "purchase.budget_timeline will not be asked again" in cli("chat", "--user", "alice").out
    script("policy", BUDGET)
    assessment = cli("assess", "alice", "Pick a sofa", "--json").json
    assert assessment["decision"] == "answer"
    assert assessment["not_asked"] == [{"slot": "scenario_specific.purchase.budget_timeline", "reason": "declined"}]


def test_an_error_does_not_end_the_conversation(
    cli: Cli, script: Callable[..., None], typed: Callable[[Iterable[str]], None]
) -> None:
    typed(["/forget diet.cuisine", "/quit"])
    result = cli("chat")
    assert result.code == 0
    assert "did you mean diet.cuisines" in result.err


def test_the_terminal_is_one_where_standard_input_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from personalagent.cli.chat import is_interactive

    monkeypatch.setattr(sys, "stdin", None)
    assert not is_interactive()
