"""Base: the whole dialogue, then the request, in one call."""

from __future__ import annotations

from dataclasses import dataclass

from personalagent.bench.conversation import Conversation, Decoding
from personalagent.bench.systems.base import SystemParts, SystemReply, refuse_variant, reply_of
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.llm.base import LLM

PROMPTS = ("bench_system", "bench_length", "bench_options")
"""What every baseline's calls are made of."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model as it is."""

    decoding: Decoding
    name: str = "base"
    prompts: tuple[str, ...] = PROMPTS

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call."""
        conversation = Conversation(example, llm, self.decoding)
        return reply_of(conversation, await conversation.ask(Message("user", conversation.request)))

    async def aclose(self) -> None:
        """Do nothing."""


def open_base(variant: str, parts: SystemParts) -> Base:
    """Build ``base``."""
    refuse_variant("base", variant)
    return Base(parts.decoding)
