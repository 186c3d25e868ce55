"""The policy as training sees it, behind the interface of every LLM."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from peft import LoraConfig, get_peft_model  # noqa: E402

from personalagent.agent import notation_of  # noqa: E402
from personalagent.config import Settings  # noqa: E402
from personalagent.dialogue import Message  # noqa: E402
from personalagent.errors import ConfigError, LLMRefused  # noqa: E402
from personalagent.llm.base import FinishReason, open_llm  # noqa: E402
from personalagent.train.sft import LINEAR, load_backbone  # noqa: E402
from tests.train.tiny import write_tiny_model  # noqa: E402

pytestmark = pytest.mark.train
SAID = [Message("user", "I live in Porto")]


async def test_an_adapter_is_run_before_it_is_exported(tmp_path: Path) -> None:
    weights = write_tiny_model(tmp_path / "tiny.gguf", "qwen2")
    model, _ = load_backbone(weights)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=list(LINEAR)))
    for name, param in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(param, std=0.5)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    settings = Settings(embedded_model=str(weights))
    policy = open_llm(f"transformers:{tmp_path / 'adapter'}", "policy", settings)
    bare = open_llm("transformers", "policy", settings)
    assert (notation_of(policy), notation_of(bare)) == ("compact", "general")
    answer = await policy.complete(SAID, max_tokens=8, logprobs=True)
    assert "".join(token.token for token in answer.token_logprobs or ()) == answer.text
    again = await policy.complete(SAID, max_tokens=8)
    assert answer.text == again.text != (await bare.complete(SAID, max_tokens=8)).text
    assert answer.usage.completion_tokens == 8
    assert answer.finish_reason is FinishReason.LENGTH
    drawn = [(await policy.complete(SAID, max_tokens=8, temperature=5.0, seed=seed)).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [piece async for piece in policy.stream(SAID, max_tokens=8)] == [answer.text]
    assert (await policy.complete(SAID, max_tokens=1, logit_bias={"z": 100.0})).text == "z"
    with pytest.raises(LLMRefused, match="expected a plain completion"):
        await policy.complete(SAID, max_tokens=8, json_schema={"type": "object"})
    await policy.aclose()


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the policy transformers:FOLDER to name a PEFT adapter folder"):
        open_llm(f"transformers:{tmp_path}", "policy", Settings())
