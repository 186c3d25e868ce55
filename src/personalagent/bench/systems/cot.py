"""CoT: worked examples before the request, each of which first recalls what the user told and then answers by it."""

from __future__ import annotations

from dataclasses import dataclass

from personalagent.bench.conversation import Conversation, Decoding
from personalagent.bench.systems.base import SystemParts, SystemReply, refuse_variant, reply_of
from personalagent.bench.systems.plain import PROMPTS
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt


@dataclass(frozen=True, slots=True)
class ChainOfThought:
    """The model, shown how to think of the user first."""

    decoding: Decoding
    name: str = "cot"
    prompts: tuple[str, ...] = (*PROMPTS, "bench_cot")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call."""
        conversation = Conversation(example, llm, self.decoding)
        text = load_prompt("bench_cot").fill(request=conversation.request).strip()
        return reply_of(conversation, await conversation.ask(Message("user", text)))

    async def aclose(self) -> None:
        """Do nothing."""


def open_cot(variant: str, parts: SystemParts) -> ChainOfThought:
    """Build ``cot``."""
    refuse_variant("cot", variant)
    return ChainOfThought(parts.decoding)
