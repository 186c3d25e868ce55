"""A tiny policy that says ``none`` about half of the time, and episodes that fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="needs the verl extra; run `make verl-smoke`")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from personalagent.inference import build_prompt
from personalagent.profile import Profile
from personalagent.schema import ProfileSchema
from personalagent.train.verl_data import write_rows
from tests.train.tiny import MERGES, SPECIAL, vocabulary
from tests.train.tiny_policy import SAID, empty_episodes

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with a chat template."""
    bpe = models.BPE(
        vocab={token: place for place, token in enumerate(vocabulary())}, merges=[tuple(merge.split()) for merge in MERGES]
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[1]],
        chat_template=TEMPLATE,
    )


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, schema: ProfileSchema) -> Path:
    """A folder with a model of 60,000 parameters that was taught the two answers."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **shape, **ends))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = [_example(tokenizer, schema, said, answer) for said in SAID for answer in ("none", "no", "none", "name")]
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in batch])
    labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in batch])
    for _ in range(80):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("policy")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _example(tokenizer: Any, schema: ProfileSchema, said: str, answer: str) -> tuple[list[int], list[int]]:
    content = build_prompt(said, Profile(), schema).messages[0].content
    chat = [{"role": "user", "content": content}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    written = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return [*prompt, *written], [-100] * len(prompt) + written


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes, two of three turns and two of two."""
    path = tmp_path_factory.mktemp("rows") / "train.parquet"
    write_rows([*empty_episodes(3)[:2], *empty_episodes(2)[2:]], path)
    return path
