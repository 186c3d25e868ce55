"""Random models of a few kilobytes, as GGUF files that both transformers and llama.cpp load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HIDDEN, HEADS, KV_HEADS, LAYERS, FEED_FORWARD = 64, 4, 2, 3, 96
HEAD = HIDDEN // HEADS
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("t h", "Ġ t", "i n")


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in a byte-level vocabulary, in the order of the bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def vocabulary() -> list[str]:
    """Return the tokens: bytes, merges, special tokens."""
    return [*byte_letters(), *(merge.replace(" ", "") for merge in MERGES), *SPECIAL]


def write_tiny_model(path: Path, architecture: str, *, seed: int = 0, can_end: bool = False) -> Path:
    """Write a random model of an architecture (qwen2 or llama), whose greedy answers are printable ASCII.

    Only letters are likely tokens; with ``can_end`` the end token is one too, so that a policy can learn to stop.
    """
    import gguf
    import numpy as np

    chance = np.random.default_rng(seed)
    tokens = vocabulary()
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if architecture == "qwen2" else "smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(tokens.index(SPECIAL[0]))
    writer.add_eos_token_id(tokens.index(SPECIAL[2]))
    writer.add_pad_token_id(tokens.index(SPECIAL[0]))
    writer.add_add_bos_token(False)

    def tensor(name: str, *shape: int, scale: float = 0.15) -> Any:
        values = (chance.standard_normal(shape) * scale).astype(np.float32)
        writer.add_tensor(name, values)

    embedding = chance.standard_normal((len(tokens), HIDDEN)).astype(np.float32)
    likely = {"Ġ", *([SPECIAL[2]] if can_end else [])}
    embedding[[not (token in likely or "a" <= token <= "z") for token in tokens]] *= 0.1
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, dtype=np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{name}.weight", np.ones(HIDDEN, dtype=np.float32))
        for name, rows in (("attn_q", HEADS * HEAD), ("attn_k", KV_HEADS * HEAD), ("attn_v", KV_HEADS * HEAD)):
            tensor(f"{block}.{name}.weight", rows, HIDDEN, scale=0.3)
            if architecture == "qwen2":
                tensor(f"{block}.{name}.bias", rows)
        tensor(f"{block}.attn_output.weight", HIDDEN, HEADS * HEAD)
        tensor(f"{block}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        tensor(f"{block}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        tensor(f"{block}.ffn_down.weight", HIDDEN, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
