"""LangMem (MIT): a manager that writes and patches memories in a LangGraph store, and those nearest to the request in the reply.

As its documentation has it: ``create_memory_store_manager`` with its own instructions and limits reads each session after its end, in
parts that the context has room for, and ``asearch`` finds ten memories for the request. Its tool calls are asked for as JSON by a
schema, since not every endpoint has tools. It marks sessions and memories with random ids; its model reads and writes others, so that
a run can be repeated. Nothing is traced, and the store is in memory, one for each example.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personalagent.bench.conversation import Conversation, Decoding, messages_of, tokens_of
from personalagent.bench.embedding import Embedder
from personalagent.bench.metering import Phase, metered
from personalagent.bench.systems.base import SystemParts, SystemReply, needed_embedder, refuse_variant
from personalagent.bench.systems.memories import MEMORY_TOKENS, PROMPTS, MemoryModels, answer_from, need_package
from personalagent.datasets.example import Example
from personalagent.dialogue import Message, Turn
from personalagent.llm.base import LLM

if TYPE_CHECKING:
    from personalagent.bench.systems.langmem_model import Manager

VERSION = "0.0.30"
TOP = 10
"""Memories for the request: the limit of LangMem's own search tool."""


@dataclass(frozen=True, slots=True)
class LangMem:
    """The model with LangMem's memories instead of the history."""

    decoding: Decoding
    embedder: Embedder
    name: str = "langmem"
    prompts: tuple[str, ...] = (*PROMPTS, "langmem_tools")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call or more for a part of the history, and one for the request. Raises LLMError, and what LangMem raises."""
        from personalagent.bench.systems.langmem_model import Manager

        model = metered(llm)
        models = MemoryModels(model, self.embedder, self.decoding)
        manager = Manager(models, await models.dimensions(example.request))
        parts = await _read(manager, example, self.decoding)
        models.phase = Phase.REQUEST
        found = await manager.search(example.request, TOP)
        trace = f"history: {parts} parts read, {manager.unreadable} answers unreadable"
        return await answer_from(Conversation(example, model, self.decoding), found, trace)

    async def aclose(self) -> None:
        """Do nothing: the embedder is borrowed."""


def open_langmem(variant: str, parts: SystemParts) -> LangMem:
    """Build ``langmem``.

    Raises:
        EnvironmentProblem: the package is not installed, or in another version.
    """
    refuse_variant("langmem", variant)
    need_package("langmem", "langmem", VERSION)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its packages warn of each other
        import personalagent.bench.systems.langmem_model  # noqa: F401
    return LangMem(parts.decoding, needed_embedder("langmem", parts))


async def _read(manager: Manager, example: Example, decoding: Decoding) -> int:
    parts = [part for session in example.sessions for part in parts_of(session, (decoding.context_tokens - MEMORY_TOKENS) // 2)]
    for part in parts:
        await manager.read(part)
    return len(parts)


def parts_of(session: Sequence[Turn], budget_tokens: int) -> Iterator[list[Message]]:
    """Cut a session between turns into parts of at most so many tokens; a longer turn is a part of its own."""
    part: list[Message] = []
    for turn in session:
        said = messages_of([[turn]])
        if part and sum(map(tokens_of, (*part, *said))) > budget_tokens:
            yield part
            part = []
        part += said
    if part:
        yield part
