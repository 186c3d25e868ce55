"""Direct preference optimisation on preferred and rejected replies, by TRL's trainer (Table 1's DPO).

The reference is the model as the run finds it: the bare backbone, or the adapter that the run goes on from, of which TRL keeps a frozen copy.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import get_scheduler
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import use_adapter

from personalagent.bench.manifest import file_sha256, prompt_hashes
from personalagent.errors import UsageError
from personalagent.train.optimizer import MasterAdamW
from personalagent.train.replies import PreferenceExample
from personalagent.train.settings import AdapterSettings
from personalagent.train.sft import (
    END,
    chat_text,
    circumstances,
    examples_sha256,
    load_backbone,
    manifest_of_adapter,
    match_reference,
    restore_adapter,
    show_loss,
    with_adapter,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOSettings(AdapterSettings):
    """Hyper-parameters of one run, as they are on a processor."""

    beta: float = 0.1
    """How dear it is to leave the reference; the paper gives none, this is TRL's."""
    learning_rate: float = 5e-5
    batch_size: int = 8
    micro_batch_size: int = 2
    """Pairs in one pass, at most: two replies each."""
    warmup_steps: int = 10
    save_steps: int = 50
    max_length: int = 1024


PAPER = replace(DPOSettings(), learning_rate=5e-6, batch_size=32, micro_batch_size=8, epochs=1.0)
"""On a GPU: what the paper says of its DPO (section C.4), there for all weights."""


def default_settings() -> DPOSettings:
    """Return the defaults on this machine."""
    return PAPER if torch.cuda.is_available() else DPOSettings()


class ReplyTrainer(DPOTrainer):  # type: ignore[misc]  # trl carries no types
    """TRL's trainer with logits only where a reply stands, resuming as ``train sft`` does.

    Without Triton, TRL scores every position of the prompt too: with 150,000 tokens in the vocabulary that is most of a step on a CPU.
    """

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Return the mean over pairs of -log sigmoid(beta · margin), the margin being that of the replies' log-probability ratios."""
        with torch.no_grad(), use_adapter(model, "ref"):
            reference = reply_logprobs(model, inputs)
        chosen, rejected = (reply_logprobs(model, inputs) - reference).chunk(2)
        margins = self.beta * (chosen - rejected)
        metrics = self._metrics["train"]
        metrics["margin"].append(float(margins.detach().mean()))
        metrics["accuracy"].append(float((margins.detach() > 0).float().mean()))
        return -torch.nn.functional.logsigmoid(margins).mean()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the trained adapter into the parameters that the optimiser steps; the frozen reference stays the run's first adapter."""
        restore_adapter(self.model, Path(resume_from_checkpoint))


def reply_logprobs(model: Any, inputs: Any) -> torch.Tensor:
    """Return the log-probability of each whole reply, of all chosen ones first, under the model's active adapter."""
    language_model = model.get_base_model()
    hidden = language_model.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
    is_reply = inputs["completion_mask"][:, 1:].bool()
    logits = language_model.lm_head(hidden.last_hidden_state[:, :-1][is_reply])
    losses = torch.nn.functional.cross_entropy(logits.float(), inputs["input_ids"][:, 1:][is_reply], reduction="none")
    total = torch.zeros(len(is_reply), device=losses.device)
    return total.index_add(0, is_reply.nonzero()[:, 0], -losses)


def pair_rows(examples: Sequence[PreferenceExample], tokenizer: Any, max_length: int) -> tuple[Dataset, int]:
    """Return rows of prompt, chosen and rejected text, and how many pairs were too long."""
    rows, too_long = [], 0
    for each in examples:
        prompt, chosen, rejected = chat_text(each.messages), each.completion + END, f"{each.rejected}{END}"
        lengths = [len(tokenizer(prompt + reply, add_special_tokens=False).input_ids) for reply in (chosen, rejected)]
        if max(lengths) > max_length:
            too_long += 1
            continue
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return Dataset.from_list(rows), too_long


def build_trainer(
    model: Any, tokenizer: Any, dataset: Dataset, *, output: Path, settings: DPOSettings, progress: bool = True
) -> ReplyTrainer:
    """Return a trainer of the model's adapter, of which it keeps a frozen copy as the reference.

    Raises:
        UsageError: there are fewer pairs than a step takes.
    """
    if len(dataset) < settings.batch_size:
        raise UsageError(f"expected at least {settings.batch_size} pairs, a step's, got {len(dataset)}; lower the batch size")
    optimizer = MasterAdamW([p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate)
    steps = settings.max_steps if settings.max_steps > 0 else int(len(dataset) / settings.batch_size * settings.epochs) + 1
    kind = "cosine" if settings.schedule == "cosine" else "constant_with_warmup"
    trainer = ReplyTrainer(
        model=model,
        args=_config(settings, output, progress),
        train_dataset=dataset,
        processing_class=tokenizer,
        optimizers=(optimizer, get_scheduler(kind, optimizer, settings.warmup_steps, steps)),
    )
    match_reference(trainer.model)
    show_loss(trainer, progress)
    return trainer


def _config(settings: DPOSettings, output: Path, progress: bool) -> DPOConfig:
    micro = max(size for size in range(1, settings.micro_batch_size + 1) if settings.batch_size % size == 0)
    return DPOConfig(
        output_dir=str(output / "checkpoints"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // micro,
        beta=settings.beta,
        loss_type=["sigmoid"],
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        max_length=settings.max_length,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        logging_steps=1,
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        report_to="none",
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_num_workers=0,
        disable_tqdm=not progress,
    )


def train(
    examples: Sequence[PreferenceExample],
    *,
    weights: Path,
    output: Path,
    settings: DPOSettings,
    init_adapter: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train and write ``output/adapter`` (PEFT), ``output/log.json`` and ``output/manifest.json``.

    Args:
        examples: pairs; each has a rejected reply.
        init_adapter: a PEFT adapter to go on from, e.g. of ``train sft --task reply``; it is the reference then.
        resume: go on from the last checkpoint of ``output``, exactly where it stopped.

    Raises:
        UsageError: there are fewer pairs than a step takes.
    """
    started = time.time()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model, tokenizer = load_backbone(weights)
    model = with_adapter(model, init_adapter, rank=settings.rank, alpha=settings.alpha, first_layer=settings.first_layer)
    dataset, too_long = pair_rows(examples, tokenizer, settings.max_length)
    trainer = build_trainer(model, tokenizer, dataset, output=output, settings=settings, progress=progress)
    result = trainer.train(resume_from_checkpoint=resume)
    adapter = output / "adapter"
    trainer.model.save_pretrained(str(adapter), selected_adapters=["default"])
    facts = {
        "task": "dpo",
        "init_adapter": init_adapter and manifest_of_adapter(init_adapter),
        "backbone": weights.name,
        "backbone_sha256": file_sha256(weights),
        "prompts": prompt_hashes(),
        "data_sha256": examples_sha256(examples),
        "examples": dict(Counter(f"{each.task}/{each.origin}" for each in examples)),
        "examples_too_long": too_long,
        "settings": asdict(settings),
        "steps": result.global_step,
        "training_loss": round(result.training_loss, 4),
        "wall_s": round(time.time() - started),
        **circumstances(),
    }
    (output / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    (output / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n", "utf-8")
    return adapter
