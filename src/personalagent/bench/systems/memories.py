"""What the adapters of other memory products share: the run's models as a product uses them, and the reply from what it found.

Every call of a product goes through the run's metered model with the run's decoding, every text through the run's embedder. What a
product catches and passes over (an endpoint that is gone is "nothing to remember" to some) is kept here, so that it ends the example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from personalagent.bench.conversation import Conversation, Decoding, tokens_of
from personalagent.bench.embedding import Embedder, vectors_of
from personalagent.bench.metering import MeteredLLM, Phase
from personalagent.bench.systems.base import SystemReply, reply_of
from personalagent.dialogue import Message
from personalagent.errors import EnvironmentProblem, LLMError, LLMRefused
from personalagent.judge import REFUSALS
from personalagent.prompts import load_prompt

MEMORY_TOKENS = 1_000
"""Of one answer that holds memories; the same for every product."""
PROMPTS = ("bench_memories", "bench_length", "bench_options")
"""What the reply is made of; how memories are written is the product's own."""


def need_package(system: str, package: str, pinned: str) -> None:
    """Make sure that a product is installed in the one version that its adapter was written for, and that a commit stands for.

    Raises:
        EnvironmentProblem: it is not.
    """
    try:
        found = version(package)
    except PackageNotFoundError:
        found = "none"
    if found != pinned:
        raise EnvironmentProblem(
            f"expected {package} {pinned} for the system {system!r}, got {found}; pip install 'personalagent[{system}]'"
        )


class MemoryModels:
    """The run's model and embedder for one example, as a memory product uses them."""

    def __init__(self, llm: MeteredLLM, embedder: Embedder, decoding: Decoding) -> None:
        self._llm = llm
        self._embedder = embedder
        self._decoding = decoding
        self._takes_schema = True
        self.phase = Phase.HISTORY
        """What calls are made for now."""
        self.error: LLMError | None = None
        """The last failure of a call, whatever the product made of it."""

    async def write(self, messages: Sequence[Message], json_schema: Mapping[str, object]) -> str:
        """Return an answer held to a schema; an endpoint that takes none is asked without, from then on. Raises LLMError."""
        if self._takes_schema:
            try:
                return await self._complete(messages, json_schema)
            except LLMRefused as error:
                if error.is_too_long or error.status not in REFUSALS:
                    raise
                self._takes_schema, self.error = False, None
        return await self._complete(messages, None)

    async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the texts as vectors. Raises LLMError."""
        try:
            found = await vectors_of(texts, self._embedder, self._llm.meter, self.phase)
        except LLMError as error:
            self.error = error
            raise
        return [list(vector) for vector in found]

    async def dimensions(self, text: str) -> int:
        """Return how long the embedder's vectors are, by embedding a text that will be embedded anyway; not counted."""
        return len((await self._embedder.embed(text)).vector)

    async def _complete(self, messages: Sequence[Message], json_schema: Mapping[str, object] | None) -> str:
        decoding = self._decoding
        try:
            completion = await self._llm.during(self.phase).complete(
                messages,
                max_tokens=MEMORY_TOKENS,
                temperature=decoding.temperature,
                seed=decoding.seed,
                json_schema=json_schema,
            )
        except LLMError as error:
            self.error = error
            raise
        return completion.text


async def answer_from(conversation: Conversation, memories: Sequence[str], trace: str) -> SystemReply:
    """Answer the request from memories, best first, instead of the history; what the context has no room for is left out."""
    decoding = conversation.decoding
    lines = [f"- {' '.join(memory.split())}" for memory in memories]
    blank = load_prompt("bench_memories").fill(memories="")
    fixed = [Message("system", blank), Message("user", conversation.request)]
    room = decoding.context_tokens - decoding.reply_tokens(conversation.example) - sum(map(tokens_of, fixed))
    shown: list[str] = []
    for line in lines:
        room -= tokens_of(Message("system", line))
        if room < 0:
            break
        shown.append(line)
    conversation.trace.append(f"{trace}, {len(memories)} found, {len(shown)} shown")
    conversation.trace += shown
    system = load_prompt("bench_memories").fill(memories="\n".join(shown) or "nothing").strip()
    text = await conversation.ask(Message("user", conversation.request), system=system, history=())
    return reply_of(conversation, text)
