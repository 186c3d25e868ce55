"""``bench infer``: what is measured, and what the results file says about how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import NO_FACTS, THAI, Cli
from tests.conftest import ROOT

CORPUS = str(ROOT / "data" / "corpus")


def test_the_results_file_has_manifest_summary_and_rows(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    script("policy", *[NO_FACTS] * 13, "none", "home.decor_style", "none", "none")
    out = tmp_path / "result.json"
    arguments = ["--data", CORPUS, "--limit-dialogues", "1", "--bank-patterns", "2", "--out", str(out), "--json"]
    result = cli("bench", "infer", *arguments)
    assert result.code == 0, result.err
    written = json.loads(out.read_text("utf-8"))
    assert set(written) == {"manifest", "summary", "rows"}
    assert written["summary"] == result.json["summary"]
    manifest = written["manifest"]
    assert manifest["task"] == "bench infer"
    assert (manifest["split"], manifest["notation"], manifest["seed"], manifest["dialogues"]) == ("test", "general", 0, 1)
    assert set(manifest["prompts"]) >= {"infer_compact", "infer_general", "needs_compact", "needs_general", "answer"}
    for name in ("commit", "policy", "data_sha256", "machine", "versions", "adapter_sha256"):
        assert name in manifest
    assert manifest["turns"] + manifest["requests"] == len(written["rows"])
    assert written["summary"]["facts"]["group"]["f1"] == 0.0, "a policy that finds nothing finds nothing"
    assert written["summary"]["false_fact_rate"]["third_party"]["rate"] == 0.0
    assert written["summary"]["false_fact_rate"]["pasted"]["rate"] is None, "what was not measured is not 0"


def test_the_table_names_every_measure(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", THAI, *[NO_FACTS] * 30)
    result = cli("bench", "infer", "--data", CORPUS, "--limit-dialogues", "1", "--bank-patterns", "0", "--split", "dev")
    for name in (
        "facts, group: f1",
        "false facts on turns: third_party",
        "update: accuracy",
        "ms a turn: p50, p95",
        "not measured",
    ):
        assert name in result.out


def test_a_place_that_cannot_be_written_is_refused_before_the_run(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    result = cli("bench", "infer", "--data", CORPUS, "--out", str(tmp_path / "absent" / "result.json"))
    assert (result.code, "expected --out in a folder that exists" in result.err) == (2, True)


def test_side_by_side_finds_the_same_and_times_only_what_ran_alone(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    script("policy", *[NO_FACTS] * 200)
    result = cli(
        "bench",
        "infer",
        "--data",
        CORPUS,
        "--limit-dialogues",
        "12",
        "--bank-patterns",
        "1",
        "--parallel",
        "3",
        "--out",
        str(out),
    )
    assert result.code == 0, result.err
    written = json.loads(out.read_text("utf-8"))
    rows = [row for row in written["rows"] if "alone" in row]
    units = list(dict.fromkeys(row["unit"] for row in rows))
    assert len(units) == 14
    assert {row["unit"] for row in rows if row["alone"]} == set(units[:10])
    assert written["manifest"]["parallel"] == 3


def test_the_command_names_each_wrong_question(cli: Cli, tmp_path: Path) -> None:
    script, file, out = tmp_path / "replies.json", tmp_path / "t.jsonl", tmp_path / "out.json"
    turn = {"user": "What is 2 + 2?", "may_ask": False, "why": "no_preference"}
    file.write_text(json.dumps({"id": "x", "theme": "y", "turns": [turn]}), "utf-8")
    script.write_text(json.dumps(["<classification>none</classification>", "<needs>music.genres</needs>"]), "utf-8")
    result = cli("bench", "transcripts", str(file), "--policy", f"scripted:{script}", "--out", str(out))
    assert result.code == 0, result.err
    assert "x, no_preference: 'What is 2 + 2?' was answered with" in result.out
    assert "1 wrong questions in 1 turns of 1 conversations" in " ".join(result.out.split())
    assert json.loads(out.read_text("utf-8"))["summary"]["wrong_questions"] == 1
