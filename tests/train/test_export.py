"""A PEFT adapter as the GGUF file that llama.cpp serves: the same names, the same rows, the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
gguf = pytest.importorskip("gguf", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from personalagent.dialogue import Message  # noqa: E402
from personalagent.errors import DataError  # noqa: E402
from personalagent.llm.embedded import EmbeddedLLM  # noqa: E402
from personalagent.train.export import export_adapter, interleave_rows  # noqa: E402
from personalagent.train.sft import LINEAR, chat_text, load_backbone  # noqa: E402
from tests.train.tiny import HEAD, HEADS, KV_HEADS, write_tiny_model  # noqa: E402

pytestmark = pytest.mark.train


def random_adapter(model: Any, folder: Path, *, scale: float, layers: list[int] | None = None) -> Any:
    """Put a random LoRA on a model, save it, and return the model with it."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=list(LINEAR), layers_to_transform=layers)
    adapted = get_peft_model(model, lora)
    for name, param in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(param, std=scale)
    adapted.save_pretrained(str(folder))
    return adapted.eval()


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any, Path, Path]:
    """Architecture, backbone, adapted model, PEFT folder and GGUF adapter of a random tiny model."""
    folder = tmp_path_factory.mktemp(request.param)
    weights = write_tiny_model(folder / "tiny.gguf", request.param)
    model, _ = load_backbone(weights, dtype=torch.float32)
    adapted = random_adapter(model, folder / "adapter", scale=0.3, layers=[1, 2])
    return (
        request.param,
        weights,
        adapted,
        folder / "adapter",
        export_adapter(folder / "adapter", folder / "lora.gguf", backbone=weights),
    )


def test_tensors_go_by_the_names_that_llama_cpp_knows(exported: tuple[str, Path, Any, Path, Path]) -> None:
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    reader = gguf.GGUFReader(str(exported[4]))
    assert {tensor.name for tensor in reader.tensors} == {
        f"blk.{layer}.{name}.weight.lora_{side}" for layer in (1, 2) for name in names for side in "ab"
    }
    fields = {name: reader.fields[name].contents() for name in ("general.architecture", "general.type", "adapter.type")}
    assert fields == {"general.architecture": exported[0], "general.type": "adapter", "adapter.type": "lora"}
    assert reader.fields["adapter.lora.alpha"].contents() == 8.0
    assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F16}


def reference_rows(tensor: np.ndarray, heads: int) -> np.ndarray:
    """Row by row: llama.cpp's rows 2i and 2i+1 of a head are the rows i and i + half of the head's rotary halves."""
    out, size = np.empty_like(tensor), tensor.shape[0] // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = tensor[head * size + i]
            out[head * size + 2 * i + 1] = tensor[head * size + i + size // 2]
    return out


def test_rows_are_interleaved_head_by_head() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert interleave_rows(rows, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    tensor = np.random.default_rng(0).standard_normal((96, 5)).astype(np.float32)
    for heads in (1, 3, 4):
        np.testing.assert_array_equal(interleave_rows(tensor, heads), reference_rows(tensor, heads))


def test_only_llamas_query_and_key_rows_are_permuted(exported: tuple[str, Path, Any, Path, Path]) -> None:
    architecture, _, _, adapter, output = exported
    saved = load_file(adapter / "adapter_model.safetensors")
    written = {tensor.name: np.asarray(tensor.data) for tensor in gguf.GGUFReader(str(output)).tensors}
    for ours, theirs, heads in (("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KV_HEADS), ("v_proj", "attn_v", 0)):
        for side, upper in (("a", "A"), ("b", "B")):
            values = saved[f"base_model.model.model.layers.1.self_attn.{ours}.lora_{upper}.weight"].numpy()
            if architecture == "llama" and side == "b" and heads:
                values = reference_rows(values, heads)
                assert values.shape[0] == heads * HEAD
            np.testing.assert_array_equal(written[f"blk.1.{theirs}.weight.lora_{side}"], values.astype(np.float16))


def greedy(model: Any, tokenizer: Any, text: str, count: int) -> list[int]:
    """Return the tokens that a model writes after a user message."""
    inputs = tokenizer(chat_text([Message("user", text)]), return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=count, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return out[0, inputs["input_ids"].shape[1] :].tolist()


async def served(llm: EmbeddedLLM, text: str, count: int) -> str:
    """Return what llama.cpp writes after a user message."""
    return (await llm.complete([Message("user", text)], max_tokens=count, temperature=0.0, seed=0)).text


async def test_a_random_adapter_answers_the_same_in_both(exported: tuple[str, Path, Any, Path, Path]) -> None:
    """On a model small enough that both compute in float32; without the adapter, or with unpermuted rows, it answers otherwise."""
    _, weights, adapted, _, output = exported
    _, tokenizer = load_backbone(weights, dtype=torch.float32)
    expected = tokenizer.decode(greedy(adapted, tokenizer, "I live in Porto", 12), skip_special_tokens=True)
    with adapted.disable_adapter():
        bare = tokenizer.decode(greedy(adapted, tokenizer, "I live in Porto", 12), skip_special_tokens=True)
    policy, responder = (EmbeddedLLM(weights, adapter=adapter, loaded=[output]) for adapter in (output, None))
    assert (await served(policy, "I live in Porto", 12)).strip() == expected.strip()
    assert (await served(responder, "I live in Porto", 12)).strip() == bare.strip() != expected.strip()
    await policy.aclose()
    await responder.aclose()


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a PEFT adapter folder"):
        export_adapter(tmp_path, tmp_path / "out.gguf", backbone=tmp_path / "none.gguf")


def test_a_tensor_that_llama_cpp_has_no_place_for_is_refused(tmp_path: Path) -> None:
    weights = write_tiny_model(tmp_path / "tiny.gguf", "qwen2")
    save_file({"base_model.model.lm_head.lora_A.weight": torch.zeros(2, 4)}, str(tmp_path / "adapter_model.safetensors"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8}), "utf-8")
    with pytest.raises(DataError, match=r"got 'base_model\.model\.lm_head\.lora_A\.weight'"):
        export_adapter(tmp_path, tmp_path / "out.gguf", backbone=weights)
    assert not (tmp_path / "out.gguf").exists()
