"""One example's conversation with a model: the history, fitted into the context, and what a system puts around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from personalagent.bench.options import render_options
from personalagent.datasets.example import Example
from personalagent.dialogue import Message, Turn
from personalagent.errors import LLMRefused
from personalagent.llm.base import LLM, Completion, FinishReason
from personalagent.prompts import load_prompt

MESSAGE_TOKENS = 4
"""What a chat template adds to a message, about."""
STEP = 16
"""A refused request is sent again with a sixteenth of the context less."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How every system of a run makes its model write; part of the manifest."""

    max_tokens: int = 300
    """Of one reply."""
    max_words: int = 150
    """What the request asks for; the reply may be cut only where a model does not heed it."""
    choice_tokens: int = 16
    """Of a reply that is a letter."""
    temperature: float = 0.0
    seed: int | None = 0
    """With a seed an answer does not depend on earlier requests."""
    context_tokens: int = 4096
    """What the model holds, prompt and reply together."""

    def reply_tokens(self, example: Example) -> int:
        """Return how long the reply to an example may be."""
        return self.choice_tokens if example.options else self.max_tokens


def after_request(example: Example, decoding: Decoding) -> str:
    """Return what every system puts after the request: the options to choose from, or how long the answer may be."""
    if example.options:
        return f"\n\n{render_options(example.options)}"
    return " " + load_prompt("bench_length").fill(words=str(decoding.max_words)).strip()


def messages_of(sessions: Iterable[Iterable[Turn]]) -> list[Message]:
    """List the messages of a history, oldest first; an unanswered turn is its utterance alone."""
    messages: list[Message] = []
    for session in sessions:
        for turn in session:
            messages.append(Message("user", turn.utterance))
            if turn.response is not None:
                messages.append(Message("assistant", turn.response))
    return messages


def in_turns(messages: Iterable[Message]) -> list[Message]:
    """Join messages of one role that follow each other: many chat templates refuse them."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            message = Message(message.role, f"{joined.pop().content}\n\n{message.content}")
        joined.append(message)
    return joined


def tokens_of(message: Message) -> int:
    """Estimate the tokens of a message: a quarter of its ASCII characters, one for any other, and what a template adds."""
    plain = sum(char.isascii() for char in message.content)
    return math.ceil(plain / 4) + len(message.content) - plain + MESSAGE_TOKENS


def fitted(history: Sequence[Message], room_tokens: int) -> list[Message]:
    """Return the end of a history that fits, from a user message on."""
    start, tokens = 0, sum(map(tokens_of, history))
    while start < len(history) and (tokens > room_tokens or (start and history[start].role != "user")):
        tokens -= tokens_of(history[start])
        start += 1
    return list(history[start:])


@dataclass(slots=True)
class Conversation:
    """What a system says to its model about one example.

    Where the history does not fit into the context, its oldest messages are left out. The estimate that decides how many is corrected
    by the endpoint: a request that is refused as too long, or whose reply broke off for want of room, is sent again with less.
    """

    example: Example
    llm: LLM
    decoding: Decoding
    trace: list[str] = field(default_factory=list)
    cut_messages: int = 0
    """The most messages of the history that a call left out."""

    @property
    def request(self) -> str:
        """The request with what every system puts after it."""
        return self.example.request + after_request(self.example, self.decoding)

    @property
    def history(self) -> list[Message]:
        """The messages before the request."""
        return messages_of(self.example.sessions)

    async def ask(
        self,
        *messages: Message,
        system: str | None = None,
        history: Sequence[Message] | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        llm: LLM | None = None,
    ) -> str:
        """Return the model's answer to messages that stand after the history.

        ``history`` takes the place of the example's own, ``llm`` that of the conversation's model. Raises LLMError.
        """
        before = self.history if history is None else history
        tokens = self.decoding.reply_tokens(self.example) if max_tokens is None else max_tokens
        head = Message("system", load_prompt("bench_system").fill().strip() if system is None else system)
        fixed = sum(map(tokens_of, (head, *messages))) + tokens
        room = self.decoding.context_tokens - fixed
        while True:
            kept = fitted(before, room)
            completion = await self._complete(
                llm or self.llm, [head, *in_turns([*kept, *messages])], tokens, stop, has_more=bool(kept)
            )
            if completion is not None:
                break
            room = min(room, sum(map(tokens_of, kept))) - self.decoding.context_tokens // STEP
        self._note_cut(len(before) - len(kept), len(before))
        return completion.text.strip()

    async def _complete(
        self, llm: LLM, messages: Sequence[Message], max_tokens: int, stop: Sequence[str], *, has_more: bool
    ) -> Completion | None:
        """Send one request; None where the context was too small and there is history left to leave out."""
        decoding = self.decoding
        try:
            completion = await llm.complete(
                messages, max_tokens=max_tokens, temperature=decoding.temperature, seed=decoding.seed, stop=stop
            )
        except LLMRefused as error:
            if error.is_too_long and has_more:
                return None
            raise
        written = completion.usage.completion_tokens
        broke_off = completion.finish_reason is FinishReason.LENGTH and written is not None and written < max_tokens
        return None if broke_off and has_more else completion

    def _note_cut(self, cut: int, total: int) -> None:
        if not cut:
            return
        self.cut_messages = max(self.cut_messages, cut)
        self.trace.append(
            f"context full ({self.decoding.context_tokens} tokens): left out the oldest {cut} of {total} messages of the history"
        )
