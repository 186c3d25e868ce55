"""Wrong inputs: each a clear message on one line, the documented exit code, and nothing lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import NO_FACTS, THAI, Cli, Result


def refuses(result: Result, code: int, *says: str) -> None:
    assert result.code == code, result.err
    assert result.err.startswith("error: ") or "\nerror: " in result.err
    assert "Traceback" not in result.err
    for words in says:
        assert words in result.err


def test_invalid_utf8(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'[{"role": "user", "content": "caf\xe9"}]')
    refuses(cli("replay", str(path)), 2, "expected UTF-8, got byte 0xe9 at position 33", "iconv")
    refuses(cli("chat", stdin=b"caf\xe9\n"), 2, "standard input, line 1", "expected UTF-8, got byte 0xe9")
    refuses(cli("data", "validate", str(path)), 2, "expected UTF-8")
    refuses(cli("profile", "import", "alice", str(path)), 2, "expected UTF-8")


def test_an_empty_message(cli: Cli, script: Callable[..., None]) -> None:
    refuses(cli("chat", stdin=b"  \n"), 2, "expected a message on standard input")
    refuses(cli("replay", "-", stdin=b'[{"role": "user", "content": " "}]'), 2, "expected what the user said in turn 1")
    refuses(cli("replay", "-", stdin=b""), 2, "expected at least one dialogue")
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    refuses(cli("assess", "alice", " "), 2, "expected a request, got an empty text")


def test_a_message_of_a_megabyte_is_kept_whole_and_inferred_from_its_ends(cli: Cli, script: Callable[..., None]) -> None:
    text = "I love Thai food. " + "x" * 1_000_000
    script("policy", THAI)
    stdin = json.dumps([{"role": "user", "content": text}]).encode()
    turn, profile = cli("replay", "-", "--json", stdin=stdin).lines
    assert turn["outcome"] == "ok"
    assert [value["value"] for value in profile["profile"]] == ["Thai"]
    script("policy", THAI)
    assert "(1000018 characters)" in cli("replay", "-", stdin=stdin).out


def test_an_unknown_slot(cli: Cli) -> None:
    refuses(cli("profile", "edit", "alice", "diet.cuisine", "Thai"), 2, "got 'diet.cuisine'; did you mean diet.cuisines")
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    for command in ("forget", "history"):
        refuses(cli("profile", command, "alice", "diet.cuisine"), 2, "did you mean diet.cuisines")
    refuses(cli("profile", "slots", "diett"), 2, "expected a category, group or slot of the schema, got 'diett'")


def test_a_broken_schema_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text("categories: [", "utf-8")
    refuses(cli("--set", f"schema_file={path}", "profile", "slots"), 2, str(path), "expected YAML in UTF-8")
    refuses(cli("--set", f"schema_file={tmp_path / 'absent.yaml'}", "profile", "slots"), 2, "expected a readable schema file")


def test_a_missing_model(cli: Cli) -> None:
    refuses(cli("chat", stdin=b"hi\n"), 3, "expected the weights of qwen2.5-coder-0.5b-instruct", "model pull")
    refuses(cli("chat", stdin=b"hi\n"), 3)
    refuses(cli("--set", "policy=embedded:nonsense", "assess", "alice", "x"), 2, "expected a model (")
    assert cli("profile", "edit", "alice", "diet.cuisines", "Thai").code == 0, "a profile needs no model"


def test_an_unreachable_endpoint(cli: Cli, script: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"model@http://127.0.0.1:{closed.getsockname()[1]}/v1"
        monkeypatch.setenv("PERSONALAGENT_MAX_RETRIES", "0")
        script("policy", THAI, "none")
        script("responder")
        refuses(cli("--set", f"responder={nobody}", "chat", "--user", "alice", stdin=b"I love Thai food\n"), 3, "127.0.0.1")
        assert [v["value"] for v in cli("profile", "show", "alice", "--json").json["profile"]] == ["Thai"], (
            "what it taught is kept"
        )

        stdin = b'[{"role": "user", "content": "I love Thai food"}]'
        refuses(cli("--set", f"policy={nobody}", "replay", "-", "--user", "bob", stdin=stdin), 3, "got no answer")
        report = cli("verify", "bob", "--json").json
        assert (report["turns"], report["problems"]) == (1, []), "what was said is kept, and waits"

        script("policy", NO_FACTS, "none")
        script("responder", "Hello.")
        failed = cli("--set", f"policy={nobody}", "chat", "--user", "bob", stdin=b"hello\n")
        assert failed.code == 0, "a reply needs the responder only"
        assert "the policy could not be reached; what you said is kept" in failed.err
        refuses(cli("--set", f"policy={nobody}", "assess", "bob", "Dinner?"), 3, "127.0.0.1")
        doctor = cli("--set", f"policy={nobody}", "doctor", "--json")
        assert doctor.code == 3
        assert [check["name"] for check in doctor.json if check["status"] == "problem"] == ["policy"]


def test_files_that_are_not_there_or_not_what_they_should_be(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.json")
    refuses(cli("replay", absent), 2, "expected a readable file, got No such file or directory")
    refuses(cli("data", "validate", absent), 2, "expected a readable JSON Lines file")
    refuses(cli("profile", "import", "alice", absent), 2, "expected a readable file")
    refuses(cli("bench", "infer", "--data", str(tmp_path)), 2, "expected a corpus folder with split.json")
    refuses(cli("replay", "-", stdin=b'{"name": 1}'), 2, "got the fields name")
    refuses(cli("replay", "-", stdin=b'[{"role": "user", "content": "hi"'), 2, "expected a JSON array, object or JSON Lines")
    refuses(cli("profile", "import", "alice", "-", stdin=b"{}"), 2, "personalagent.profile/1")


def test_a_text_that_no_database_keeps(cli: Cli, script: Callable[..., None]) -> None:
    refuses(cli("chat", stdin=b"a\0b\n"), 2, "NUL")
