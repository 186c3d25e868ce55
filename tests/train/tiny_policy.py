"""A random model with an adapter that a few seconds of fine-tuning gave, and episodes that fit it."""

from __future__ import annotations

from pathlib import Path

from personalagent.datasets.base import LabelledTurn
from personalagent.inference import build_prompt
from personalagent.profile import Profile
from personalagent.schema import ProfileSchema
from personalagent.train.episode import Episode
from personalagent.train.samples import PolicyExample
from tests.train.tiny import write_tiny_model

SAID = ("what time is it", "how far is the moon", "is rain wet", "who made tea first")


def empty_episodes(turns: int) -> list[Episode]:
    """Episodes of questions that reveal nothing: ``none`` is right on every turn."""
    return [Episode(f"e{i}", tuple(LabelledTurn(SAID[(i + j) % len(SAID)], ()) for j in range(turns))) for i in range(len(SAID))]


def write_policy(folder: Path, schema: ProfileSchema) -> tuple[Path, Path]:
    """Write a random qwen2 model and an adapter that says ``none`` about half of the time; return both."""
    from personalagent.train.sft import SFTSettings, train  # not there beside veRL

    weights = write_tiny_model(folder / "tiny.gguf", "qwen2", can_end=True)
    prompts = [build_prompt(said, Profile(), schema).messages[0].content for said in SAID]
    examples = [PolicyExample("infer", "turn", prompt, text) for prompt in prompts for text in ("none", "no", "none", "name")]
    settings = SFTSettings(
        rank=8, alpha=16, noise=0, first_layer=0, learning_rate=5e-3, batch_size=16, warmup_steps=5, max_steps=60, save_steps=1000
    )
    return weights, train(examples, weights=weights, output=folder / "sft", settings=settings, progress=False)
