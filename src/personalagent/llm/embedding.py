"""Opens what turns texts into vectors."""

from __future__ import annotations

from personalagent.config import Settings
from personalagent.errors import ConfigError
from personalagent.llm.embedded import EmbeddedEmbedder
from personalagent.llm.models import find_model
from personalagent.llm.openai import OpenAICompatibleLLM, open_openai
from personalagent.registry import did_you_mean


def open_embedder(spec: str, settings: Settings) -> OpenAICompatibleLLM:
    """Open `embedded`, `embedded:MODEL`, `MODEL@BASE_URL`, or a `MODEL` at OPENAI_BASE_URL or OpenAI; nothing is started yet.

    Raises ConfigError for a spec that cannot be meant, ModelMissingError where the embedded weights are not here.
    """
    kind, _, model = spec.partition(":")
    if kind == "embedded":
        return EmbeddedEmbedder(
            find_model(model or settings.embedded_model, settings.models_dir),
            threads=settings.embedded_threads,
            timeout_s=settings.timeout_s,
            max_retries=settings.max_retries,
        )
    hint = did_you_mean(kind, ["embedded"])
    if not spec.strip() or (hint and "@" not in spec):
        raise ConfigError(f"expected the embedder to be embedded, embedded:MODEL, MODEL or MODEL@http://…, got {spec!r}.{hint}")
    return open_openai(spec, "responder", settings)
