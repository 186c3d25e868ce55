"""Paper eq. 5 written down once more, row by row and without padding, and what a trainer's first step did, to compare with it.

Run by ``torchrun`` as a module it is one process of such a step: ``tests.train.grpo_reference WEIGHTS OUTPUT``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from personalagent.datasets.base import LabelledTurn
from personalagent.schema import load_schema
from personalagent.train.episode import Episode, Step
from personalagent.train.grpo import GroupRollouts, GRPOSettings, PolicyGRPOTrainer, build_trainer
from personalagent.train.rewards import Rewarder, TurnReward
from personalagent.train.sft import LINEAR, load_backbone

RAGGED = (
    Episode("long", tuple(LabelledTurn(said, ()) for said in ("I live in Porto", "my sister came", "so I moved"))),
    Episode("short", tuple(LabelledTurn(said, ()) for said in ("no tea for me", "I said green"))),
)
SETTINGS = GRPOSettings(
    batch_size=2,
    group_size=3,
    kl_coef=0.04,
    warmup_steps=0,
    max_steps=1,
    max_completion_tokens=6,
    micro_batch_size=4,
    temperature=2.0,
    seed=3,
)
SPLIT = replace(SETTINGS, batch_size=1, group_size=4)
"""One group of twelve rows, of which two processes get six each."""


class LetterRewarder(Rewarder):
    """Rewards some letters more than others: a random model's output is never readable, and eq. 5 does not care what a reward is for."""

    async def turn(self, step: Step) -> TurnReward:
        return TurnReward(letters(step), 0.0, 0.0)


def letters(step: Step) -> float:
    """Return the reward of a turn."""
    return sum(map(ord, step.text)) % 17 / 17


@dataclass
class Caught:
    """What one process did in one step."""

    rows: dict[str, torch.Tensor]
    """Its rows in the order of rollout and turn, as the loss gets them."""
    totals: list[float]
    """The reward of each of its rollouts."""
    gradients: dict[str, torch.Tensor]


def make_trainer(
    weights: Path, output: Path, *, episodes: tuple[Episode, ...] = RAGGED, settings: GRPOSettings = SETTINGS
) -> PolicyGRPOTrainer:
    """Return a trainer in float32 whose adapter has moved away from the frozen reference, so that the KL counts."""
    model, tokenizer = load_backbone(weights, dtype=torch.float32)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=list(LINEAR)))
    _disturb(model, ".default.")
    rollouts = GroupRollouts(
        {e.episode_id: e for e in episodes}, load_schema(), LetterRewarder(), max(len(e.turns) for e in episodes)
    )
    trainer = build_trainer(model, tokenizer, rollouts, output=output, settings=settings, progress=False)
    _disturb(trainer.model, ".default.")
    return trainer


def _disturb(model: Any, part: str) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, param in model.named_parameters():
            if "lora_" in name and part in name:
                param.add_(0.05 * torch.randn_like(param))


def catch_a_step(trainer: PolicyGRPOTrainer) -> Caught:
    """Take one step and return what it was made of."""
    caught = Caught({}, [], {})
    generate = trainer._generate_and_score_completions

    def generate_and_keep(inputs: Any) -> Any:
        output = generate(inputs)
        caught.rows.update({name: value.clone() for name, value in output.items() if torch.is_tensor(value)})
        for trajectory in trainer.rollout_func.__self__.trajectories:
            caught.totals.append(sum(map(letters, trajectory.steps)) / len(trajectory.steps))
        return output

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for name, param in trainer.model.named_parameters():
                if param.grad is not None:
                    caught.gradients[name] = param.grad.clone()

    trainer._generate_and_score_completions = generate_and_keep
    trainer.add_callback(Keep())
    trainer.train()
    return caught


def expected_gradients(trainer: PolicyGRPOTrainer, caught: list[Caught], settings: GRPOSettings) -> dict[str, torch.Tensor]:
    """Return eq. 5's gradient on what all processes wrote: advantage of the rollout, clip, k3 KL, mean over all tokens, norm at most 1."""
    turns = trainer.rollout_func.__self__.turns
    advantages = group_advantages([total for each in caught for total in each.totals], settings.group_size, turns)
    rows = [(each.rows, i) for each in caught for i in range(len(each.rows["prompt_ids"]))]
    model, loss, tokens = trainer.model, torch.zeros(()), 0
    model.zero_grad()
    for number, (batch, i) in enumerate(rows):
        if not batch["tool_mask"][i, 0]:
            continue
        prompt, completion = (batch[f"{part}_ids"][i][batch[f"{part}_mask"][i].bool()] for part in ("prompt", "completion"))
        logprobs = row_logprobs(model, prompt, completion, settings.temperature)
        model.set_adapter("ref")
        with torch.no_grad():
            reference = row_logprobs(model, prompt, completion, settings.temperature)
        model.set_adapter("default")
        ratio, advantage = (logprobs - logprobs.detach()).exp(), advantages[number // turns]
        clipped = ratio.clamp(1 - settings.clip_eps, 1 + settings.clip_eps)
        kl = (reference - logprobs).exp() - (reference - logprobs) - 1
        loss = loss + (-torch.min(ratio * advantage, clipped * advantage) + settings.kl_coef * kl).sum()
        tokens += len(completion)
    (loss / tokens).backward()
    trained = {name: param for name, param in model.named_parameters() if param.requires_grad and param.grad is not None}
    torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
    return {name: param.grad.clone() for name, param in trained.items() if param.grad is not None}


def group_advantages(totals: list[float], group_size: int, turns: int) -> list[float]:
    """Return each rollout's reward less its group's mean, over the deviation of the group's G x T rows."""
    advantages = []
    for first in range(0, len(totals), group_size):
        group = torch.tensor(totals[first : first + group_size])
        deviation = group.repeat_interleave(turns).std() + 1e-4
        advantages += ((group - group.mean()) / deviation).tolist()
    return advantages


def row_logprobs(model: Any, prompt: torch.Tensor, completion: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the log probability of each token of a completion, from plain logits."""
    logits = model(input_ids=torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(-1, completion[:, None])[:, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    mine = make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), episodes=RAGGED[:1], settings=SPLIT)
    torch.save(vars(catch_a_step(mine)), Path(sys.argv[2]) / f"rank{os.environ['RANK']}.pt")
