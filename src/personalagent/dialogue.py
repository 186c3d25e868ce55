"""What was said, nothing more: messages, turns and sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message on the wire."""

    role: Role
    content: str

    def as_wire(self) -> dict[str, str]:
        """Return the Chat Completions form of the message."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of the user and the agent's response to it (None while it is unanswered)."""

    utterance: str
    response: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """Ordered turns of one conversation."""

    session_id: str
    turns: tuple[Turn, ...] = ()


def turns_of(messages: Iterable[Message]) -> tuple[Turn, ...]:
    """Pair each user message with the assistant message that follows it; other roles are not the user's words.

    Two user messages in a row make two turns, the first without a response.
    """
    turns: list[Turn] = []
    for message in messages:
        if message.role == "user":
            turns.append(Turn(message.content))
        elif message.role == "assistant" and turns and turns[-1].response is None:
            turns[-1] = Turn(turns[-1].utterance, message.content)
    return tuple(turns)
