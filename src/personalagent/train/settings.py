"""What the hyper-parameters of all runs have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Hyper-parameters of a run, whatever it optimises."""

    learning_rate: float
    """At its peak."""
    batch_size: int
    """Examples, pairs or episodes a step."""
    warmup_steps: int
    schedule: str = "cosine"
    """``cosine`` to zero, or ``constant``."""
    epochs: float = 1.0
    max_steps: int = -1
    """Stop after this many steps whatever the epochs; -1 for no limit."""
    seed: int = 0
    save_steps: int
    """Steps between checkpoints."""
    threads: int = 0
    """Torch threads; 0 for torch's own choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings(RunSettings):
    """Hyper-parameters of a run that may begin with a fresh LoRA."""

    rank: int = 12
    alpha: int = 24
    first_layer: int = 4
    """Layers below carry no adapter: their backward pass is saved and the file stays under 12 MB."""
    max_length: int
    """Tokens of prompt and completion; longer examples are left out and counted."""
