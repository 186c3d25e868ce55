"""Self-Critic: a reply, a critique of it and a rewrite by the critique, three calls that all see the history."""

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
class SelfCritic:
    """The model, looking at its own reply."""

    decoding: Decoding
    name: str = "self-critic"
    prompts: tuple[str, ...] = (*PROMPTS, "bench_critique", "bench_rewrite")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in three calls; the critique may be as long as a written reply."""
        conversation = Conversation(example, llm, self.decoding)
        messages = [Message("user", conversation.request)]
        draft = await conversation.ask(*messages)
        messages += [Message("assistant", draft), Message("user", load_prompt("bench_critique").fill().strip())]
        critique = await conversation.ask(*messages, max_tokens=self.decoding.max_tokens)
        rewrite = load_prompt("bench_rewrite").fill(request=conversation.request).strip()
        messages += [Message("assistant", critique), Message("user", rewrite)]
        conversation.trace += [f"reply: {draft}", f"critique: {critique}"]
        return reply_of(conversation, await conversation.ask(*messages))

    async def aclose(self) -> None:
        """Do nothing."""


def open_self_critic(variant: str, parts: SystemParts) -> SelfCritic:
    """Build ``self-critic``."""
    refuse_variant("self-critic", variant)
    return SelfCritic(parts.decoding)
