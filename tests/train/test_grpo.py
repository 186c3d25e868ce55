"""Multi-turn GRPO on random models of a few kilobytes: eq. 5's gradient, ragged dialogues, two processes, resuming, and learning."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from personalagent.errors import LLMTimeout, UsageError  # noqa: E402
from personalagent.llm.scripted import ScriptedLLM  # noqa: E402
from personalagent.schema import ProfileSchema  # noqa: E402
from personalagent.train.grpo import GRPOSettings, episode_order, episodes_sha256, train  # noqa: E402
from personalagent.train.rewards import RewardJudge  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.train.grpo_reference import (  # noqa: E402
    RAGGED,
    SETTINGS,
    SPLIT,
    Caught,
    catch_a_step,
    expected_gradients,
    make_trainer,
)
from tests.train.tiny import write_tiny_model  # noqa: E402
from tests.train.tiny_policy import empty_episodes, write_policy  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")]

RUN = GRPOSettings(
    batch_size=4,
    group_size=6,
    learning_rate=3e-4,
    warmup_steps=0,
    max_steps=4,
    save_steps=2,
    max_completion_tokens=8,
    micro_batch_size=24,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random qwen2 model."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", "qwen2")


@pytest.fixture(scope="module")
def ragged(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Caught]:
    """A step on a dialogue of three turns and one of two, without moving the weights, so that they can be used afterwards."""
    settings = replace(SETTINGS, learning_rate=0.0)
    trainer = make_trainer(weights, tmp_path_factory.mktemp("ragged"), settings=settings)
    return trainer, catch_a_step(trainer)


def test_the_gradient_is_that_of_equation_5(ragged: tuple[Any, Caught]) -> None:
    trainer, caught = ragged
    assert_same_gradients(caught.gradients, expected_gradients(trainer, [caught], SETTINGS))


def assert_same_gradients(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare them tensor by tensor; the largest entry is far above the tolerance."""
    assert got.keys() == expected.keys()
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_every_turn_gets_its_rollouts_advantage_and_only_what_was_written_counts(ragged: tuple[Any, Caught]) -> None:
    _, caught = ragged
    advantages, tokens = caught.rows["advantages"].reshape(6, 3), caught.rows["completion_mask"] * caught.rows["tool_mask"]
    assert len(set(caught.totals[:3])) == len(set(caught.totals[3:])) == 3, "each rollout has a reward of its own"
    assert bool((advantages != 0).all())
    assert bool((advantages == advantages[:, :1]).all()), "the same on all turns of a rollout"
    assert (tokens.sum(dim=1).reshape(6, 3) > 0).tolist() == [[True, True, True]] * 3 + [[True, True, False]] * 3
    assert caught.rows["num_items_in_batch"].item() == tokens.sum().item()


def test_two_processes_take_the_step_that_one_would(weights: Path, tmp_path: Path) -> None:
    """A group split over two processes gets the gradient of eq. 5 on the rollouts of both, in both."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", "-m", "tests.train.grpo_reference", str(weights), str(tmp_path)]
    search = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (Caught(**torch.load(tmp_path / f"rank{rank}.pt")) for rank in (0, 1))
    assert len(first.totals) == len(second.totals) == 2
    assert len({*first.totals, *second.totals}) > 1
    one = make_trainer(weights, tmp_path / "one", episodes=RAGGED[:1], settings=SPLIT)
    expected = expected_gradients(one, [first, second], SPLIT)
    assert_same_gradients(first.gradients, expected)
    assert_same_gradients(second.gradients, expected)


@pytest.fixture(scope="module")
def policy(schema: ProfileSchema, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights and adapter of a policy that says ``none`` about half of the time."""
    return write_policy(tmp_path_factory.mktemp("policy"), schema)


@pytest.fixture(scope="module")
def uninterrupted(policy: tuple[Path, Path], schema: ProfileSchema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a checkpoint after the second."""
    output = tmp_path_factory.mktemp("run")
    train(
        empty_episodes(2), weights=policy[0], init_adapter=policy[1], output=output, schema=schema, settings=RUN, progress=False
    )
    return output


def log_of(run: Path) -> list[dict[str, Any]]:
    """Return a run's steps without the times they took."""
    return [{k: v for k, v in json.loads(line).items() if k != "step_s"} for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_reward_rises(uninterrupted: Path) -> None:
    """On questions that reveal nothing, ``none`` on both turns is worth 1 and what cannot be read 0."""
    rewards = [line["reward"] for line in log_of(uninterrupted)]
    assert rewards[0] < 0.75
    assert rewards[-1] > 0.9


def test_a_step_logs_what_a_curve_needs(uninterrupted: Path) -> None:
    lines = log_of(uninterrupted)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["kl"] == 0.0, "the reference is the adapter that the run began with, in the same precision"
    assert lines[-1]["kl"] > 0
    assert {"reward", "format", "task", "completeness", "unscored", "zero_std", "length", "grad_norm"} <= set(lines[0])
    assert lines[0]["reward"] == pytest.approx(0.2 * lines[0]["format"] + 0.8 * lines[0]["task"])


def test_a_run_says_what_it_was_made_with(uninterrupted: Path, policy: tuple[Path, Path]) -> None:
    manifest = json.loads((uninterrupted / "manifest.json").read_text("utf-8"))
    assert (manifest["task"], manifest["steps"], manifest["episodes"], manifest["turns"]) == ("grpo", 4, 4, 8)
    assert (manifest["settings"]["reward"], manifest["judge"], manifest["processes"]) == ("rubric", None, 1)
    assert manifest["init_adapter"]["task"] == "sft"
    assert manifest["data_sha256"] == episodes_sha256(empty_episodes(2)) != episodes_sha256(empty_episodes(1))


def test_the_adapter_alone_is_written_in_the_form_that_it_came_in(uninterrupted: Path, policy: tuple[Path, Path]) -> None:
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (policy[1], uninterrupted / "adapter"))
    assert {name: (value.shape, value.dtype) for name, value in before.items()} == {
        n: (v.shape, v.dtype) for n, v in after.items()
    }
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not (uninterrupted / "adapter" / "ref").exists()


def test_the_reference_stays_as_it_was(uninterrupted: Path, policy: tuple[Path, Path]) -> None:
    before = load_file(policy[1] / "adapter_model.safetensors")
    after = load_file(uninterrupted / "checkpoints" / "checkpoint-4" / "ref" / "adapter_model.safetensors")
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    uninterrupted: Path, policy: tuple[Path, Path], schema: ProfileSchema, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "checkpoints" / "checkpoint-2", tmp_path / "checkpoints" / "checkpoint-2")
    lines = (uninterrupted / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_text("".join(lines[:3]), "utf-8")
    train(
        empty_episodes(2),
        weights=policy[0],
        init_adapter=policy[1],
        output=tmp_path,
        schema=schema,
        settings=RUN,
        resume=True,
        progress=False,
    )
    ours, theirs = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (uninterrupted, tmp_path))
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert log_of(tmp_path) == log_of(uninterrupted), "the third step, which was logged and lost, is logged once"


def test_each_time_through_the_episodes_is_in_an_order_of_its_own() -> None:
    order = episode_order(list("abcdefgh"), 20, seed=1)
    assert [sorted(order[:8]), sorted(order[8:16]), len(order)] == [list("abcdefgh"), list("abcdefgh"), 20]
    assert order[:8] != order[8:16]
    assert order == episode_order(list("abcdefgh"), 20, seed=1) != episode_order(list("abcdefgh"), 20, seed=2)


def test_a_judge_that_cannot_be_read_moves_nothing(
    policy: tuple[Path, Path], schema: ProfileSchema, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every rollout with something to judge is unscored; with no other reward and no KL yet, the step changes no weight."""
    judge = RewardJudge(ScriptedLLM(lambda messages: "I would rather not say."), schema)
    settings = replace(RUN, reward="judge", max_steps=1, format_share=0.0)
    train(
        empty_episodes(1),
        weights=policy[0],
        init_adapter=policy[1],
        output=tmp_path,
        schema=schema,
        settings=settings,
        judge=judge,
        progress=False,
    )
    (line,) = log_of(tmp_path)
    assert 0 < line["unscored"] < 1
    assert line["reward"] == 0.0, "what could not be parsed is 0, and nothing else was scored"
    assert line["grad_norm"] == pytest.approx(0.0, abs=1e-3)
    assert "All reward functions returned None" not in caplog.text


def test_a_judge_that_cannot_be_reached_ends_the_run(policy: tuple[Path, Path], schema: ProfileSchema, tmp_path: Path) -> None:
    judge = RewardJudge(ScriptedLLM(lambda messages: LLMTimeout("expected an answer in 1 s, got none; try later")), schema)
    with pytest.raises(LLMTimeout):
        train(
            empty_episodes(1),
            weights=policy[0],
            init_adapter=policy[1],
            output=tmp_path,
            schema=schema,
            settings=replace(RUN, reward="judge"),
            judge=judge,
            progress=False,
        )


def test_too_few_episodes_are_refused(policy: tuple[Path, Path], schema: ProfileSchema, tmp_path: Path) -> None:
    def run(settings: GRPOSettings) -> None:
        train(
            empty_episodes(1),
            weights=policy[0],
            init_adapter=policy[1],
            output=tmp_path,
            schema=schema,
            settings=settings,
            progress=False,
        )

    with pytest.raises(UsageError, match="expected at least 5 episodes, a step's, got 4"):
        run(replace(RUN, batch_size=5))
    with pytest.raises(UsageError, match="expected at least 4 episodes, a step's, got 0"):
        run(replace(RUN, max_prompt_tokens=10))
    with pytest.raises(UsageError, match="expected turn weights"):
        run(replace(RUN, turn_weights="late"))
