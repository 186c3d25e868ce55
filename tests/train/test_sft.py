"""Supervised fine-tuning, on a random model of a few kilobytes."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from personalagent.train.samples import PolicyExample  # noqa: E402
from personalagent.train.sft import (  # noqa: E402
    PolicyTrainer,
    SFTSettings,
    _config,
    commit,
    examples_sha256,
    load_backbone,
    tokenise,
    train,
    with_adapter,
)
from tests.train.tiny import write_tiny_model  # noqa: E402

pytestmark = pytest.mark.train

EXAMPLES = [
    PolicyExample("infer", "turn", f"infer\nsaid:\n1 I like w{i}", f"new\n1 music.genres like: w{i}") for i in range(6)
] + [PolicyExample("needs", "bank", f"needs\nknown: nothing\nrequest: any w{i}?", "none") for i in range(4)]
SETTINGS = SFTSettings(rank=2, alpha=4, first_layer=1, batch_size=2, max_steps=4, save_steps=2, warmup_steps=1, seed=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random qwen2 model."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", "qwen2")


@pytest.fixture(scope="module")
def backbone(weights: Path) -> tuple[Any, Any]:
    """Its model and tokenizer, in float32."""
    return load_backbone(weights, dtype=torch.float32)


@pytest.fixture(scope="module")
def uninterrupted(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a checkpoint after the second."""
    output = tmp_path_factory.mktemp("run")
    train(EXAMPLES, weights=weights, output=output, settings=SETTINGS, progress=False)
    return output


def test_an_example_is_tokenised_as_it_is_served(backbone: tuple[Any, Any]) -> None:
    """The chat form of serving around the prompt, the end token after the completion, the mask on the completion."""
    _, tokenizer = backbone
    dataset, too_long = tokenise([PolicyExample("infer", "turn", "hi", "none")], tokenizer, 512)
    ids, mask = dataset[0]["input_ids"], dataset[0]["completion_mask"]
    assert too_long == 0
    assert tokenizer.decode(ids) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nnone<|im_end|>"
    assert tokenizer.decode([i for i, is_completion in zip(ids, mask, strict=True) if is_completion]) == "none<|im_end|>"


def test_an_example_that_is_too_long_is_left_out_and_counted(backbone: tuple[Any, Any]) -> None:
    examples = [PolicyExample("infer", "turn", "hi", "none"), PolicyExample("infer", "turn", "hi " * 200, "none")]
    dataset, too_long = tokenise(examples, backbone[1], 128)
    assert (len(dataset), too_long) == (1, 1)


@pytest.fixture
def trainer(backbone: tuple[Any, Any], tmp_path: Path) -> PolicyTrainer:
    """A trainer of two examples in one batch, on a fresh adapter in float32, configured as a run is."""
    model, tokenizer = backbone
    dataset, _ = tokenise([EXAMPLES[0], EXAMPLES[-1]], tokenizer, 512)
    config = _config(SETTINGS, tmp_path, progress=False)
    return PolicyTrainer(
        model=with_adapter(copy.deepcopy(model), None, rank=2, alpha=4, first_layer=1),
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
    )


def test_the_loss_is_the_mean_over_the_completion_tokens_of_a_batch(trainer: PolicyTrainer) -> None:
    tokenizer = trainer.processing_class
    inputs = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, inputs)
    logprobs = trainer.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.log_softmax(-1)
    expected = []
    for example in (EXAMPLES[0], EXAMPLES[-1]):
        prompt = tokenizer(f"<|im_start|>user\n{example.prompt}<|im_end|>\n<|im_start|>assistant\n").input_ids
        completion = tokenizer(f"{example.completion}<|im_end|>").input_ids
        (row,) = [i for i, ids in enumerate(inputs["input_ids"].tolist()) if ids[: len(prompt)] == prompt]
        expected += [-logprobs[row, len(prompt) + i - 1, token] for i, token in enumerate(completion)]
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-5, atol=1e-5)


def test_prompt_and_padding_tokens_give_no_gradient(trainer: PolicyTrainer) -> None:
    """Only the hidden states from which a completion token is predicted get one."""
    inputs = next(iter(trainer.get_train_dataloader()))
    seen: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        output.retain_grad()
        seen.append(output)
        return output

    trainer.model.get_base_model().model.norm.register_forward_hook(keep)
    trainer.compute_loss(trainer.model, inputs).backward()
    has_gradient = seen[0].grad.abs().sum(-1) > 0
    is_completion = inputs["labels"] != -100
    assert has_gradient[:, :-1].tolist() == is_completion[:, 1:].tolist()
    assert not has_gradient[:, -1].any()
    assert sorted(is_completion.sum(-1).tolist()) == sorted(
        len(trainer.processing_class(f"{example.completion}<|im_end|>").input_ids) for example in (EXAMPLES[0], EXAMPLES[-1])
    )


def test_a_run_writes_an_adapter_a_manifest_and_a_log(uninterrupted: Path, weights: Path) -> None:
    manifest = json.loads((uninterrupted / "manifest.json").read_text("utf-8"))
    assert manifest["data_sha256"] == examples_sha256(EXAMPLES)
    assert (manifest["steps"], manifest["examples"], manifest["examples_too_long"]) == (4, {"infer/turn": 6, "needs/bank": 4}, 0)
    assert (manifest["backbone"], manifest["settings"]["seed"], manifest["init_adapter"]) == ("tiny.gguf", 3, None)
    assert len(manifest["backbone_sha256"]) == 64
    assert set(manifest["versions"]) == {"torch", "transformers", "peft", "trl"}
    assert manifest["commit"] == commit()
    assert (uninterrupted / "log.json").is_file()


def test_layers_below_the_first_carry_no_adapter(uninterrupted: Path) -> None:
    names = list(load_file(uninterrupted / "adapter" / "adapter_model.safetensors"))
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"1", "2"}
    assert len(names) == 2 * 7 * 2


def test_training_changes_the_adapter_from_nothing(uninterrupted: Path) -> None:
    """A fresh LoRA's B is all zeros; after training none of them is."""
    tensors = load_file(uninterrupted / "adapter" / "adapter_model.safetensors")
    assert all(tensor.abs().sum() > 0 for name, tensor in tensors.items() if "lora_B" in name)


def assert_same_adapter(left: Path, right: Path) -> None:
    """Compare two runs' adapters bit by bit."""
    ours, theirs = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (left, right))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(uninterrupted: Path, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted / "checkpoints" / "checkpoint-2", tmp_path / "checkpoints" / "checkpoint-2")
    train(EXAMPLES, weights=weights, output=tmp_path, settings=SETTINGS, resume=True, progress=False)
    assert_same_adapter(uninterrupted, tmp_path)


def test_a_later_stage_goes_on_from_an_adapter_and_says_so(uninterrupted: Path, weights: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, max_steps=1, warmup_steps=0, learning_rate=0.0)
    train(EXAMPLES, weights=weights, output=tmp_path, settings=settings, init_adapter=uninterrupted / "adapter", progress=False)
    assert_same_adapter(uninterrupted, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert manifest["init_adapter"]["data_sha256"] == examples_sha256(EXAMPLES)


def test_an_adapter_without_a_manifest_is_known_by_its_hash(uninterrupted: Path, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted / "adapter", tmp_path / "given")
    settings = replace(SETTINGS, max_steps=1)
    train(
        EXAMPLES[:2], weights=weights, output=tmp_path / "run", settings=settings, init_adapter=tmp_path / "given", progress=False
    )
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    assert len(manifest["init_adapter"]["adapter_sha256"]) == 64


def test_the_hash_of_the_data_changes_with_any_example() -> None:
    assert examples_sha256(EXAMPLES) == examples_sha256(list(EXAMPLES))
    assert examples_sha256(EXAMPLES) != examples_sha256(EXAMPLES[:-1])
