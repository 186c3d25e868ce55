"""ReAct: thought, action, observation, until the model finishes or its steps are used up.

The history is not in the prompt; the model reads it by ``search_history`` and ``lookup``. An action that cannot be read, or that does not
exist, is an observation that says what was expected. After the last step the model must finish: it is asked for the answer alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from personalagent.bench.conversation import Conversation, Decoding, in_turns, tokens_of
from personalagent.bench.systems.base import SystemParts, SystemReply, refuse_variant, reply_of
from personalagent.bench.systems.plain import PROMPTS
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.inference import words_of
from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt
from personalagent.registry import did_you_mean
from personalagent.response import with_question

MAX_STEPS = 7
MAX_OBSERVATION_CHARS = 600
"""What an observation shows of one message."""
ACTIONS = ("search_history", "lookup", "note", "ask", "finish")
STOP = ("\nObservation:",)
_ACTION = re.compile(r"^Action:[ \t]*(\w+)[ \t]*\[(.*)\]", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Action:
    """What the model wants done."""

    name: str
    argument: str


def parse_action(text: str) -> Action | None:
    """Read the first action of a step; None where there is none in the form ``Action: name[argument]``.

    An argument of more lines than one ends at the last bracket before the next ``Thought:`` or ``Action:``.
    """
    start = text.find("Action:")
    body = text[max(start, 0) :]
    first = re.split(r"\n(?:Thought|Action|Observation):", body)[0]
    found = _ACTION.match(first)
    return Action(found[1], found[2].strip()) if found else None


@dataclass(slots=True)
class Desk:
    """What the actions of one example work on."""

    messages: Sequence[Message]
    hits: list[int] = field(default_factory=list)
    """The places of the last search's messages, best first."""
    shown: int = 0
    """How many of them were shown."""
    notes: list[str] = field(default_factory=list)
    question: str | None = None

    def act(self, action: Action | None) -> str:
        """Do an action other than ``finish`` and return the observation."""
        if action is None:
            return "error: expected a line of the form Action: name[argument], got none; write one"
        if action.name not in ACTIONS:
            return f"error: expected one of {', '.join(ACTIONS)}, got {action.name!r}.{did_you_mean(action.name, ACTIONS)}"
        if not action.argument and action.name != "lookup":
            return f"error: expected {action.name}[…] with something in the brackets, got nothing; fill it in"
        if action.name == "search_history":
            return self._search(action.argument)
        if action.name == "lookup":
            return self._next_hit()
        if action.name == "note":
            return self._note(action.argument)
        self.question = action.argument
        return "the user reads the question below your answer and cannot reply before it; finish with an answer"

    def _search(self, query: str) -> str:
        """Find the messages that share words with the query, most words first, later ones before earlier ones."""
        wanted = words_of(query)
        shared = {place: len(wanted & words_of(message.content)) for place, message in enumerate(self.messages)}
        self.hits = sorted((place for place in shared if shared[place]), key=lambda place: (-shared[place], -place))
        self.shown = 0
        return self._next_hit() if self.hits else "nothing in the history shares a word with that; search for other words"

    def _next_hit(self) -> str:
        if self.shown >= len(self.hits):
            return "there is no further message; search for something else"
        message = self.messages[self.hits[self.shown]]
        self.shown += 1
        text = " ".join(message.content.split())
        clipped = text if len(text) <= MAX_OBSERVATION_CHARS else f"{text[:MAX_OBSERVATION_CHARS]}…"
        return f"({self.shown} of {len(self.hits)}) {message.role}: {clipped}"

    def _note(self, note: str) -> str:
        slot, equals, value = (part.strip() for part in note.partition("="))
        if not (slot and equals and value):
            return "error: expected note[what=value], got no value; write for example note[diet=vegan]"
        self.notes.append(f"{slot} = {value}")
        return f"noted: {'; '.join(self.notes)}"


@dataclass(frozen=True, slots=True)
class React:
    """The model with actions."""

    decoding: Decoding
    name: str = "react"
    prompts: tuple[str, ...] = (*PROMPTS, "bench_react", "bench_react_finish")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call a step, and one more where the model did not finish."""
        conversation = Conversation(example, llm, self.decoding)
        desk = Desk(conversation.history)
        system = load_prompt("bench_react").fill(steps=str(MAX_STEPS)).strip()
        messages = [Message("user", f"Request: {conversation.request}")]
        room = self.decoding.context_tokens - 2 * self.decoding.max_tokens - tokens_of(Message("system", system))
        for step in range(1, MAX_STEPS + 1):
            text = await conversation.ask(*messages, system=system, history=(), max_tokens=self.decoding.max_tokens, stop=STOP)
            action = parse_action(text)
            if action is not None and action.name == "finish" and action.argument:
                conversation.trace.append(f"step {step}: finish")
                return self._reply(conversation, desk, action.argument)
            observation = desk.act(action)
            done = f"{action.name}[{action.argument}]" if action else "no action"
            conversation.trace.append(f"step {step}: {done} -> {observation}")
            messages += [Message("assistant", text or "…"), Message("user", f"Observation: {observation}")]
            while len(messages) > 3 and sum(map(tokens_of, messages)) > room:
                del messages[1:3]
                conversation.trace.append("context full: left out the oldest step")
        conversation.trace.append(f"no finish after {MAX_STEPS} steps: asked for the answer alone")
        messages.append(Message("user", load_prompt("bench_react_finish").fill(request=conversation.request).strip()))
        text = await conversation.ask(*in_turns(messages), history=())
        return self._reply(conversation, desk, text)

    def _reply(self, conversation: Conversation, desk: Desk, text: str) -> SystemReply:
        shown = with_question(text, desk.question) if desk.question and not conversation.example.options else text
        return reply_of(conversation, shown, question=desk.question)

    async def aclose(self) -> None:
        """Do nothing."""


def open_react(variant: str, parts: SystemParts) -> React:
    """Build ``react``."""
    refuse_variant("react", variant)
    return React(parts.decoding)
