"""What every language model answers to, and how one is opened by its spec."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from personalagent.config import Settings
from personalagent.dialogue import Message
from personalagent.errors import ConfigError
from personalagent.registry import Registry, did_you_mean

LLMRole = Literal["policy", "responder", "judge"]
"""What a language model is opened for. An embedded policy or responder speaks through the LoRA adapter of its role."""


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them; None where it did not say. Nothing is estimated."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """How many of the prompt tokens were not computed again."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token and the natural logarithm of its probability."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    """The most probable tokens at this position, itself included, most probable first."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a language model."""

    text: str
    usage: Usage = Usage()
    model: str = ""
    """The model as the endpoint names it."""
    finish_reason: FinishReason = FinishReason.STOP
    elapsed_s: float = 0.0
    """Wall time of the call, retries included."""
    token_logprobs: tuple[TokenLogprob, ...] | None = None
    """One per generated token where `logprobs` was asked for and given."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text as a vector."""

    vector: tuple[float, ...]
    tokens: int | None = None
    """Of the text, as the endpoint counted them; None where it did not say."""
    elapsed_s: float = 0.0


class LLM(Protocol):
    """A language model that speaks Chat Completions."""

    @property
    def name(self) -> str:
        """The spec by which `open_llm` would open it again; goes into manifests."""

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
        """Return one answer to `messages`.

        `json_schema` constrains the answer by a JSON schema. `logit_bias` adds to the logits of tokens, named by their text (llama.cpp
        servers only); the logprobs given are those without it.
        With a `seed` the embedded model computes the whole prompt afresh, so an answer does not depend on earlier requests.
        Raises LLMUnreachable, LLMTimeout, LLMRefused or LLMResponseError.
        """

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[str]:
        """Yield the answer piece by piece, none of them empty. Raises what `complete` raises, even half way."""

    async def aclose(self) -> None:
        """Give back connections and, with the last user of it, the embedded server. May be called twice."""


Opener = Callable[[str, LLMRole, Settings], LLM]
"""`(what stood after the kind in the spec, role, settings) → LLM`."""

LLM_KINDS: Registry[Opener] = Registry(
    "kind of LLM",
    {
        "embedded": "personalagent.llm.embedded:open_embedded",
        "openai": "personalagent.llm.openai:open_openai",
        "scripted": "personalagent.llm.scripted:open_scripted",
        "transformers": "personalagent.train.transformers_llm:open_transformers",
    },
)


def open_llm(spec: str, role: LLMRole, settings: Settings) -> LLM:
    """Open the language model that `spec` names; nothing is started or connected before the first request.

    Specs: `embedded` · `embedded:MODEL` (a known name or a GGUF file) · `scripted:FILE` · `transformers:FOLDER` (a PEFT adapter on
    the embedded model's weights) · `MODEL` (at OPENAI_BASE_URL, or OpenAI) · `MODEL@BASE_URL` · `openai:MODEL@BASE_URL`. A model
    name may hold colons: `llama3.2:1b@http://localhost:11434/v1`.
    Raises ConfigError for a spec that cannot be meant, ModelMissingError where the embedded weights are not here.
    """
    kind, _, rest = spec.partition(":")
    if kind in LLM_KINDS.targets and (rest or kind != "openai"):
        return LLM_KINDS.load(kind)(rest, role, settings)
    hint = did_you_mean(kind, LLM_KINDS.targets)
    is_slip = hint and "@" not in spec and not settings.openai_base_url
    host = re.search(r"@(?!https?://)([\w.-]*[.:/]\S*|localhost)$", spec)
    if not spec.strip() or kind == "openai" or is_slip or (host and not spec.startswith("@")):
        raise ConfigError(
            f"expected the {role} to be embedded, embedded:MODEL, scripted:FILE, MODEL, MODEL@http://… or MODEL@https://…, "
            f"got {spec!r}.{hint}"
        )
    return LLM_KINDS.load("openai")(spec, role, settings)
