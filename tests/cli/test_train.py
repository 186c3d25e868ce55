"""``train``: its options are the settings of the run, and what it needs is asked for before anything heavy."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from personalagent.cli.main import app
from personalagent.schema import ProfileSchema
from tests.cli.conftest import Cli
from tests.conftest import ROOT

CORPUS = str(ROOT / "data" / "corpus")


@pytest.mark.train
@pytest.mark.parametrize(("name", "settings"), [("sft", "SFTSettings"), ("grpo", "GRPOSettings"), ("dpo", "DPOSettings")])
def test_the_options_are_the_settings_of_a_run_with_the_same_defaults(name: str, settings: str) -> None:
    run = getattr(pytest.importorskip(f"personalagent.train.{name}"), settings)
    command = typer.main.get_command(app).commands["train"].commands[name]  # type: ignore[attr-defined]  # both are groups
    defaults = {parameter.name: parameter.default for parameter in command.params}
    assert {each.name: defaults[each.name] for each in fields(run)} == {each.name: each.default for each in fields(run)}


def test_without_the_training_packages_it_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str, *rest: object) -> object:
        if name.startswith("personalagent.train.") and not name.endswith(("samples", "replies")):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)  # type: ignore[arg-type]  # handed on as it came

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    out = ["--output", str(tmp_path)]
    for arguments in (
        ["sft", *out],
        ["grpo", *out, "--init-adapter", "a"],
        ["dpo", *out],
        ["export", str(tmp_path), "--output", str(tmp_path / "x.gguf")],
    ):
        result = cli("train", *arguments)
        assert result.code == 3
        assert "expected the training packages, got no 'torch'; pip install 'personalagent[train]'" in result.err


@pytest.mark.train
def test_what_a_run_needs_is_asked_for_before_it_starts(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("personalagent.train.sft")
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(b"GGUF")
    base = ["train", "sft", "--output", str(tmp_path), "--data", CORPUS, "--model", str(weights)]
    assert "expected a checkpoint in" in cli(*base, "--resume").err
    assert "expected a PEFT adapter folder" in cli(*base, "--init-adapter", str(tmp_path)).err
    assert cli("train", "sft", "--output", str(tmp_path), "--data", CORPUS).code == 3, "no model here"
    missing = cli("train", "export", str(tmp_path), "--output", str(tmp_path / "a" / "b.gguf"), "--model", str(weights))
    assert "expected --output in a folder that exists" in missing.err
    not_trained = cli("train", "export", str(tmp_path), "--output", str(tmp_path / "b.gguf"), "--model", str(weights))
    assert (not_trained.code, "expected a PEFT adapter folder" in not_trained.err) == (2, True)


@pytest.mark.train
def test_what_reinforcement_learning_needs_is_asked_for_before_it_starts(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("personalagent.train.grpo")
    weights, adapter = tmp_path / "tiny.gguf", tmp_path / "adapter"
    weights.write_bytes(b"GGUF")
    adapter.mkdir()
    base = ["train", "grpo", "--output", str(tmp_path), "--data", CORPUS, "--model", str(weights), "--init-adapter", str(adapter)]
    assert "expected --judge with --reward judge and only there, got None with 'judge'" in cli(*base, "--reward", "judge").err
    assert "got 'scripted:x.json' with 'rubric'" in cli(*base, "--judge", "scripted:x.json").err
    assert "expected a PEFT adapter folder" in cli(*base).err
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    assert "expected a checkpoint in" in cli(*base, "--resume").err
    result = cli(*base, "--turn-weights", "late")
    assert (result.code, "expected turn weights 'equal' or positive numbers" in result.err) == (2, True)


@pytest.mark.train
def test_a_policy_is_trained_and_can_be_exported(cli: Cli, tmp_path: Path, schema: ProfileSchema) -> None:
    """From the command line on two dialogues of the corpus: adapter, manifest, a line a step, and the GGUF file."""
    pytest.importorskip("personalagent.train.grpo")
    from tests.train.tiny_policy import write_policy

    weights, adapter = write_policy(tmp_path, schema)
    result = cli(
        *[
            "train",
            "grpo",
            "--output",
            str(tmp_path / "run"),
            "--data",
            CORPUS,
            "--model",
            str(weights),
            "--init-adapter",
            str(adapter),
        ],
        *["--episodes", "turns", "--batch-size", "2", "--group-size", "2", "--max-steps", "2", "--max-completion-tokens", "6"],
        *["--max-prompt-tokens", "120", "--reward", "f1", "--json"],
    )
    assert result.code == 0, result.err
    manifest = json.loads(Path(result.json["manifest"]).read_text("utf-8"))
    assert (manifest["settings"]["reward"], manifest["steps"]) == ("f1", 2)
    assert manifest["episodes"] + manifest["episodes_too_long"] == result.json["episodes"]
    assert len((tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()) == 2
    gguf = tmp_path / "policy.gguf"
    assert cli("train", "export", result.json["adapter"], "--output", str(gguf), "--model", str(weights)).code == 0
    assert gguf.stat().st_size > 0


@pytest.mark.train
def test_a_responder_is_trained_on_replies_and_can_be_exported(cli: Cli, tmp_path: Path) -> None:
    """Preferred replies, then pairs, then the GGUF file; from the command line on the corpus, options over the task's own defaults."""
    pytest.importorskip("personalagent.train.dpo")
    from tests.train.tiny import write_tiny_model

    weights = write_tiny_model(tmp_path / "tiny.gguf", "qwen2", can_end=True)
    base = ["--data", CORPUS, "--model", str(weights), "--first-layer", "1", "--max-steps", "1", "--max-length", "700", "--json"]
    first = cli("train", "sft", "--task", "reply", "--output", str(tmp_path / "sft"), *base, "--batch-size", "2")
    assert first.code == 0, first.err
    settings = json.loads(Path(first.json["manifest"]).read_text("utf-8"))["settings"]
    assert (settings["noise"], settings["batch_size"], settings["max_length"]) == (0.0, 2, 700)
    output = ["--output", str(tmp_path / "dpo"), "--init-adapter", first.json["adapter"]]
    second = cli("train", "dpo", *output, *base, "--batch-size", "2")
    assert second.code == 0, second.err
    manifest = json.loads(Path(second.json["manifest"]).read_text("utf-8"))
    assert (manifest["task"], manifest["init_adapter"]["task"]) == ("dpo", "sft")
    assert sum(manifest["examples"].values()) == second.json["pairs"] < first.json["examples"]
    file = tmp_path / "responder.gguf"
    assert cli("train", "export", second.json["adapter"], "--output", str(file), "--model", str(weights)).code == 0
    assert file.stat().st_size > 0


@pytest.mark.train
def test_what_means_nothing_for_a_task_is_refused(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("personalagent.train.sft")
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(b"GGUF")
    base = ["--output", str(tmp_path), "--data", CORPUS, "--model", str(weights)]
    of_policy = cli("train", "sft", *base, "--task", "reply", "--stage", "gold")
    assert (of_policy.code, "expected no --stage with --task reply, got gold; leave one of them out" in of_policy.err) == (
        2,
        True,
    )
    of_replies = cli("train", "sft", *base, "--aloe", str(tmp_path))
    assert (of_replies.code, "expected no --aloe with --task policy" in of_replies.err) == (2, True)
    absent = cli("train", "dpo", *base, "--aloe", str(tmp_path))
    assert (absent.code, "expected ALOE's conversations.jsonl" in absent.err) == (2, True)
    assert "expected a checkpoint in" in cli("train", "dpo", *base, "--resume").err
    assert "expected a PEFT adapter folder" in cli("train", "dpo", *base, "--init-adapter", str(tmp_path)).err


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    code = "import sys, personalagent.cli.main; print(*(m for m in ('torch', 'transformers', 'trl', 'openai', 'xllamacpp') if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


@pytest.mark.train
def test_a_missing_in3_is_told_before_training(cli: Cli, tmp_path: Path, qwen: Path) -> None:
    pytest.importorskip("personalagent.train.sft")
    result = cli(
        "train", "sft", "--output", str(tmp_path / "run"), "--data", CORPUS, "--model", str(qwen), "--in3", str(tmp_path)
    )
    assert result.code == 2 and "OpenBMB/Tell_Me_More" in result.err and not (tmp_path / "run").exists()


@pytest.mark.train
def test_the_rewards_of_a_policy_are_verdicts_that_can_be_compared(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    script("policy", *["none"] * 40)
    rules, sheet = tmp_path / "rules.jsonl", tmp_path / "sheet.csv"
    base = ("train", "rewards", "--data", str(ROOT / "data" / "corpus"), "--out", str(rules))
    done = cli(*base, "--limit-dialogues", "1", "--json")
    assert done.code == 0, done.err
    assert done.json["turns"] > 5 and done.json["unreadable"] == 0
    assert done.json["no_hallucination"] == 1 and 0 < done.json["completeness"] < 1, (
        "nothing is claimed, and some turns reveal something"
    )
    assert done.json["all"] <= done.json["completeness"]
    same = cli("bench", "agreement", str(rules), str(rules), "--json")
    assert same.json["summary"]["agreement"]["completeness"]["kappa"] == 1
    assert cli("bench", "agreement", str(rules), "--export", str(sheet), "--limit", "4").code == 0 and sheet.exists()
