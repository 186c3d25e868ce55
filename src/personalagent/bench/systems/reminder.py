"""Reminder: the whole dialogue, the request, and one sentence that reminds the model of what was said."""

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
class Reminder:
    """The model, reminded."""

    decoding: Decoding
    name: str = "reminder"
    prompts: tuple[str, ...] = (*PROMPTS, "bench_reminder")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call."""
        conversation = Conversation(example, llm, self.decoding)
        reminder = load_prompt("bench_reminder").fill().strip()
        return reply_of(conversation, await conversation.ask(Message("user", f"{conversation.request}\n\n{reminder}")))

    async def aclose(self) -> None:
        """Do nothing."""


def open_reminder(variant: str, parts: SystemParts) -> Reminder:
    """Build ``reminder``."""
    refuse_variant("reminder", variant)
    return Reminder(parts.decoding)
