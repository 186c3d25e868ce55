"""A trained PEFT adapter as the GGUF file that llama.cpp serves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from personalagent.errors import DataError

TENSOR_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""llama.cpp's names for a layer's linear modules."""
_KEY = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.([\w.]+)\.lora_([AB])\.weight")
_ROTARY_PERMUTED = frozenset({"llama"})
"""Architectures whose q and k rows llama.cpp stores interleaved."""


def export_adapter(adapter: Path, output: Path, *, backbone: Path) -> Path:
    """Write ``adapter`` (a PEFT folder) as a float16 GGUF LoRA for the model in ``backbone`` (GGUF).

    Raises:
        DataError: the folder holds no LoRA, or a tensor that llama.cpp has no place for.
    """
    weights, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    if not weights.is_file() or not config.is_file():
        raise DataError(f"expected a PEFT adapter folder, got {adapter}; give the 'adapter' folder of a training run")
    reader = gguf.GGUFReader(str(backbone))
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(str(output), architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(json.loads(config.read_text("utf-8"))["lora_alpha"]))
    heads = {
        "attn_q": int(reader.fields[f"{architecture}.attention.head_count"].contents()),
        "attn_k": int(reader.fields[f"{architecture}.attention.head_count_kv"].contents()),
    }
    for key, tensor in sorted(load_file(str(weights)).items()):
        match = _KEY.fullmatch(key)
        if match is None or match[2] not in TENSOR_NAMES:
            raise DataError(
                f"expected LoRA tensors of linear layers, got {key!r}; export only adapters of `train sft` and its successors"
            )
        layer, name, side = match[1], TENSOR_NAMES[match[2]], match[3].lower()
        values = tensor.float().numpy()
        if side == "b" and name in heads and architecture in _ROTARY_PERMUTED:
            values = interleave_rows(values, heads[name])
        writer.add_tensor(f"blk.{layer}.{name}.weight.lora_{side}", values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return output


def interleave_rows(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder the rows of a projection from halves to pairs, per head, as llama.cpp's rotary embedding wants them."""
    rows = tensor.shape[0]
    return tensor.reshape(heads, 2, rows // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
