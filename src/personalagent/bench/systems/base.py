"""What is benchmarked: a system answers an example with a model, and says how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from personalagent.bench.conversation import Conversation, Decoding
from personalagent.bench.embedding import Embedder
from personalagent.config import Settings
from personalagent.datasets.example import Example
from personalagent.errors import UsageError
from personalagent.llm.base import LLM
from personalagent.registry import Registry, did_you_mean


@dataclass(frozen=True, slots=True)
class SystemReply:
    """What a system answered."""

    text: str
    """As the user reads it; where there are options, the text in which ``options.parse_letter`` finds the letter."""
    question: str | None = None
    """The clarifying question, where one was asked; where the answer is written, it also stands at the end of the text."""
    trace: tuple[str, ...] = ()
    """What the system did before, a line each."""
    cut_messages: int = 0
    """Messages of the history that the context had no room for."""


class System(Protocol):
    """A way to answer with a model what depends on the history. Used by many examples at once, so it keeps nothing between them."""

    @property
    def name(self) -> str:
        """The spec by which ``open_system`` would open it again; goes into rows."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The names of its prompts; their hashes go into rows."""

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer an example. Calls are counted where the model is a MeteredLLM. Raises LLMError."""

    async def aclose(self) -> None:
        """Close what the system itself opened; may be called twice."""


@dataclass(frozen=True, slots=True)
class SystemParts:
    """What systems are built from, the same for all of a run."""

    settings: Settings
    decoding: Decoding = field(default_factory=Decoding)
    embedder: Embedder | None = None
    """For RAG, MemBank, mem0 and LangMem."""
    policy: LLM | None = None
    """For PersonalAgent; the model that answers where none is given."""
    seed: int = 0


Factory = Callable[[str, SystemParts], System]
"""``(what stood after the name in the spec, parts) → System``."""

SYSTEMS: Registry[Factory] = Registry(
    "system",
    {
        "base": "personalagent.bench.systems.plain:open_base",
        "cot": "personalagent.bench.systems.cot:open_cot",
        "dpo": "personalagent.bench.systems.served:open_dpo",
        "langmem": "personalagent.bench.systems.langmem:open_langmem",
        "mem0": "personalagent.bench.systems.mem0:open_mem0",
        "membank": "personalagent.bench.systems.membank:open_membank",
        "personal-agent": "personalagent.bench.systems.personal_agent:open_personal_agent",
        "rag": "personalagent.bench.systems.rag:open_rag",
        "react": "personalagent.bench.systems.react:open_react",
        "reminder": "personalagent.bench.systems.reminder:open_reminder",
        "self-critic": "personalagent.bench.systems.self_critic:open_self_critic",
        "sft-preferred": "personalagent.bench.systems.served:open_sft_preferred",
    },
)


def open_system(spec: str, parts: SystemParts) -> System:
    """Build the system that a spec names.

    Specs: ``base`` · ``reminder`` · ``cot`` · ``self-critic`` · ``rag`` · ``react`` · ``membank`` · ``membank:bug-compatible`` ·
    ``mem0`` · ``langmem`` · ``personal-agent`` · ``personal-agent:3`` (the first 3 categories) · ``sft-preferred:LLM`` and ``dpo:LLM`` (what ``open_llm``
    opens) · ``module:attr`` of a factory of one's own.

    Raises:
        UsageError: the system or its variant is not known, or a part that it needs is missing.
    """
    name, _, variant = spec.partition(":")
    if name in SYSTEMS.targets or did_you_mean(name, SYSTEMS.targets):
        return SYSTEMS.load(name)(variant, parts)
    return SYSTEMS.load(spec)("", parts)


def refuse_variant(name: str, variant: str) -> None:
    """Raise UsageError where a system that has no variants was named with one."""
    if variant:
        raise UsageError(
            f"expected {name!r} alone, for it has no variants, got {f'{name}:{variant}'!r}; leave out what follows the colon"
        )


def needed_embedder(name: str, parts: SystemParts) -> Embedder:
    """Return the embedder of a system that cannot do without.

    Raises:
        UsageError: there is none.
    """
    if parts.embedder is None:
        raise UsageError(f"expected an embedder for the system {name!r}, got none; name one: embedded, or MODEL@http://…/v1")
    return parts.embedder


def reply_of(conversation: Conversation, text: str, *, question: str | None = None) -> SystemReply:
    """Return a reply with the trace of its conversation."""
    return SystemReply(text, question, tuple(conversation.trace), conversation.cut_messages)
