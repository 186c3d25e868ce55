"""veRL's own trainer, unmodified, with our loop: two steps on a processor with one worker, two workers, two nodes, and a LoRA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster
from safetensors.torch import load_file

from tests.conftest import ROOT

DEADLINE_S = 900
CPUS = 16
"""For Ray alone, which only counts them: with fewer than its storage units and workers ask for, a run waits for ever."""
LOOPS = """
- name: personal_agent
  _target_: personalagent.train.verl_loop.PersonalAgentLoop
  notation: compact
  reward: rubric
"""
MODEL, ACTOR, REF, ROLLOUT = (f"actor_rollout_ref.{part}" for part in ("model", "actor", "ref", "rollout"))
SMALL = [
    "trainer.device=cpu",
    "+ray_kwargs.ray_init.include_dashboard=False",
    "trainer.v1.trainer_mode=sync",
    "trainer.total_training_steps=2",
    "trainer.total_epochs=2",
    "trainer.save_freq=2",
    "trainer.test_freq=-1",
    "trainer.val_before_train=False",
    "trainer.logger=[console]",
    "trainer.resume_mode=disable",
    "data.train_batch_size=4",
    "data.max_prompt_length=512",
    "data.max_response_length=8",
    "data.dataloader_num_workers=0",
    f"{MODEL}.use_remove_padding=False",
    f"+{MODEL}.override_config.attn_implementation=eager",
    f"{MODEL}.enable_gradient_checkpointing=False",
    f"{ACTOR}.ppo_mini_batch_size=12",
    f"{ACTOR}.ppo_max_token_len_per_gpu=4096",
    f"{ACTOR}.optim.lr=1e-3",
    f"{ROLLOUT}.name=hf_cpu",
    f"{ROLLOUT}.log_prob_max_token_len_per_gpu=4096",
    f"{REF}.log_prob_max_token_len_per_gpu=4096",
    f"{ROLLOUT}.agent.num_workers=1",
    "reward.num_workers=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    *(f"{part}.use_torch_compile=False" for part in (ACTOR, REF)),
    *(f"{part}.fsdp_config.use_torch_compile=False" for part in (ACTOR, REF)),
    *(f"{part}.fsdp_config.dtype=float32" for part in (ACTOR, REF)),
    *(f"{part}.fsdp_config.model_dtype=fp32" for part in (ACTOR, REF)),
]
ALONE = [f"ray_kwargs.ray_init.num_cpus={2 * CPUS}"]
Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, policy: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train with overrides; return the folder of the last checkpoint. The environment is this process's too: Ray's nodes inherit it."""
    loops, advantages = tmp_path / "loops.yaml", tmp_path / "advantages"
    loops.write_text(LOOPS)
    advantages.mkdir()
    for name, value in {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "VERL_USE_EXTERNAL_MODULES": "tests.verl.cpu_platform",
        "VERL_PLATFORM": "cpu",
        "VERL_ENGINE_DEVICE": "cuda",
        "SMOKE_ADVANTAGES": str(advantages),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
    }.items():
        monkeypatch.setenv(name, value)

    def trained(*overrides: str) -> Path:
        own = [
            f"{ROLLOUT}.agent.agent_loop_config_path={loops}",
            f"{MODEL}.path={policy}",
            *(f"data.{name}_files={rows}" for name in ("train", "val")),
            f"trainer.default_local_dir={tmp_path / 'run'}",
        ]
        command = [sys.executable, "-m", "personalagent.train.verl_run", *SMALL, *own, *overrides]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        check_advantages(advantages)
        return tmp_path / "run" / "global_step_2" / "actor"

    return trained


def check_advantages(folder: Path) -> None:
    """Two steps; all turns of a rollout have its one advantage; wherever a group's rewards differ it is not zero."""
    steps = [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]
    assert len(steps) == 2
    turns: list[int] = []
    for step in steps:
        rollouts: dict[str, list[list[float]]] = defaultdict(list)
        for row in step:
            if row["key"].startswith("pad"):
                assert row["advantages"] == [], "veRL fills a batch up with rows that count for nothing"
                continue
            rollouts[row["key"].rpartition("_")[0]].append(row["advantages"])
        assert len(rollouts) == 4 * 6, "four episodes, six rollouts of each"
        for rows in rollouts.values():
            assert all(row == rows[0] for row in rows) and len(rows[0]) == 1
        turns += [len(rows) for rows in rollouts.values() if rows[0] != [0.0]]
    assert {2, 3} <= set(turns), "episodes of two and of three turns taught something"
    assert len(turns) >= 24


def assert_changed(checkpoint: Path, policy: Path, shards: int) -> None:
    """Every shard is there, and the weights are not those that the run began with."""
    files = [checkpoint / f"model_world_size_{shards}_rank_{rank}.pt" for rank in range(shards)]
    before = load_file(policy / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    parts = [torch.load(file, weights_only=False)[name] for file in files]
    after = torch.cat([getattr(part, "_local_tensor", part).float() for part in parts])
    assert after.shape == before[name].shape
    assert float((after - before[name].float()).abs().max()) > 1e-5


def test_one_worker(run: Run, policy: Path) -> None:
    assert_changed(run(*ALONE, "+ray_kwargs.ray_init.num_gpus=1", "trainer.n_gpus_per_node=1"), policy, 1)


def test_two_workers_share_the_model(run: Run, policy: Path) -> None:
    assert_changed(run(*ALONE, "+ray_kwargs.ray_init.num_gpus=2", "trainer.n_gpus_per_node=2"), policy, 2)


def test_two_nodes(run: Run, policy: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS, "num_gpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=CPUS, num_gpus=1)
        nodes = [f"+ray_kwargs.ray_init.address={cluster.address}", "trainer.nnodes=2", "trainer.n_gpus_per_node=1"]
        assert_changed(run(*nodes), policy, 2)
    finally:
        cluster.shutdown()


def test_a_lora_is_trained_and_merged_into_an_adapter(run: Run, tmp_path: Path) -> None:
    lora = [f"{MODEL}.lora_rank=8", f"{MODEL}.lora_alpha=16", f"{MODEL}.target_modules=all-linear", f"{MODEL}.lora.merge=True"]
    checkpoint = run(*ALONE, "+ray_kwargs.ray_init.num_gpus=1", "trainer.n_gpus_per_node=1", *lora)
    merge = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    places = ["--local_dir", str(checkpoint), "--target_dir", str(tmp_path / "merged")]
    done = subprocess.run([*merge, *places], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    adapter = tmp_path / "merged" / "lora_adapter" / "adapter_model.safetensors"
    ups = [tensor for name, tensor in load_file(adapter).items() if "lora_B" in name]
    assert ups and all(float(tensor.float().abs().max()) > 0 for tensor in ups), "every second matrix began as zero"
