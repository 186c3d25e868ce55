"""The reply: an answer from the relevant preferences, a provisional answer with one question, or the question alone."""

from __future__ import annotations

from collections.abc import Sequence

from personalagent.dialogue import Message
from personalagent.inference import clip
from personalagent.profile import Polarity, SlotValue
from personalagent.prompts import load_prompt

MAX_TOKENS = 400
MAX_HISTORY = 6
"""Messages of this session that the responder sees before the request."""
MAX_HISTORY_CHARS = 2_400


def preference_line(value: SlotValue) -> str:
    """Write a preference for the responder: the slot's name, the attitude where there is one, the value."""
    name = value.path.rpartition(".")[2].replace("_", " ")
    attitude = "" if value.polarity is Polarity.NEUTRAL else f" ({value.polarity})"
    return f"{name}{attitude}: {_defused(value.value)}"


def _defused(text: str) -> str:
    """Keep a value from closing the block that delimits it."""
    return " ".join(text.replace("<", "‹").replace(">", "›").split())


def build_messages(
    request: str, preferences: Sequence[SlotValue], history: Sequence[Message], *, asks: bool = False
) -> list[Message]:
    """Return the responder's messages: preferences as delimited data, the session's last messages, the request.

    ``asks`` says that a clarifying question will stand after the answer.
    """
    lines = "\n".join(preference_line(value) for value in preferences) or "nothing that bears on this"
    ask = "\nGive a useful answer that suits most people. Do not ask anything: a question is added after it." if asks else ""
    system = load_prompt("answer").fill(preferences=lines, ask=ask).strip()
    shown, _ = clip(request)
    return [Message("system", system), *_recent(history), Message("user", shown)]


def _recent(history: Sequence[Message]) -> list[Message]:
    """Return the last messages that fit, from a user message on."""
    kept: list[Message] = []
    budget = MAX_HISTORY_CHARS
    for message in reversed(history[-MAX_HISTORY:]):
        budget -= len(message.content)
        if budget < 0:
            break
        kept.insert(0, message)
    while kept and kept[0].role != "user":
        kept.pop(0)
    return kept


def with_question(answer: str, question: str) -> str:
    """Put the clarifying question after the answer."""
    return f"{answer.rstrip()}\n\n{question}" if answer.strip() else question
