"""RAG: the five messages of the history that are nearest to the request, shown before it once more; the history stays.

The unit is one message. The key is the request without options, the measure the cosine of sentence embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

from personalagent.bench.conversation import Conversation, Decoding
from personalagent.bench.embedding import Embedder, nearest, vectors_of
from personalagent.bench.metering import Phase, metered
from personalagent.bench.systems.base import SystemParts, SystemReply, needed_embedder, refuse_variant, reply_of
from personalagent.bench.systems.plain import PROMPTS
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt

TOP = 5


@dataclass(frozen=True, slots=True)
class Rag:
    """The model with retrieved messages."""

    decoding: Decoding
    embedder: Embedder
    name: str = "rag"
    prompts: tuple[str, ...] = (*PROMPTS, "bench_rag")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call, after embedding the history and the request."""
        model = metered(llm)
        conversation = Conversation(example, model, self.decoding)
        messages = conversation.history
        lines = [f"{message.role}: {message.content}" for message in messages]
        vectors = await vectors_of([message.content for message in messages], self.embedder, model.meter, Phase.HISTORY)
        (query,) = await vectors_of([example.request], self.embedder, model.meter, Phase.REQUEST)
        places = nearest(query, vectors, TOP)
        conversation.trace.append(
            f"retrieved messages {', '.join(map(str, places)) or 'none'} of {len(messages)}, counted from 0"
        )
        context = "\n".join(f"{number}. {lines[place]}" for number, place in enumerate(places, 1)) or "nothing was said before"
        text = load_prompt("bench_rag").fill(context=context, request=conversation.request).strip()
        return reply_of(conversation, await conversation.ask(Message("user", text)))

    async def aclose(self) -> None:
        """Do nothing: the embedder is borrowed."""


def open_rag(variant: str, parts: SystemParts) -> Rag:
    """Build ``rag``."""
    refuse_variant("rag", variant)
    return Rag(parts.decoding, needed_embedder("rag", parts))
