"""MemBank (Zhong et al. 2023): summaries and personality a day, and turns that fade unless they are recalled.

The clock: one session is one day, and the request comes on the day after the last session. A day begins with forgetting: a turn stays
with probability R = exp(-t / (5·S)), t the days since it was said or last recalled, S its strength, 1 at first. Each utterance, and in
the end the request, recalls the turns of earlier days whose 200-character chunks are nearest to it, the top six: S += 1, t = 0. A day's
summary is a text of the bank too, but has no strength: it goes with the last turn of its day. The personality of the days and their summaries are
summed up once more over all days. The published code computes exp(-t / 5*S), by which strong turns fade faster: ``bug-compatible``.

A turn with S = 1 after one day: R = exp(-1/5) = 0.819; with S = 2: exp(-1/10) = 0.905, and bug-compatible exp(-2/5) = 0.670.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from personalagent.bench.conversation import Conversation, Decoding, messages_of
from personalagent.bench.embedding import Embedder, nearest, vectors_of
from personalagent.bench.metering import MeteredLLM, Phase, metered
from personalagent.bench.systems.base import SystemParts, SystemReply, needed_embedder, reply_of
from personalagent.bench.systems.plain import PROMPTS
from personalagent.datasets.example import Example
from personalagent.dialogue import Message, Turn
from personalagent.errors import UsageError
from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt
from personalagent.registry import did_you_mean

CHUNK_CHARS = 200
TOP = 6
SUMMARY_TOKENS = 400
BUG_COMPATIBLE = "bug-compatible"


@dataclass(slots=True, eq=False)
class Memory:
    """A turn of a day, or the day's summary, in the bank; two are the same only where they are one."""

    day: int
    text: str
    is_summary: bool = False
    strength: int = 1
    recalled_on: int = 0
    """The day on which it was said or last recalled."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a memory, and its vector."""

    memory: Memory
    text: str
    vector: tuple[float, ...]


def retention(days: int, strength: int, *, is_bug_compatible: bool = False) -> float:
    """Return the probability that a memory is kept; see the module."""
    return math.exp(-days / 5 * strength) if is_bug_compatible else math.exp(-days / (5 * strength))


def chunks_of(text: str, size: int = CHUNK_CHARS) -> list[str]:
    """Cut a text into parts of at most ``size`` characters, between words where there is one."""
    words = " ".join(text.split())
    parts = []
    while words:
        end = size if len(words) > size else len(words)
        if end < len(words) and words[end] != " " and (space := words.rfind(" ", 0, end)) > 0:
            end = space
        parts.append(words[:end])
        words = words[end:].lstrip()
    return parts


@dataclass(slots=True)
class Bank:
    """What is remembered of one example's history."""

    chance: random.Random
    is_bug_compatible: bool
    chunks: list[Chunk]
    forgotten: int = 0

    def begin_day(self, day: int) -> None:
        """Forget, in the order in which the turns were said; a summary goes with the last turn of its day."""
        turns = [memory for memory in dict.fromkeys(chunk.memory for chunk in self.chunks) if not memory.is_summary]
        kept = {memory for memory in turns if self.chance.random() <= self._retention(memory, day)}
        self.forgotten += len(turns) - len(kept)
        days = {memory.day for memory in kept}
        self.chunks = [
            chunk for chunk in self.chunks if (chunk.memory.day in days if chunk.memory.is_summary else chunk.memory in kept)
        ]

    def _retention(self, memory: Memory, day: int) -> float:
        return retention(day - memory.recalled_on, memory.strength, is_bug_compatible=self.is_bug_compatible)

    def recall(self, query: Sequence[float], day: int) -> list[Chunk]:
        """Return the chunks nearest to a query; the turns that they are of are strengthened, each once."""
        found = [self.chunks[place] for place in nearest(query, [chunk.vector for chunk in self.chunks], TOP)]
        for memory in {chunk.memory for chunk in found if not chunk.memory.is_summary}:
            memory.strength += 1
            memory.recalled_on = day
        return found


@dataclass(slots=True)
class _Writing:
    """The bank of one example while its history is read."""

    conversation: Conversation
    model: MeteredLLM
    embedder: Embedder
    bank: Bank

    async def read(self) -> tuple[str, str]:
        """Live through the days; return the summary of all days and the user's personality over them."""
        summaries: list[str] = []
        personalities: list[str] = []
        sessions = [session for session in self.conversation.example.sessions if session]
        for day, session in enumerate(sessions, 1):
            self.bank.begin_day(day)
            for turn in session if self.bank.chunks else ():
                await self.recall(turn.utterance, day, Phase.HISTORY)
            dialogue = messages_of([session])
            summaries.append(await self._write("membank_summary", dialogue))
            personalities.append(await self._write("membank_personality", dialogue))
            await self._store(day, session, summaries[-1])
        if not sessions:
            return "nothing was said before", "not known"
        return (
            await self._write("membank_overall_summary", (), days=_by_day(summaries)),
            await self._write("membank_overall_personality", (), days=_by_day(personalities)),
        )

    async def recall(self, text: str, day: int, phase: Phase) -> list[Chunk]:
        """Recall what is nearest to a text."""
        (query,) = await vectors_of([text], self.embedder, self.model.meter, phase)
        return self.bank.recall(query, day)

    async def _write(self, prompt: str, history: Sequence[Message], **values: str) -> str:
        text = load_prompt(prompt).fill(**values).strip()
        return await self.conversation.ask(
            Message("user", text), history=history, max_tokens=SUMMARY_TOKENS, llm=self.model.during(Phase.HISTORY)
        )

    async def _store(self, day: int, session: Sequence[Turn], summary: str) -> None:
        memories = [Memory(day, _turn_text(turn), recalled_on=day) for turn in session]
        memories.append(Memory(day, f"Summary of day {day}: {summary}", is_summary=True, recalled_on=day))
        for memory in memories:
            parts = chunks_of(memory.text)
            vectors = await vectors_of(parts, self.embedder, self.model.meter, Phase.HISTORY)
            self.bank.chunks += [Chunk(memory, part, vector) for part, vector in zip(parts, vectors, strict=True)]


@dataclass(frozen=True, slots=True)
class MemBank:
    """The model with a memory bank instead of the history."""

    decoding: Decoding
    embedder: Embedder
    seed: int = 0
    is_bug_compatible: bool = False
    prompts: tuple[str, ...] = (
        *PROMPTS,
        "membank_summary",
        "membank_personality",
        "membank_overall_summary",
        "membank_overall_personality",
        "membank_answer",
    )

    @property
    def name(self) -> str:
        """``membank`` or ``membank:bug-compatible``."""
        return f"membank:{BUG_COMPATIBLE}" if self.is_bug_compatible else "membank"

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in two calls a day for the history, two for all days, and one for the request."""
        model = metered(llm)
        conversation = Conversation(example, model, self.decoding)
        chance = random.Random(f"membank:{self.seed}:{example.dataset}:{example.example_id}")  # noqa: S311 - a draw, not secrets
        bank = Bank(chance, self.is_bug_compatible, [])
        writing = _Writing(conversation, model, self.embedder, bank)
        summary, personality = await writing.read()
        today = 1 + sum(1 for session in example.sessions if session)
        bank.begin_day(today)
        found = await writing.recall(example.request, today, Phase.REQUEST) if bank.chunks else []
        conversation.trace.append(f"day {today}: {bank.forgotten} turns forgotten, {len(found)} chunks recalled")
        memories = "\n".join(f"- (day {chunk.memory.day}) {chunk.text}" for chunk in found) or "nothing"
        system = load_prompt("membank_answer").fill(personality=personality, summary=summary, memories=memories).strip()
        text = await conversation.ask(Message("user", conversation.request), system=system, history=())
        return reply_of(conversation, text)

    async def aclose(self) -> None:
        """Do nothing: the embedder is borrowed."""


def open_membank(variant: str, parts: SystemParts) -> MemBank:
    """Build ``membank`` or ``membank:bug-compatible``."""
    if variant not in ("", BUG_COMPATIBLE):
        raise UsageError(
            f"expected membank or membank:{BUG_COMPATIBLE}, got {f'membank:{variant}'!r}.{did_you_mean(variant, [BUG_COMPATIBLE])}"
        )
    return MemBank(parts.decoding, needed_embedder("membank", parts), parts.seed, bool(variant))


def _turn_text(turn: Turn) -> str:
    return f"User: {turn.utterance}" + (f" Assistant: {turn.response}" if turn.response is not None else "")


def _by_day(texts: Sequence[str]) -> str:
    return "\n".join(f"Day {day}: {text}" for day, text in enumerate(texts, 1))
