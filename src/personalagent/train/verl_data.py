"""Episodes as the Parquet file that veRL reads; needs the package ``datasets``, not veRL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, disable_progress_bars

from personalagent.train.episode import Episode, dump_episode


def write_rows(episodes: Sequence[Episode], path: Path) -> None:
    """Write a row for each episode, gold included; ``PersonalAgentLoop`` builds the prompts of its turns itself."""
    disable_progress_bars()
    rows = [
        {
            "data_source": "personalagent",
            "prompt": [{"role": "user", "content": episode.turns[0].utterance}],
            "agent_name": "personal_agent",
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": index, "episode": dump_episode(episode)},
        }
        for index, episode in enumerate(episodes)
    ]
    Dataset.from_list(rows).to_parquet(str(path))
