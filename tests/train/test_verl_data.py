"""What veRL is given, as far as it can be checked without veRL; `make verl-smoke` runs the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from personalagent.datasets.corpus import load_corpus
from personalagent.schema import ProfileSchema
from personalagent.train.episode import dialogue_episodes, parse_episode
from personalagent.train.verl_run import CONFIGS, LOOPS, arguments
from tests.cli.conftest import Cli, cli
from tests.conftest import ROOT

__all__ = ["cli"]
CORPUS = ROOT / "data" / "corpus"


@pytest.mark.train
def test_rows_hold_whole_episodes(cli: Cli, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    file = tmp_path / "dev.parquet"
    done = cli("train", "episodes", "--data", str(CORPUS), "--split", "dev", "--limit", "3", "--out", str(file), "--json")
    assert done.code == 0, done.err
    wanted = dialogue_episodes(load_corpus(CORPUS), "dev")[:3]
    rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path))
    assert [parse_episode(row["extra_info"]["episode"]) for row in rows] == wanted
    assert [row["prompt"] for row in rows] == [[{"role": "user", "content": each.turns[0].utterance}] for each in wanted]
    assert {row["agent_name"] for row in rows} == {"personal_agent"}
    assert done.json == {"path": str(file), "episodes": 3, "turns": sum(len(each.turns) for each in wanted)}


def test_one_batch_is_one_update(schema: ProfileSchema) -> None:
    settings = yaml.safe_load((CONFIGS / "verl_grpo.yaml").read_text("utf-8"))
    longest = max(len(each.turns) for each in dialogue_episodes(load_corpus(CORPUS), "train"))
    rows = settings["actor_rollout_ref"]["actor"]["ppo_mini_batch_size"]
    assert rows == settings["data"]["train_batch_size"] * longest


def test_own_settings_of_the_rollouts_take_the_place_of_ours() -> None:
    assert f"{LOOPS}={CONFIGS / 'agent_loops.yaml'}" in arguments(["trainer.nnodes=2"])
    given = arguments([f"{LOOPS}=mine.yaml"])
    assert given[-1] == f"{LOOPS}=mine.yaml" and sum(each.startswith(LOOPS) for each in given) == 1
