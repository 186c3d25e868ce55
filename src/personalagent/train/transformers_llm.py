"""The policy as training sees it: transformers on the dequantised weights, with a PEFT adapter, behind the interface of every LLM.

``bench infer --policy transformers:FOLDER`` measures an adapter before it is exported, and what quantised serving costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from personalagent.config import Settings
from personalagent.dialogue import Message
from personalagent.errors import ConfigError, LLMRefused
from personalagent.llm.base import Completion, FinishReason, LLMRole, TokenLogprob, Usage
from personalagent.llm.models import find_model
from personalagent.train.sft import END, chat_text, load_backbone


def open_transformers(argument: str, role: LLMRole, settings: Settings) -> TransformersLLM:
    """Open `transformers:` (the bare backbone) or `transformers:FOLDER` (with the PEFT adapter of a run).

    Raises:
        ConfigError: the folder holds no adapter.
        ModelMissingError: the backbone's weights are not on this machine.
    """
    adapter = Path(argument).expanduser() if argument else None
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise ConfigError(f"expected the {role} transformers:FOLDER to name a PEFT adapter folder, got {argument!r}")
    return TransformersLLM(find_model(settings.embedded_model, settings.models_dir), adapter)


class TransformersLLM:
    """Greedy answers of a GGUF model's dequantised weights; one at a time, without an adapter or with one merged in."""

    def __init__(self, weights: Path, adapter: Path | None = None) -> None:
        self.adapter = adapter / "adapter_model.safetensors" if adapter else None
        """The LoRA this model speaks through; None for the bare model."""
        self._weights, self._folder = weights, adapter
        self._loaded: tuple[Any, Any] | None = None

    @property
    def name(self) -> str:
        """`transformers:FOLDER`."""
        return f"transformers:{self._folder or ''}"

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        json_schema: Mapping[str, object] | None = None,
        logit_bias: Mapping[str, float] | None = None,
        logprobs: bool = False,
    ) -> Completion:
        """Return the greedy answer, or with a temperature a drawn one.

        Raises:
            LLMRefused: something was asked for that only servers do.
        """
        if json_schema or stop:
            raise LLMRefused("expected a plain completion, got a constraint; serve the model embedded for that", status=400)
        started = time.perf_counter()
        text, usage, tokens = await asyncio.to_thread(self._generate, messages, max_tokens, temperature, seed, logit_bias or {})
        ended = FinishReason.LENGTH if usage.completion_tokens == max_tokens else FinishReason.STOP
        elapsed = time.perf_counter() - started
        return Completion(text, usage, self.name, ended, elapsed, tokens if logprobs else None)

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[str]:
        """Yield the whole answer as one piece."""
        yield (await self.complete(messages, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop)).text

    async def aclose(self) -> None:
        """Give the memory back."""
        self._loaded = None

    def _generate(
        self, messages: Sequence[Message], max_tokens: int, temperature: float, seed: int | None, logit_bias: Mapping[str, float]
    ) -> tuple[str, Usage, tuple[TokenLogprob, ...]]:
        model, tokenizer = self._load()
        inputs = tokenizer(chat_text(messages), return_tensors="pt", add_special_tokens=False)
        if seed is not None:
            torch.manual_seed(seed)
        chosen: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        if logit_bias:
            ids = {text: tokenizer.encode(text, add_special_tokens=False) for text in logit_bias}
            chosen["sequence_bias"] = {(token,): bias for text, bias in logit_bias.items() for token in ids[text]}
        with torch.inference_mode():
            out = model.generate(
                **inputs,
                **chosen,
                max_new_tokens=max_tokens,
                eos_token_id=tokenizer.convert_tokens_to_ids(END),
                pad_token_id=tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
        written = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        tokens = tuple(
            TokenLogprob(str(tokenizer.decode([token])), float(logits[0].float().log_softmax(-1)[token]))
            for token, logits in zip(written, out.logits, strict=True)
        )
        text = str(tokenizer.decode(written, skip_special_tokens=True))
        return text, Usage(int(inputs["input_ids"].shape[1]), len(written)), tokens

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            model, tokenizer = load_backbone(self._weights)
            if self._folder is not None:
                model = PeftModel.from_pretrained(model, str(self._folder)).merge_and_unload()
            self._loaded = model.eval(), tokenizer
        return self._loaded
