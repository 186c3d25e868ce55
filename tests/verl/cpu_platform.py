"""veRL on a processor, for tests: a platform without accelerators, through veRL's own registries.

Every process of a run loads it: ``VERL_USE_EXTERNAL_MODULES=tests.verl.cpu_platform VERL_PLATFORM=cpu``. Advantages are written to the
folder that ``SMOKE_ADVANTAGES`` names, so that a test can look at every turn's.
"""

from __future__ import annotations

import contextlib
import json
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.fsdp as fsdp
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

MEMORY = 1 << 34


def nothing(*_: object, **__: object) -> None:
    """Do nothing, as a device without a clock, a cache or a profiler does."""


DEVICE = types.SimpleNamespace(
    is_available=lambda: True,
    current_device=lambda: "cpu",
    device_count=lambda: 1,
    get_device_name=lambda *_: "cpu",
    get_device_properties=lambda *_: types.SimpleNamespace(total_memory=MEMORY, name="cpu"),
    mem_get_info=lambda *_: (MEMORY, MEMORY),
    manual_seed=torch.manual_seed,
    manual_seed_all=torch.manual_seed,
    get_rng_state=torch.get_rng_state,
    set_rng_state=torch.set_rng_state,
    **dict.fromkeys(("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "ipc_collect"), nothing),
    **dict.fromkeys(("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"), lambda *_: 0),
)


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):  # type: ignore[misc]  # veRL carries no types
    """A processor that calls itself a GPU to Ray, whose GPUs are only counted."""

    device_name = vendor_name = "cpu"
    device_module = DEVICE
    set_device = synchronize = empty_cache = set_allocator_settings = profiler_start = profiler_stop = cudart = nothing

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    @contextlib.contextmanager
    def nvtx_range(self, message: str) -> Iterator[None]:
        yield


def use_gloo_once() -> None:
    """veRL names the backend ``cpu:gloo,cpu:gloo`` here, which torch refuses as the same device twice."""
    start = torch.distributed.init_process_group

    def started(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return start("gloo" if backend and "cpu:gloo,cpu:gloo" in str(backend) else backend, *args, **kwargs)

    torch.distributed.init_process_group = started


def pin_nothing() -> None:
    """Pinned memory needs an accelerator."""
    from verl.workers.engine.fsdp import transformer_impl  # asks for the platform when it is imported

    transformer_impl.CPUOffloadPolicy = lambda pin_memory=True: fsdp.CPUOffloadPolicy(pin_memory=False)


def generate_with_transformers() -> None:
    """Register the rollout ``hf_cpu``."""
    from verl.workers.rollout import base, replica

    base._ROLLOUT_REGISTRY["hf_cpu", "async"] = "tests.verl.cpu_rollout.ServerAdapter"

    def load() -> type:
        from tests.verl.cpu_rollout import HFReplica

        return HFReplica

    replica.RolloutReplicaRegistry.register("hf_cpu", load)


def keep_advantages() -> None:
    """Write what veRL computes for every row: its key, its advantage on the tokens that were written, and how many these are."""
    from verl.trainer.ppo.v1 import trainer_base

    compute = trainer_base.compute_advantage_for_multi_trajectories

    def kept(data: Any, batch_keys: list[str], *args: Any, **kwargs: Any) -> Any:
        computed = compute(data, batch_keys, *args, **kwargs)
        mask, advantages = computed.batch["response_mask"].bool(), computed.batch["advantages"]
        rows = [
            {"key": key, "advantages": sorted({round(value, 6) for value in advantages[row][mask[row]].tolist()})}
            for row, key in enumerate(batch_keys)
        ]
        with (Path(os.environ["SMOKE_ADVANTAGES"]) / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(rows) + "\n")
        return computed

    trainer_base.compute_advantage_for_multi_trajectories = kept


use_gloo_once()
pin_nothing()
generate_with_transformers()
if os.environ.get("SMOKE_ADVANTAGES"):
    keep_advantages()
