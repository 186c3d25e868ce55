"""``python -m personalagent.train.verl_run [override …]``: veRL's own trainer with this package's configuration.

Overrides are Hydra's, e.g. ``trainer.nnodes=2``; another file of settings for the rollouts is
``actor_rollout_ref.rollout.agent.agent_loop_config_path=my_loops.yaml``.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
LOOPS = "actor_rollout_ref.rollout.agent.agent_loop_config_path"


def arguments(overrides: list[str]) -> list[str]:
    """Return the arguments of ``verl.trainer.main_ppo``."""
    own = [] if any(each.startswith(f"{LOOPS}=") for each in overrides) else [f"{LOOPS}={CONFIGS / 'agent_loops.yaml'}"]
    return ["--config-path", str(CONFIGS), "--config-name", "verl_grpo", *own, *overrides]


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:])
    runpy.run_module("verl.trainer.main_ppo", run_name="__main__")
