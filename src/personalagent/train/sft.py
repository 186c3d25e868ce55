"""Supervised fine-tuning: a LoRA on the embedded model's own (dequantised) weights, loss on completions only.

Of the policy: turn-decomposed with teacher forcing (paper section 3.5 and Table 2's SFT); both tasks, ``infer`` and ``needs``, in one
adapter. Of the responder: the preferred replies (Table 1's SFT-preferred). ``train.export`` turns either into the GGUF adapter that is served.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PrinterCallback, ProgressCallback, get_scheduler
from trl import SFTConfig, SFTTrainer

from personalagent.bench.manifest import commit, file_sha256, prompt_hashes
from personalagent.dialogue import Message
from personalagent.llm.embedded import without_control_tokens
from personalagent.train.optimizer import MasterAdamW
from personalagent.train.replies import PreferenceExample
from personalagent.train.samples import PolicyExample
from personalagent.train.settings import AdapterSettings

END = "<|im_end|>"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTSettings(AdapterSettings):
    """Hyper-parameters of one run; ``constant`` is for a stage that another one follows."""

    noise: float = 5.0
    """NEFTune's alpha: uniform noise on the embeddings of the prompt, against learning this little text by heart; 0 for none.
    Dropout in the LoRA costs half as much time again."""
    learning_rate: float = 4e-4
    batch_size: int = 16
    warmup_steps: int = 20
    save_steps: int = 100
    max_length: int = 512


REPLY = SFTSettings(noise=0.0, learning_rate=1e-4, batch_size=8, max_length=1024)
"""For replies, on a processor."""
PAPER = replace(REPLY, learning_rate=1e-5, batch_size=32, epochs=9.0)
"""For replies, on a GPU: what the paper says of its SFT (section C.4), there for all weights."""


def reply_settings() -> SFTSettings:
    """Return the defaults for replies on this machine."""
    return PAPER if torch.cuda.is_available() else REPLY


def chat_text(messages: Sequence[Message]) -> str:
    """Return messages as the embedded server's template writes them, up to where the answer begins."""
    said = "".join(f"<|im_start|>{each.role}\n{without_control_tokens(each.content)}{END}\n" for each in messages)
    return f"{said}<|im_start|>assistant\n"


def load_backbone(weights: Path, *, dtype: torch.dtype = torch.bfloat16) -> tuple[Any, Any]:
    """Load model and tokenizer from a GGUF file, dequantised."""
    folder, name = str(weights.parent), weights.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=dtype, attn_implementation="eager", quantization_config=GgufConfig(dequantize=True)
    )
    return model, tokenizer


def tokenise(examples: Sequence[PolicyExample | PreferenceExample], tokenizer: Any, max_length: int) -> tuple[Dataset, int]:
    """Return rows of input_ids and completion_mask, and how many examples were too long."""
    rows, too_long = [], 0
    for example in examples:
        prompt = tokenizer(chat_text(example.messages), add_special_tokens=False).input_ids
        completion = tokenizer(example.completion + END, add_special_tokens=False).input_ids
        if len(prompt) + len(completion) > max_length:
            too_long += 1
            continue
        rows.append({"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)})
    return Dataset.from_list(rows), too_long


class PolicyTrainer(SFTTrainer):  # type: ignore[misc]  # trl carries no types
    """TRL's trainer with logits in the model's own type and only where a completion stands.

    TRL's fused head multiplies in float32, tile by tile; on a CPU with bfloat16 units this is a third faster per step.
    """

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Return the mean negative log-likelihood of the completion tokens."""
        language_model = model.get_base_model()
        hidden = language_model.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        labels = inputs["labels"][:, 1:]
        is_completion = labels != -100
        logits = language_model.lm_head(hidden.last_hidden_state[:, :-1][is_completion])
        total = torch.nn.functional.cross_entropy(logits.float(), labels[is_completion], reduction="sum")
        return total / (is_completion.sum() if num_items_in_batch is None else num_items_in_batch)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        restore_adapter(self.model, Path(resume_from_checkpoint))


class LossBar(ProgressCallback):  # type: ignore[misc]  # transformers' own type is not followed
    """A progress bar with the last loss; the trainer's own writes every log to standard output, where ``--json`` belongs."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """Show the loss."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")


def show_loss(trainer: Any, progress: bool) -> None:
    """Put ``LossBar`` in the place of the trainer's own bar, or nothing."""
    trainer.remove_callback(ProgressCallback if progress else PrinterCallback)
    if progress:
        trainer.add_callback(LossBar())


def restore_adapter(model: Any, checkpoint: Path) -> None:
    """Load an adapter into the parameters that the optimiser steps; PEFT's own loading would put others in their place."""
    saved = load_file(str(checkpoint / "adapter_model.safetensors"))
    for name, tensor in get_peft_model_state_dict(model).items():
        tensor.copy_(saved[name])


def train(
    examples: Sequence[PolicyExample | PreferenceExample],
    *,
    weights: Path,
    output: Path,
    settings: SFTSettings,
    init_adapter: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Fine-tune and write ``output/adapter`` (PEFT) and ``output/manifest.json``.

    Args:
        init_adapter: a PEFT adapter to go on from, instead of a fresh one.
        resume: go on from the last checkpoint of ``output``, exactly where it stopped.
    """
    started = time.time()
    earlier = None if init_adapter is None else manifest_of_adapter(init_adapter)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model, tokenizer = load_backbone(weights)
    model = with_adapter(model, init_adapter, rank=settings.rank, alpha=settings.alpha, first_layer=settings.first_layer)
    dataset, too_long = tokenise(examples, tokenizer, settings.max_length)
    optimizer = MasterAdamW([p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate)
    steps = settings.max_steps if settings.max_steps > 0 else int(len(dataset) / settings.batch_size * settings.epochs) + 1
    schedule = get_scheduler(
        "cosine" if settings.schedule == "cosine" else "constant_with_warmup", optimizer, settings.warmup_steps, steps
    )
    config = _config(settings, output, progress)
    trainer = PolicyTrainer(
        model=model, args=config, train_dataset=dataset, processing_class=tokenizer, optimizers=(optimizer, schedule)
    )
    show_loss(trainer, progress)
    result = trainer.train(resume_from_checkpoint=resume)
    adapter = output / "adapter"
    trainer.model.save_pretrained(str(adapter))
    facts = {
        "task": "sft",
        "init_adapter": earlier,
        "backbone": weights.name,
        "backbone_sha256": file_sha256(weights),
        "prompts": prompt_hashes(),
        "data_sha256": examples_sha256(examples),
        "examples": dict(Counter(f"{e.task}/{e.origin}" for e in examples)),
        "examples_too_long": too_long,
        "tokens": sum(map(len, dataset["input_ids"])),
        "settings": asdict(settings),
        "steps": result.global_step,
        "training_loss": round(result.training_loss, 4),
        "wall_s": round(time.time() - started),
        **circumstances(),
    }
    (output / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    (output / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n", "utf-8")
    return adapter


def _config(settings: SFTSettings, output: Path, progress: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(output / "checkpoints"),
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        max_length=settings.max_length,
        completion_only_loss=True,
        train_sampling_strategy="group_by_length",
        gradient_checkpointing=False,
        neftune_noise_alpha=settings.noise or None,
        max_grad_norm=1.0,
        logging_steps=10,
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        report_to="none",
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_num_workers=0,
        disable_tqdm=not progress,
    )


def circumstances() -> dict[str, Any]:
    """Return the code, the packages and the machine of a run, for its manifest."""
    return {
        "commit": commit(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def with_adapter(model: Any, init_adapter: Path | None, *, rank: int, alpha: int, first_layer: int) -> Any:
    """Put a fresh LoRA on a model, or the one to go on from."""
    if init_adapter is not None:
        return PeftModel.from_pretrained(model, str(init_adapter), is_trainable=True, autocast_adapter_dtype=False)
    layers = list(range(first_layer, model.config.num_hidden_layers))
    lora = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(LINEAR), layers_to_transform=layers)
    return get_peft_model(model, lora, autocast_adapter_dtype=False)


def match_reference(model: Any) -> None:
    """Put the reference adapter that TRL adds, in float32, into the trained adapter's own precision: they must begin alike."""
    for name, param in model.named_parameters():
        if ".ref." in name:
            param.data = param.data.to(model.get_parameter(name.replace(".ref.", ".default.")).dtype)


def manifest_of_adapter(adapter: Path) -> Any:
    """Return the manifest of the run that made an adapter; its hash where it came without one."""
    manifest = adapter.parent / "manifest.json"
    if manifest.is_file():
        return json.loads(manifest.read_text("utf-8"))
    return {"adapter_sha256": file_sha256(adapter / "adapter_model.safetensors")}


def examples_sha256(examples: Sequence[PolicyExample | PreferenceExample]) -> str:
    """Return the hash that identifies a list of training examples."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(asdict(example), ensure_ascii=False, sort_keys=True).encode())
    return digest.hexdigest()
