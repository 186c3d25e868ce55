"""Preference optimisation of replies, on a random model of a few kilobytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from personalagent.dialogue import Message  # noqa: E402
from personalagent.errors import UsageError  # noqa: E402
from personalagent.train.dpo import DPOSettings, build_trainer, pair_rows, train  # noqa: E402
from personalagent.train.replies import PreferenceExample  # noqa: E402
from personalagent.train.sft import REPLY, chat_text, examples_sha256, load_backbone, with_adapter  # noqa: E402
from personalagent.train.sft import train as train_sft  # noqa: E402
from tests.train.tiny import write_tiny_model  # noqa: E402

pytestmark = pytest.mark.train

PAIRS = [
    PreferenceExample(
        "request", (Message("system", f"known: tea {i}"), Message("user", "a drink?")), f"some tea {i}", f"black coffee {i}"
    )
    for i in range(8)
]
SETTINGS = DPOSettings(
    rank=4, alpha=8, first_layer=1, batch_size=4, learning_rate=3e-3, max_steps=4, save_steps=2, warmup_steps=1, seed=3
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random qwen2 model."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", "qwen2", can_end=True)


@pytest.fixture(scope="module")
def uninterrupted(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a checkpoint after the second."""
    output = tmp_path_factory.mktemp("run")
    train(PAIRS, weights=weights, output=output, settings=SETTINGS, progress=False)
    return output


def tensors(run: Path) -> dict[str, Any]:
    """Return the tensors of a run's adapter."""
    return load_file(run / "adapter" / "adapter_model.safetensors")


def assert_same_adapter(left: Path, right: Path) -> None:
    """Compare two runs' adapters bit by bit."""
    ours, theirs = tensors(left), tensors(right)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_tokens_are_those_of_serving_with_one_end_after_each_reply(weights: Path, tmp_path: Path) -> None:
    model, tokenizer = load_backbone(weights)
    model = with_adapter(model, None, rank=4, alpha=8, first_layer=1)
    dataset, _ = pair_rows(PAIRS[:4], tokenizer, 512)
    row = build_trainer(model, tokenizer, dataset, output=tmp_path, settings=SETTINGS, progress=False).train_dataset[0]
    assert tokenizer.decode(row["prompt_ids"]) == (
        "<|im_start|>system\nknown: tea 0<|im_end|>\n<|im_start|>user\na drink?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(row["chosen_ids"]) == "some tea 0<|im_end|>"
    assert tokenizer.decode(row["rejected_ids"]) == "black coffee 0<|im_end|>"


def test_the_loss_is_that_of_the_definition(weights: Path, tmp_path: Path, uninterrupted: Path) -> None:
    """-log sigmoid(beta (chosen - rejected)), each the sum of log-probabilities over the reply, less the reference's."""
    model, tokenizer = load_backbone(weights, dtype=torch.float32)
    model = with_adapter(model, uninterrupted / "adapter", rank=4, alpha=8, first_layer=1)
    dataset, _ = pair_rows(PAIRS, tokenizer, 512)
    settings = replace(SETTINGS, micro_batch_size=4)
    trainer = build_trainer(model, tokenizer, dataset, output=tmp_path, settings=settings, progress=False)
    with torch.no_grad():  # move the policy away from its reference, the adapter it began with
        for name, param in trainer.model.named_parameters():
            if "lora_B.default" in name:
                param.mul_(2.0)
    inputs = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, inputs)

    def replies_logprobs() -> Any:
        logits = trainer.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        tokens = logits[:, :-1].log_softmax(-1).gather(-1, inputs["input_ids"][:, 1:, None])[..., 0]
        return (tokens * inputs["completion_mask"][:, 1:]).sum(-1)

    policy = replies_logprobs()
    trainer.model.set_adapter("ref")
    chosen, rejected = (policy - replies_logprobs()).chunk(2)
    expected = -torch.nn.functional.logsigmoid(settings.beta * (chosen - rejected)).mean()
    assert abs(float(expected.detach()) - log(2)) > 1e-3
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_begins_where_nothing_is_preferred_and_falls(uninterrupted: Path) -> None:
    """A fresh adapter changes nothing, so policy and reference are alike and the first loss is log 2."""
    losses = [line["loss"] for line in json.loads((uninterrupted / "log.json").read_text("utf-8")) if "loss" in line]
    assert losses[0] == pytest.approx(log(2), abs=1e-4)
    assert losses[-1] < losses[0] - 0.05


def test_a_run_writes_an_adapter_a_log_and_a_manifest_that_is_complete(uninterrupted: Path) -> None:
    manifest = json.loads((uninterrupted / "manifest.json").read_text("utf-8"))
    assert (manifest["task"], manifest["steps"], manifest["examples"]) == ("dpo", 4, {"reply/request": 8})
    assert manifest["data_sha256"] == examples_sha256(PAIRS)
    assert (manifest["backbone"], manifest["init_adapter"], manifest["examples_too_long"]) == ("tiny.gguf", None, 0)
    assert (manifest["settings"]["beta"], manifest["settings"]["seed"]) == (0.1, 3)
    assert len(manifest["backbone_sha256"]) == 64 and "answer" in str(manifest["prompts"])
    assert set(manifest["versions"]) == {"torch", "transformers", "peft", "trl"}
    assert len(tensors(uninterrupted)) == 2 * 7 * 2, "the layers from the first on, and no reference"


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(uninterrupted: Path, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted / "checkpoints" / "checkpoint-2", tmp_path / "checkpoints" / "checkpoint-2")
    train(PAIRS, weights=weights, output=tmp_path, settings=SETTINGS, resume=True, progress=False)
    assert_same_adapter(uninterrupted, tmp_path)


def test_it_goes_on_from_an_adapter_of_preferred_replies(weights: Path, tmp_path: Path) -> None:
    """The adapter is the reference then: the first loss is log 2 again, and no step leaves it where the rate is nothing."""
    fine_tuning = replace(REPLY, rank=4, alpha=8, first_layer=1, batch_size=2, max_steps=2, learning_rate=3e-3)
    first = train_sft(PAIRS, weights=weights, output=tmp_path / "sft", settings=fine_tuning, progress=False)
    still = replace(SETTINGS, learning_rate=0.0, max_steps=1, warmup_steps=0)
    train(PAIRS, weights=weights, output=tmp_path / "dpo", settings=still, init_adapter=first, progress=False)
    assert_same_adapter(tmp_path / "sft", tmp_path / "dpo")
    manifest = json.loads((tmp_path / "dpo" / "manifest.json").read_text("utf-8"))
    assert manifest["init_adapter"]["examples"] == {"reply/request": 8}
    assert manifest["training_loss"] == pytest.approx(log(2), abs=1e-4)


def test_pairs_that_are_too_long_are_left_out_and_counted(weights: Path) -> None:
    _, tokenizer = load_backbone(weights)
    long = replace(PAIRS[0], rejected="coffee " * 200)
    dataset, too_long = pair_rows([*PAIRS, long], tokenizer, 200)
    assert (len(dataset), too_long) == (8, 1)


def test_fewer_pairs_than_a_step_takes_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at least 4 pairs, a step's, got 2; lower the batch size"):
        train(PAIRS[:2], weights=weights, output=tmp_path, settings=SETTINGS, progress=False)


def test_words_that_would_end_a_message_are_broken_up_as_in_serving() -> None:
    assert chat_text([Message("user", "hi<|im_end|>")]) == "<|im_start|>user\nhi< |im_end|><|im_end|>\n<|im_start|>assistant\n"
