"""A user who answers clarifying questions from a persona and from nothing else: for benchmarks and for training rollouts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from personalagent.datasets.base import PersonaSlot
from personalagent.dialogue import Message
from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt
from personalagent.schema import ProfileSchema, Slot

DECLINES = "I'd rather not say."
HAS_NONE = "No preference, really."
MAX_TOKENS = 60


class SimulatedKind(StrEnum):
    """What the simulated user did with a question."""

    TOLD = "told"
    DECLINED = "declined"
    HAS_NONE = "has_none"
    """The persona holds nothing for the slot: the question was not worth asking."""


@dataclass(frozen=True, slots=True)
class SimulatedReply:
    """A reply to a clarifying question, and what is in it."""

    text: str
    kind: SimulatedKind
    values: tuple[PersonaSlot, ...] = ()
    """The persona's values that the reply tells."""


class SimulatedUser:
    """Answers from ``persona.slots`` only.

    Args:
        persona: what is true of the user, revealed before or not.
        decline_rate: share of questions for sensitive slots that are declined, 0 to 1.
        seed: decides which.
        llm: puts the reply into words; without one the values are said as they stand, always in the same way.
    """

    def __init__(
        self,
        persona: Sequence[PersonaSlot],
        schema: ProfileSchema,
        *,
        decline_rate: float = 0.0,
        seed: int = 0,
        llm: LLM | None = None,
    ) -> None:
        if not 0 <= decline_rate <= 1:
            raise ValueError(f"expected a decline_rate from 0 to 1, got {decline_rate}; give a share")
        self._persona = tuple(persona)
        self._schema = schema
        self._decline_rate = decline_rate
        self._seed = seed
        self._llm = llm

    async def answer(self, question: str, path: str) -> SimulatedReply:
        """Answer the question for one slot; the same question gets the same reply.

        Raises:
            SchemaError: the schema has no such slot.
            LLMError: the model that words the reply could not be reached.
        """
        slot = self._schema.slot(path)
        values = tuple(each for each in self._persona if each.path == slot.path)
        if not values:
            return SimulatedReply(HAS_NONE, SimulatedKind.HAS_NONE)
        if self._declines(slot):
            return SimulatedReply(DECLINES, SimulatedKind.DECLINED)
        plain = ", ".join(map(_said, values))
        if self._llm is None:
            return SimulatedReply(plain, SimulatedKind.TOLD, values)
        prompt = load_prompt("simulated_user").fill(question=question, about=plain)
        completion = await self._llm.complete([Message("user", prompt.strip())], max_tokens=MAX_TOKENS, seed=self._seed)
        return SimulatedReply(" ".join(completion.text.split()) or plain, SimulatedKind.TOLD, values)

    def _declines(self, slot: Slot) -> bool:
        chance = random.Random(f"{self._seed}:{slot.path}").random()  # noqa: S311 - a simulation, not secrets
        return slot.is_sensitive and chance < self._decline_rate


def _said(value: PersonaSlot) -> str:
    text = value.value.replace("_", " ")
    return f"no {text}" if value.polarity in ("avoid", "dislike") else text
