"""Multi-turn GRPO on the profile MDP (paper section 3.5, eq. 5), by TRL's trainer.

A group is ``G`` rollouts of one episode. Each turn of a rollout is a row of its own, since its prompt is built afresh from the profile;
the rollout's one reward stands on all its rows, so that TRL's group of ``G * T`` rows has the mean of the ``G`` rollouts, and every turn gets the
rollout's advantage. An episode of fewer than ``T`` turns is filled up with rows of one masked token. ``GroupRollouts`` is the one place
that knows TRL's (experimental) ``rollout_func``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, get_scheduler
from trl import GRPOConfig, GRPOTrainer

from personalagent.bench.manifest import file_sha256, prompt_hashes
from personalagent.dialogue import Message
from personalagent.errors import UsageError
from personalagent.parsing import ParseOutcome
from personalagent.rubrics import load_rubric
from personalagent.schema import ProfileSchema
from personalagent.train.episode import Episode, State, Step, Trajectory, observe, short_enough, start, step
from personalagent.train.optimizer import MasterAdamW
from personalagent.train.rewards import FORMAT_SHARE, Rewarder, RewardJudge, RewardName, Score, parse_weights
from personalagent.train.settings import RunSettings
from personalagent.train.sft import (
    chat_text,
    circumstances,
    load_backbone,
    manifest_of_adapter,
    match_reference,
    restore_adapter,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPOSettings(RunSettings):
    """Hyper-parameters of one run. What the paper gives: 32 dialogues a step, G = 6, one epoch, equal turn weights."""

    reward: RewardName = "rubric"
    batch_size: int = 8
    """Episodes a step, each with a group of rollouts."""
    group_size: int = 6
    """G."""
    learning_rate: float = 2e-5
    """The paper's 5e-6 is for all weights; a LoRA takes more."""
    warmup_steps: int = 5
    schedule: str = "constant"
    kl_coef: float = 0.01
    """Weight of the KL to the adapter that the run began with; 0 for none, which also saves its forward pass."""
    clip_eps: float = 0.2
    temperature: float = 1.0
    turn_weights: str = "equal"
    """ω: ``equal``, or a number for each turn, separated by commas."""
    format_share: float = FORMAT_SHARE
    """Share of the reward that conforming format alone brings."""
    max_prompt_tokens: int = 512
    """Episodes with a longer prompt are left out and counted."""
    max_completion_tokens: int = 128
    micro_batch_size: int = 16
    """Rows in one forward and backward pass, at most."""
    save_steps: int = 20


@dataclass(slots=True)
class GroupRollouts:
    """Plays episodes for TRL and scores them: its ``rollout_func`` and its reward function."""

    episodes: Mapping[str, Episode]
    schema: ProfileSchema
    rewarder: Rewarder
    turns: int
    """T: rows of one rollout."""
    trajectories: list[Trajectory] = field(default_factory=list)
    """The rollouts played last, in order; here and not in TRL's columns, which it may write to a log."""
    lengths: list[int] = field(default_factory=list)
    """Tokens that were written on each of their turns."""

    def play(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """Return the rows of one rollout for every ``T`` prompts, each an episode's id: all rollouts at once, turn by turn."""
        tokenizer, eos = trainer.processing_class, trainer.processing_class.eos_token_id
        filler: dict[str, Any] = {"prompt_ids": [eos], "completion_ids": [eos], "env_mask": [0], "logprobs": [0.0]}
        states = [start(self.episodes[episode_id]) for episode_id in prompts[:: self.turns]]
        steps: list[list[Step]] = [[] for _ in states]
        rows = [[filler] * self.turns for _ in states]
        for index in range(self.turns):
            active = [k for k, state in enumerate(states) if not state.is_final]
            if not active:
                break
            prompt_ids = [self._tokens(states[k], tokenizer) for k in active]
            completion_ids, logprobs = trainer._generate_single_turn(prompt_ids, None, {}, 1)
            for i, k in enumerate(active):
                written = completion_ids[i]
                text = str(tokenizer.decode(written, skip_special_tokens=True))
                taken, states[k] = step(states[k], text, self.schema, truncated=written[-1] not in trainer.eos_token_ids)
                steps[k].append(taken)
                row = {"prompt_ids": prompt_ids[i], "completion_ids": written, "env_mask": [1] * len(written)}
                rows[k][index] = {**row, "logprobs": None if logprobs is None else logprobs[i]}
        self.trajectories = [
            Trajectory(state.episode.episode_id, tuple(taken)) for state, taken in zip(states, steps, strict=True)
        ]
        flat = [row for rollout in rows for row in rollout]
        self.lengths = [len(row["completion_ids"]) for row in flat if row is not filler]
        columns: dict[str, Any] = {name: [row[name] for row in flat] for name in filler}
        return columns if None not in columns["logprobs"] else {**columns, "logprobs": None}

    def _tokens(self, state: State, tokenizer: Any) -> list[int]:
        ids: list[int] = tokenizer(chat_text(observe(state, self.schema).messages), add_special_tokens=False).input_ids
        return ids

    async def total_reward(self, prompts: list[str], log_metric: Callable[[str, float], None], **_: Any) -> list[float | None]:
        """Return each rollout's total reward on each of its rows; None where a judge could not be read."""
        scores = await self.rewarder.score(self.trajectories)
        for score in scores:
            log_metric("unscored", float(score.total is None))
            self._log_turns(score, log_metric)
        for length in self.lengths:
            log_metric("length", float(length))
        for each in (taken for trajectory in self.trajectories for taken in trajectory.steps):
            log_metric("truncated", float(each.parsed.outcome is ParseOutcome.TRUNCATED))
        return [score.total for score in scores for _ in range(self.turns)]

    @staticmethod
    def _log_turns(score: Score, log_metric: Callable[[str, float], None]) -> None:
        for turn in score.turns:
            if turn is not None:
                log_metric("format", turn.format)
                log_metric("task", turn.task)
                for name, value in turn.criteria.items():
                    log_metric(name, value)


class PolicyGRPOTrainer(GRPOTrainer):  # type: ignore[misc]  # trl carries no types
    """TRL's trainer, resuming as ``train sft`` does."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the trained adapter into the parameters that the optimiser steps; the frozen reference stays the run's first adapter."""
        restore_adapter(self.model, Path(resume_from_checkpoint))


LOGGED = {
    "reward": "reward",
    "reward_std": "reward_std",
    "task": "task",
    "format": "format",
    "completeness": "completeness",
    "no_hallucination": "no_hallucination",
    "informativeness": "informativeness",
    "consistency": "consistency",
    "unscored": "unscored",
    "frac_reward_zero_std": "zero_std",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clipped",
    "length": "length",
    "truncated": "truncated",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "step_time": "step_s",
}
"""What a step logs: TRL's name -> ours."""


class StepLog(TrainerCallback):  # type: ignore[misc]  # transformers' own type is not followed
    """Writes a JSON line a step; a resumed run goes on after its checkpoint's step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drop the lines of steps that will be taken again."""
        if state.is_world_process_zero:
            lines = self._path.read_text("utf-8").splitlines(keepends=True) if self._path.is_file() else []
            self._path.write_text("".join(line for line in lines if json.loads(line)["step"] <= state.global_step), "utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Append the step's line."""
        if state.is_world_process_zero and logs and "reward" in logs:
            line = {"step": state.global_step} | {ours: logs[theirs] for theirs, ours in LOGGED.items() if theirs in logs}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


class StepBar(ProgressCallback):  # type: ignore[misc]  # transformers' own type is not followed
    """A progress bar with the last reward; the trainer's own writes every log to standard output, where ``--json`` belongs."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Show the step's reward."""
        if self.training_bar is not None and logs and "reward" in logs:
            self.training_bar.set_postfix(reward=f"{logs['reward']:.3f}" if logs["reward"] is not None else "unscored")


def build_trainer(
    model: Any,
    tokenizer: Any,
    rollouts: GroupRollouts,
    *,
    output: Path,
    settings: GRPOSettings,
    progress: bool = True,
) -> PolicyGRPOTrainer:
    """Return a trainer that goes on from the model's trainable adapter, of which it keeps a frozen copy as the reference policy.

    Raises:
        UsageError: there are fewer episodes than a step takes, or the rollouts of a step cannot be shared out among the processes.
    """
    if len(rollouts.episodes) < settings.batch_size:
        raise UsageError(
            f"expected at least {settings.batch_size} episodes, a step's, got {len(rollouts.episodes)}; lower the batch size"
        )
    logging.getLogger("trl.trainer.grpo_trainer").addFilter(_says_nothing_of_users)
    optimizer = MasterAdamW([p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate)
    steps = (
        settings.max_steps
        if settings.max_steps > 0
        else max(int(len(rollouts.episodes) * settings.epochs / settings.batch_size), 1)
    )
    order = episode_order(list(rollouts.episodes), steps * settings.batch_size, settings.seed)
    kind = "cosine" if settings.schedule == "cosine" else "constant_with_warmup"
    trainer = PolicyGRPOTrainer(
        model=model,
        reward_funcs=rollouts.total_reward,
        args=_config(settings, rollouts.turns, steps, output, progress),
        train_dataset=Dataset.from_list([{"prompt": episode_id} for episode_id in order]),
        processing_class=tokenizer,
        callbacks=[StepLog(output / "log.jsonl")],
        optimizers=(optimizer, get_scheduler(kind, optimizer, settings.warmup_steps, steps)),
        rollout_func=rollouts.play,
    )
    trainer.remove_callback(ProgressCallback if progress else PrinterCallback)
    if progress:
        trainer.add_callback(StepBar())
    match_reference(trainer.model)
    return trainer


def episode_order(episode_ids: Sequence[str], count: int, seed: int) -> list[str]:
    """Return the episodes of a whole run in their order, shuffled anew for each time through them.

    The run is one epoch to TRL: its own shuffling starts afresh when a run is resumed, so that later epochs would not be the same.
    """
    rng, order = random.Random(seed), list[str]()  # noqa: S311 - sampling data, not secrets
    while len(order) < count:
        order += rng.sample(episode_ids, len(episode_ids))
    return order[:count]


def _says_nothing_of_users(record: logging.LogRecord) -> bool:
    """Refuse TRL's warning about unscored rows, which quotes what was written; their share is in the log as ``unscored``."""
    return "All reward functions returned None" not in str(record.msg)


def _config(settings: GRPOSettings, turns: int, steps: int, output: Path, progress: bool) -> GRPOConfig:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch_size * settings.group_size % world:
        raise UsageError(
            f"expected batch size x group size to be a multiple of {world} processes, got {settings.batch_size} x {settings.group_size}; "
            "change one of them"
        )
    rows = settings.batch_size * settings.group_size * turns // world
    micro = max(size for size in range(1, min(settings.micro_batch_size, rows) + 1) if rows % size == 0)
    return GRPOConfig(
        output_dir=str(output / "checkpoints"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rows // micro,
        num_generations=settings.group_size * turns,
        max_completion_length=settings.max_completion_tokens,
        temperature=settings.temperature,
        loss_type="dapo",
        scale_rewards="group",
        beta=settings.kl_coef,
        use_bias_correction_kl=False,
        epsilon=settings.clip_eps,
        num_iterations=1,
        disable_dropout=True,
        shuffle_dataset=False,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        logging_steps=1,
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        report_to="none",
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=not progress,
    )


def train(
    episodes: Sequence[Episode],
    *,
    weights: Path,
    init_adapter: Path,
    output: Path,
    schema: ProfileSchema,
    settings: GRPOSettings,
    judge: RewardJudge | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train and write ``output/adapter`` (PEFT), ``output/log.jsonl`` (a line a step) and ``output/manifest.json``.

    Args:
        init_adapter: the PEFT adapter to go on from; a frozen copy of it is the reference policy.
        judge: who decides the reward ``judge``.
        resume: go on from the last checkpoint of ``output``, exactly where it stopped.

    Raises:
        UsageError: too few episodes, turn weights that are none, or a judge is missing.
        LLMError: the judge could not be reached; the run can be resumed.
    """
    started = time.time()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    rewarder = Rewarder(settings.reward, settings.format_share, parse_weights(settings.turn_weights), judge)
    model, tokenizer = load_backbone(weights)
    model = PeftModel.from_pretrained(model, str(init_adapter), is_trainable=True, autocast_adapter_dtype=False)
    kept, too_long = short_enough(episodes, schema, settings.max_prompt_tokens, lambda text: token_count(text, tokenizer))
    turns = max((len(episode.turns) for episode in kept), default=0)
    rollouts = GroupRollouts({episode.episode_id: episode for episode in kept}, schema, rewarder, turns)
    output.mkdir(parents=True, exist_ok=True)
    trainer = build_trainer(model, tokenizer, rollouts, output=output, settings=settings, progress=progress)
    result = trainer.train(resume_from_checkpoint=resume)
    adapter = output / "adapter"
    if trainer.is_world_process_zero():
        trainer.model.save_pretrained(str(adapter), selected_adapters=["default"])
        facts = {
            "task": "grpo",
            "init_adapter": manifest_of_adapter(init_adapter),
            "init_adapter_sha256": file_sha256(init_adapter / "adapter_model.safetensors"),
            "backbone": weights.name,
            "backbone_sha256": file_sha256(weights),
            "prompts": prompt_hashes(),
            "data_sha256": episodes_sha256(kept),
            "episodes": len(kept),
            "episodes_too_long": too_long,
            "turns": sum(len(episode.turns) for episode in kept),
            "judge": judge and {"model": judge.llm.name, "rubric_sha256": load_rubric("reward").sha256},
            "settings": asdict(settings),
            "processes": trainer.args.world_size,
            "steps": result.global_step,
            "wall_s": round(time.time() - started),
            **circumstances(),
        }
        (output / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return adapter


def token_count(prompt: str, tokenizer: Any) -> int:
    """Return the tokens of a prompt as it is served."""
    return len(tokenizer(chat_text([Message("user", prompt)]), add_special_tokens=False).input_ids)


def episodes_sha256(episodes: Sequence[Episode]) -> str:
    """Return the hash that identifies a list of episodes."""
    digest = hashlib.sha256()
    for episode in episodes:
        digest.update(json.dumps(asdict(episode), ensure_ascii=False, sort_keys=True, default=str).encode())
    return digest.hexdigest()
