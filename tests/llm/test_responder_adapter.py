"""An adapter for each role on one embedded model, on a random model of a few kilobytes."""

from __future__ import annotations

from pathlib import Path

import pytest

gguf = pytest.importorskip("gguf", reason="writing models needs the train extra")
numpy = pytest.importorskip("numpy")

from personalagent.config import Settings  # noqa: E402
from personalagent.dialogue import Message  # noqa: E402
from personalagent.llm.base import LLMRole, open_llm  # noqa: E402
from personalagent.llm.embedded import RESPONDER_SAMPLING, EmbeddedLLM  # noqa: E402
from tests.train.tiny import HIDDEN, LAYERS, write_tiny_model  # noqa: E402

ASKED = [Message("user", "the thin tin in the inn")]


def write_lora(path: Path, seed: int) -> Path:
    """Write a random LoRA of the tiny model's query projections that changes every answer."""
    chance = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 32.0)
    for layer in range(LAYERS):
        for module, name, shape in (("attn_q", "a", (2, HIDDEN)), ("attn_q", "b", (HIDDEN, 2))):
            tensor = chance.standard_normal(shape).astype(numpy.float16)
            writer.add_tensor(f"blk.{layer}.{module}.weight.lora_{name}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, an adapter for the policy and one for the responder."""
    folder = tmp_path_factory.mktemp("tiny")
    model = write_tiny_model(folder / "tiny.gguf", "qwen2")
    return model, write_lora(folder / "policy.gguf", 1), write_lora(folder / "responder.gguf", 2)


async def alone(model: Path, adapter: Path | None, role: LLMRole) -> str:
    """Return what the model answers on a server that has this adapter only."""
    llm = EmbeddedLLM(model, threads=1, adapter=adapter, sampling=RESPONDER_SAMPLING if role == "responder" else None)
    try:
        return (await llm.complete(ASKED, max_tokens=12)).text
    finally:
        await llm.aclose()


async def test_each_role_speaks_through_its_own_adapter_on_one_server(files: tuple[Path, Path, Path]) -> None:
    """In whatever order they are asked, each answers as it does on a server of its own, and the judge as the bare model."""
    model, policy_adapter, responder_adapter = files
    settings = Settings(
        embedded_model=str(model), adapter=str(policy_adapter), responder_adapter=str(responder_adapter), embedded_threads=1
    )
    adapters: dict[LLMRole, Path | None] = {"policy": policy_adapter, "responder": responder_adapter, "judge": None}
    expected = {role: await alone(model, adapter, role) for role, adapter in adapters.items()}
    assert len(set(expected.values())) == 3
    llms = {role: open_llm("embedded", role, settings) for role in adapters}
    for role in ("policy", "responder", "judge", "responder", "policy", "policy", "judge"):
        assert (await llms[role].complete(ASKED, max_tokens=12)).text == expected[role]
    opened = [llm for llm in llms.values() if isinstance(llm, EmbeddedLLM)]
    assert [llm.adapter for llm in opened] == [policy_adapter, responder_adapter, None]
    assert len({llm._base_url for llm in opened}) == 1
    for llm in opened:
        await llm.aclose()


def test_an_adapter_is_loaded_only_where_its_role_has_the_model(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Each was trained on one model and fits no other; a role at an endpoint needs none loaded."""
    model, policy_adapter, responder_adapter = files
    other = write_tiny_model(tmp_path / "other.gguf", "qwen2", seed=1)
    settings = Settings(
        embedded_model=str(model),
        responder=f"embedded:{other}",
        adapter=str(policy_adapter),
        responder_adapter=str(responder_adapter),
    )
    policy, responder = open_llm("embedded", "policy", settings), open_llm(settings.responder, "responder", settings)
    assert isinstance(policy, EmbeddedLLM) and isinstance(responder, EmbeddedLLM)
    assert (policy._key.adapters, responder._key.adapters) == ((policy_adapter,), (responder_adapter,))
    hosted = settings.model_copy(update={"policy": "gpt@http://localhost:1/v1", "responder": "embedded"})
    lone = open_llm("embedded", "responder", hosted)
    assert isinstance(lone, EmbeddedLLM) and lone._key.adapters == (responder_adapter,)
