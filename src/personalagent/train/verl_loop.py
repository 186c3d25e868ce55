"""The agent loop for veRL: one rollout of an episode, an output for every turn (paper section 3.5 and appendix C.4).

veRL makes every output a row. The reward stands on the last one; veRL copies it to the others, computes the group's advantages from the last
rows alone and gives each row its rollout's (``compute_advantage_for_multi_trajectories``). Imported by veRL's workers, not by this package:
``configs/agent_loops.yaml`` names it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, get_args
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from personalagent.config import Settings
from personalagent.errors import JudgeError, UsageError
from personalagent.inference import Notation
from personalagent.llm.base import open_llm
from personalagent.schema import ProfileSchema, load_schema
from personalagent.train.episode import Trajectory, observe, parse_episode, start, step
from personalagent.train.rewards import FORMAT_SHARE, Rewarder, RewardJudge, RewardName, parse_weights


class PersonalAgentLoop(AgentLoopBase):  # type: ignore[misc]  # veRL carries no types
    """Plays an episode; one object for each rollout.

    Args:
        notation: ``general`` for an instruct model, ``compact`` for one that was fine-tuned on it.
        reward, format_share, turn_weights, judge: as the options of ``train grpo``.
    """

    def __init__(
        self,
        *args: Any,
        notation: Notation = "general",
        reward: RewardName = "rubric",
        format_share: float = FORMAT_SHARE,
        turn_weights: str = "equal",
        judge: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if notation not in get_args(Notation) or reward not in get_args(RewardName):
            raise UsageError(
                f"expected notation in {get_args(Notation)} and reward in {get_args(RewardName)}, got {notation!r} and {reward!r}; "
                "correct agent_loops.yaml"
            )
        self._notation = notation
        self._schema = _schema()
        self._rewarder = _rewarder(reward, format_share, turn_weights, judge)

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[AgentLoopOutput]:
        """Play the episode of one row of data and return an output for every turn.

        Raises:
            JudgeError: no attempt to judge some turn could be read; veRL leaves the rollout's group out. It is never a reward of 0.
        """
        episode = parse_episode(kwargs["extra_info"]["episode"])
        state, steps, outputs = start(episode, self._notation), [], []
        while not state.is_final:
            messages = [{"role": each.role, "content": each.content} for each in observe(state, self._schema).messages]
            prompt_ids = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, **self.apply_chat_template_kwargs
            )["input_ids"]
            written = await self.server_manager.generate(
                request_id=uuid4().hex, prompt_ids=prompt_ids, sampling_params=sampling_params
            )
            text = self.tokenizer.decode(written.token_ids, skip_special_tokens=True)
            taken, state = step(state, text, self._schema, truncated=self._is_cut(written.token_ids))
            steps.append(taken)
            outputs.append(self._output(len(steps), prompt_ids, written))
        (score,) = await self._rewarder.score([Trajectory(episode.episode_id, tuple(steps))])
        if score.total is None:
            raise JudgeError(
                f"expected a verdict on every turn of {episode.episode_id!r}, got none for some; look at the judge's answers"
            )
        for output, reward in zip(outputs, score.turns, strict=True):
            output.extra_fields["turn_reward"] = reward.value if reward else 0.0
        outputs[-1].reward_score = score.total
        outputs[-1].extra_fields["reward_extra_info"] = {
            "format": _mean(score.turns, "format"),
            "task": _mean(score.turns, "task"),
        }
        return outputs

    def _is_cut(self, token_ids: list[int]) -> bool:
        return bool(len(token_ids) >= self.rollout_config.response_length and token_ids[-1] != self.tokenizer.eos_token_id)

    def _output(self, turn: int, prompt_ids: list[int], written: Any) -> AgentLoopOutput:
        return AgentLoopOutput(
            prompt_ids=prompt_ids,
            response_ids=written.token_ids,
            response_mask=[1] * len(written.token_ids),
            response_logprobs=written.log_probs,
            num_turns=turn,
            metrics=AgentLoopMetrics(),
            extra_fields={**written.extra_fields, "turn": turn, "turn_reward": 0.0, "turn_scores": [], "tool_rewards": []},
        )


def _mean(turns: tuple[Any, ...], name: str) -> float:
    return fmean(getattr(turn, name) for turn in turns)


@cache
def _schema() -> ProfileSchema:
    settings = Settings.load()
    return load_schema(settings.schema_file, categories=settings.categories)


@cache
def _rewarder(reward: RewardName, format_share: float, turn_weights: str, judge: str | None) -> Rewarder:
    """Return the one rewarder of this worker: its judge's connections and verdicts serve every rollout."""
    judging = None
    if judge is not None:
        llm = open_llm(judge, "judge", Settings.load())
        judging = RewardJudge(llm, _schema(), Path(f"verdicts-{uuid4().hex[:8]}.db"))
    return Rewarder(reward, format_share, parse_weights(turn_weights), judging)
