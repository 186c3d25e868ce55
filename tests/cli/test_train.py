"""``train``: its options are the settings of the run, and what it needs is asked for before anything heavy."""

from __future__ import annotations

import builtins
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from personalagent.cli.main import app
from tests.cli.conftest import Cli
from tests.conftest import ROOT

CORPUS = str(ROOT / "data" / "corpus")


@pytest.mark.train
def test_the_options_are_the_settings_of_a_run_with_the_same_defaults() -> None:
    sft = pytest.importorskip("personalagent.train.sft")
    command = typer.main.get_command(app).commands["train"].commands["sft"]  # type: ignore[attr-defined]  # both are groups
    defaults = {parameter.name: parameter.default for parameter in command.params}
    assert {each.name: defaults[each.name] for each in fields(sft.SFTSettings)} == {
        each.name: each.default for each in fields(sft.SFTSettings)
    }


def test_without_the_training_packages_it_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str, *rest: object) -> object:
        if name.startswith("personalagent.train.") and not name.endswith("samples"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)  # type: ignore[arg-type]  # handed on as it came

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    for arguments in (["sft", "--output", str(tmp_path)], ["export", str(tmp_path), "--output", str(tmp_path / "x.gguf")]):
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
