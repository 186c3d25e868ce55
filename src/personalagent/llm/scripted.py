"""ScriptedLLM, the public test double: it answers what it was told to and remembers what it was asked.

```python
llm = ScriptedLLM(["diet.restrictions | add | require | vegetarian", LLMTimeout("too slow")])
agent = PersonalAgent(policy=llm, responder=ScriptedLLM(lambda messages: f"You said: {messages[-1].content}"))
...
assert llm.calls[0].messages[-1].content.endswith("no meat for me")
```
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from personalagent.config import Settings
from personalagent.dialogue import Message
from personalagent.errors import ConfigError, UsageError
from personalagent.llm.base import Completion, FinishReason, LLMRole

Reply = str | Completion | Exception
"""What one call gets: a text, a whole completion, or an error that is raised."""


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of a ScriptedLLM asked for."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, object] | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: bool = False


class ScriptedLLM:
    """An LLM whose replies are written beforehand: a list, taken in order, or a function of the messages.

    A list that runs out is an error of the test and raises UsageError. A text longer than `max_tokens` words is cut there and
    ends with FinishReason.LENGTH. Streaming yields the same reply word by word.
    """

    def __init__(self, replies: Sequence[Reply] | Callable[[Sequence[Message]], Reply], *, name: str = "scripted") -> None:
        self._replies = replies if callable(replies) else list(replies)
        self._name = name
        self.calls: list[Call] = []
        """Every call so far, in order, those that raised included."""
        self.is_closed = False
        """Whether `aclose` was called."""

    @property
    def name(self) -> str:
        """What the double goes by in manifests."""
        return self._name

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        json_schema: Mapping[str, object] | None = None,
        logit_bias: Mapping[str, float] | None = None,
        logprobs: bool = False,
    ) -> Completion:
        """Return the next reply, or raise it where it is an error."""
        return self._answer(Call(tuple(messages), max_tokens, temperature, seed, tuple(stop), json_schema, logit_bias, logprobs))

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[str]:
        """Yield the next reply word by word."""
        completion = self._answer(Call(tuple(messages), max_tokens, temperature, seed, tuple(stop)))
        for piece in re.findall(r"\s*\S+\s*$|\s*\S+", completion.text):
            yield piece

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True

    def _answer(self, call: Call) -> Completion:
        self.calls.append(call)
        reply = self._replies(call.messages) if callable(self._replies) else self._next()
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Completion):
            return reply
        words = list(re.finditer(r"\S+", reply))
        if len(words) > call.max_tokens:
            return Completion(reply[: words[call.max_tokens].start()], model=self._name, finish_reason=FinishReason.LENGTH)
        return Completion(reply, model=self._name)

    def _next(self) -> Reply:
        assert isinstance(self._replies, list)
        taken = len(self.calls)
        if taken > len(self._replies):
            raise UsageError(
                f"expected at most {len(self._replies)} calls of {self._name!r}, got call {taken}; script more replies"
            )
        return self._replies[taken - 1]


def open_scripted(argument: str, role: LLMRole, settings: Settings) -> ScriptedLLM:
    """Open `scripted:FILE`; the file is a JSON list of reply texts, taken in order."""
    path = Path(argument).expanduser()
    try:
        replies = json.loads(path.read_text(encoding="utf-8")) if argument else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected {path} to hold the {role}'s replies as a JSON list of texts, got: {error}") from error
    if not isinstance(replies, list) or not all(isinstance(reply, str) for reply in replies):
        raise ConfigError(
            f"expected the {role} scripted:FILE to name a JSON list of texts, got {type(replies).__name__} from {argument!r}; "
            'write for example ["first reply", "second reply"]'
        )
    return ScriptedLLM(replies, name=f"scripted:{argument}")
