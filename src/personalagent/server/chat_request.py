"""A chat completion request as the proxy reads it: what it asks of us, which parts are the user's words, whether it may be learned from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from personalagent.server.openai_errors import OpenAIError

Mode = Literal["on", "off", "incognito"]
MODES: tuple[Mode, ...] = get_args(Mode)
Body = dict[str, Any]
EXTENSION = "personalagent"
"""The field of requests and answers, and the model's alias."""
TASK_HEADERS = ("x-openwebui-task", "x-personalagent-task")
_TASK_MARKS = re.compile(
    r"^\s*(?:###\s*Task:|Create a concise, \d-\d word (?:phrase|title)|Provide a concise, \d-word-or-less title|"
    r"Please generate a concise,? \d+[- ]word|Write a concise title for this conversation|Here is the query:)",
    re.IGNORECASE,
)
"""How the chat UIs Open WebUI and LibreChat begin what they ask for themselves: titles, tags, follow-ups, search queries."""
_TASK_WORDS = re.compile(r"\b(?:title|tags?|follow[- ]?ups?|search quer(?:y|ies)|autocomplet\w*|emoji)\b", re.IGNORECASE)
_HISTORY_MARK = re.compile(r"###\s*Chat History:|<chat_history>|\bUser:\s.*\bA(?:I|ssistant):\s", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request, read."""

    raw: bytes
    """As it came."""
    body: Body
    """Without the extension object."""
    mode: Mode
    wants_extension: bool
    """Whether the request had the extension object, so that the answer has one too."""

    @property
    def messages(self) -> list[Any]:
        """Return the messages."""
        messages = self.body["messages"]
        assert isinstance(messages, list)
        return messages

    @property
    def is_stream(self) -> bool:
        """Tell whether the answer is to come piece by piece."""
        return self.body.get("stream") is True

    @property
    def takes_question(self) -> bool:
        """Tell whether a sentence after the answer leaves the answer what the caller expects it to be."""
        plain = not any(self.body.get(name) for name in ("tools", "functions", "response_format", "logprobs", "audio"))
        return plain and self.body.get("n") in (None, 1)

    @property
    def said(self) -> str:
        """Return the user's words where the last message is theirs; else nothing."""
        return user_text(self.messages[-1])

    @property
    def asked(self) -> str:
        """Return the last words of the user, wherever they stand."""
        return next((text for message in reversed(self.messages) if (text := user_text(message))), "")

    @property
    def message_key(self) -> str:
        """Return what identifies the last message in its session: the same message sent again has the same key."""
        return _digest(str(len(self.messages)), self.said)


def read_chat(raw: bytes) -> ChatRequest:
    """Read a request.

    Raises:
        OpenAIError: it is no JSON object with messages, or the extension object is none of ours.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise OpenAIError(400, "expected a JSON object as the body, got something else; send a chat completion request") from None
    if not isinstance(body, dict):
        raise OpenAIError(400, f"expected a JSON object as the body, got {type(body).__name__}; send a chat completion request")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise OpenAIError(400, "expected `messages` to be a list of objects, not empty; send at least one", param="messages")
    extension = body.pop(EXTENSION, None)
    wanted = extension.get("mode", "on") if isinstance(extension, dict) else "on"
    mode = next((each for each in MODES if each == wanted), None)
    if mode is None or (extension is not None and not isinstance(extension, dict)):
        raise OpenAIError(
            400, f"expected `{EXTENSION}` to be an object with a mode of on, off or incognito; correct it", param=EXTENSION
        )
    return ChatRequest(raw, body, mode, extension is not None)


def user_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message that is the user's; of one that is not, nothing."""
    content = message.get("content")
    if message.get("role") != "user":
        return ""
    if isinstance(content, str):
        return content if content.strip() else ""
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(text for text in texts if text.strip())


def is_background(call: ChatRequest, headers: Mapping[str, str]) -> bool:
    """Tell whether a chat UI asks on its own behalf (a title, tags, follow-ups), so that nothing may be learned from it."""
    metadata = call.body.get("metadata")
    if any(headers.get(name) for name in TASK_HEADERS) or (isinstance(metadata, dict) and metadata.get("task")):
        return True
    text = user_text(call.messages[-1])
    systems = [m.get("content") for m in call.messages if m.get("role") in ("system", "developer")]
    if any(isinstance(system, str) and _TASK_MARKS.search(system) for system in systems):
        return True
    return bool(_TASK_MARKS.search(text) and (_HISTORY_MARK.search(text) or _TASK_WORDS.search(text)))


def session_of(call: ChatRequest, headers: Mapping[str, str], user_id: str) -> str:
    """Return the session that a request belongs to; where it names none, the one that began with the same first message."""
    metadata = call.body.get("metadata")
    named = headers.get("x-personalagent-session") or headers.get("x-openwebui-chat-id")
    named = named or (metadata.get("session_id") if isinstance(metadata, dict) else None)
    if isinstance(named, str) and named:
        return named
    first = next((text for message in call.messages if (text := user_text(message))), "")
    return _digest(user_id, first)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
