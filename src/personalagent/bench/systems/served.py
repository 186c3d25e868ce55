"""SFT-preferred and DPO: a trained model, served anywhere, with the same prompt as Base."""

from __future__ import annotations

from dataclasses import dataclass

from personalagent.bench.conversation import Decoding
from personalagent.bench.metering import metered
from personalagent.bench.systems.base import SystemParts, SystemReply
from personalagent.bench.systems.plain import PROMPTS, Base
from personalagent.datasets.example import Example
from personalagent.errors import UsageError
from personalagent.llm.base import LLM, open_llm


@dataclass(frozen=True, slots=True)
class Served:
    """A model of its own in place of the run's."""

    decoding: Decoding
    served: LLM
    name: str
    prompts: tuple[str, ...] = PROMPTS

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call of the served model, counted on the meter of the run's model."""
        return await Base(self.decoding).answer(example, metered(self.served, like=llm))

    async def aclose(self) -> None:
        """Close the served model."""
        await self.served.aclose()


def open_sft_preferred(variant: str, parts: SystemParts) -> Served:
    """Build ``sft-preferred:LLM``."""
    return _opened("sft-preferred", variant, parts)


def open_dpo(variant: str, parts: SystemParts) -> Served:
    """Build ``dpo:LLM``."""
    return _opened("dpo", variant, parts)


def _opened(name: str, spec: str, parts: SystemParts) -> Served:
    if not spec:
        raise UsageError(
            f"expected {name} with the model that was trained, got {name!r} alone; write {name}:MODEL@http://…/v1, "
            f"{name}:embedded:FILE or {name}:transformers:FOLDER"
        )
    served = open_llm(spec, "responder", parts.settings)
    return Served(parts.decoding, served, f"{name}:{served.name}")
