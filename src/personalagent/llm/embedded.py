"""llama.cpp in this process: one server per (model, adapter) on loopback, spoken to like any other endpoint.

The server is told to use plain ChatML without a default system prompt, so the tokens of a single user message are exactly
`<|im_start|>user\\n{content}<|im_end|>\\n<|im_start|>assistant\\n`: what the policy was trained on. (Qwen's own template would put
"You are Qwen, …" in front.) The adapters of policy and responder are loaded once and scaled per request: 1 for one's own, 0 for the other.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from personalagent.config import CONTEXT_TOKENS, Settings
from personalagent.dialogue import Message
from personalagent.errors import ConfigError, LLMError, LLMRefused, ModelLoadError, ModelMissingError
from personalagent.llm.base import Embedding, LLMRole
from personalagent.llm.models import find_model, model_name
from personalagent.llm.openai import Body, Endpoint, OpenAICompatibleLLM

if TYPE_CHECKING:
    import xllamacpp

ADAPTERS = Path(__file__).parent.parent / "adapters"
ADAPTER_SETTINGS: Mapping[LLMRole, str] = {"policy": "adapter", "responder": "responder_adapter"}
"""The settings that name the adapters, by role; a judge has none."""
EMBEDDING_TOKENS = 2048
"""The longest text that can be turned into a vector."""
PARALLEL = 2
"""Requests that are decoded together; more wait their turn."""
MAX_THREADS = 8
"""Models this small gain nothing from more."""
RESPONDER_SAMPLING: Mapping[str, object] = {"repeat_penalty": 1.1, "repeat_last_n": 256}
"""Without it models this small write the same list item until they may write no more. The penalty is the one that Qwen recommends; a policy,
whose lines are meant to be alike, is not given it."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL_TOKEN = re.compile(r"<(?=\|\w+\|>)")


def open_embedded(argument: str, role: LLMRole, settings: Settings) -> EmbeddedLLM:
    """Open `embedded` or `embedded:MODEL`; the server starts with the first request.

    Raises ModelMissingError where the weights are not on this machine.
    """
    model = find_model(argument or settings.embedded_model, settings.models_dir)
    adapters = {
        each: found
        for each in ADAPTER_SETTINGS
        if each == role or _model_of(each, settings) == model
        if (found := find_adapter(settings, each, model))
    }
    return EmbeddedLLM(
        model,
        adapter=adapters.get(role),
        loaded=tuple(adapters.values()),
        threads=settings.embedded_threads,
        context_tokens=settings.embedded_context_tokens,
        timeout_s=settings.timeout_s,
        max_retries=settings.max_retries,
        sampling=RESPONDER_SAMPLING if role == "responder" else None,
    )


def _model_of(role: LLMRole, settings: Settings) -> Path | None:
    """Return the embedded model that the settings give a role; None for an endpoint, and for weights that are not here."""
    kind, _, rest = str(getattr(settings, role)).partition(":")
    try:
        return find_model(rest or settings.embedded_model, settings.models_dir) if kind == "embedded" else None
    except ModelMissingError:
        return None


def find_adapter(settings: Settings, role: LLMRole, model: Path) -> Path | None:
    """Return the LoRA file that the settings mean for a role that a model plays; None where they mean none.

    For the policy, `default` is the adapter shipped for exactly this model, `adapters/MODEL.gguf`.
    Raises ConfigError where there is no such file.
    """
    if role not in ADAPTER_SETTINGS:
        return None
    name = ADAPTER_SETTINGS[role]
    setting = str(getattr(settings, name))
    if setting == "none":
        return None
    if setting == "default" and role == "policy":
        shipped = ADAPTERS / f"{model_name(model)}.gguf"
        return shipped if shipped.is_file() else None
    path = Path(setting).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"expected {name} to be {'default, ' if role == 'policy' else ''}none or the path of a GGUF file, got {setting!r}; "
            "correct the setting"
        )
    return path


class EmbeddedLLM(OpenAICompatibleLLM):
    """A role's view of an embedded server. Those with the same model and loaded adapters share one server."""

    def __init__(
        self,
        model: Path,
        *,
        adapter: Path | None = None,
        loaded: Sequence[Path] = (),
        threads: int | None = None,
        context_tokens: int = CONTEXT_TOKENS,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        sampling: Mapping[str, object] | None = None,
    ) -> None:
        adapters = tuple(sorted({path.resolve() for path in (*loaded, *([adapter] if adapter else ()))}))
        own = adapter.resolve() if adapter else None
        # The scales go with every request: llama.cpp reuses cached prompts of another scale when a request names none.
        scales = [{"id": number, "scale": float(path == own)} for number, path in enumerate(adapters)]
        lora = {"lora": scales} if scales else {}
        super().__init__(model_name(model), timeout_s=timeout_s, max_retries=max_retries, extra_body={**(sampling or {}), **lora})
        self._key = _ServerKey(model.resolve(), adapters, threads or _thread_count(), context_tokens)
        self._server: _Server | None = None
        self.adapter = adapter
        """The LoRA this role speaks through; None for the bare model."""

    @property
    def name(self) -> str:
        """`embedded:MODEL`."""
        return f"embedded:{self._model}"

    def start(self) -> None:
        """Start the server now instead of with the first request; about a second, during which nothing else runs.

        Raises ModelLoadError where llama.cpp cannot load the model or the adapter.
        """
        if self._server is None:
            self._server = _acquire(self._key)
            self._base_url = f"{self._server.address}/v1"
            self._api_key = self._server.api_key

    def endpoint(self) -> Endpoint:
        """Return the embedded server's address; starts it where it does not run yet."""
        self.start()
        return replace(super().endpoint(), is_embedded=True)

    async def aclose(self) -> None:
        """Close the connections; the server stops with its last user."""
        await super().aclose()
        if self._server is not None:
            self._server = None
            self._clients.clear()
            _release(self._key)

    def _body(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int | None, stop: Sequence[str]
    ) -> Body:
        self.start()
        plain = [Message(message.role, without_control_tokens(message.content)) for message in messages]
        body = super()._body(plain, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop)
        if seed is not None:
            body["cache_prompt"] = False
        return body

    def _failure(self, error: Exception, body: Body) -> LLMError:
        failure = super()._failure(error, body)
        if not isinstance(failure, LLMRefused) or not failure.is_too_long:
            return failure
        return LLMRefused(
            f"expected prompt and answer to fit into the {self._key.context_tokens} tokens that {self.name} holds, got more; send less text, "
            "or set PERSONALAGENT_EMBEDDED_CONTEXT_TOKENS higher, up to the context that the model was trained with",
            status=failure.status,
            is_too_long=True,
        )


class EmbeddedEmbedder(EmbeddedLLM):
    """An embedded model that turns texts into vectors: the mean of its last hidden states over the text's tokens, of length 1.

    The weights were never trained for this; a sentence-embedding model at an endpoint tells texts apart better.
    """

    def __init__(self, model: Path, *, threads: int | None = None, timeout_s: float = 120.0, max_retries: int = 2) -> None:
        super().__init__(model, threads=threads, timeout_s=timeout_s, max_retries=max_retries)
        self._key = replace(self._key, embeds=True)

    async def embed(self, text: str) -> Embedding:
        """Return a text of at most EMBEDDING_TOKENS tokens as a vector; raises what `complete` raises."""
        self.start()
        return await super().embed(without_control_tokens(text))


def without_control_tokens(text: str) -> str:
    """Break up what the model would read as the end of a message or the start of another: `<|im_end|>` becomes `< |im_end|>`."""
    return CONTROL_TOKEN.sub("< ", text)


@dataclass(frozen=True, slots=True)
class _ServerKey:
    model: Path
    adapters: tuple[Path, ...]
    threads: int
    context_tokens: int
    """Of one request."""
    embeds: bool = False
    """Whether the server turns texts into vectors instead of answering."""


@dataclass(slots=True)
class _Server:
    """A running llama.cpp server; it stops when the handle is dropped."""

    handle: xllamacpp.Server | None
    address: str
    api_key: str
    users: int = 0


_servers: dict[_ServerKey, _Server] = {}
_lock = threading.Lock()


def _acquire(key: _ServerKey) -> _Server:
    with _lock:
        if key not in _servers:
            _servers[key] = _start(key)
        _servers[key].users += 1
        return _servers[key]


def _release(key: _ServerKey) -> None:
    with _lock:
        server = _servers.get(key)
        if server is None:
            return
        server.users -= 1
        if server.users == 0:
            del _servers[key]
            server.handle = None


@atexit.register
def _stop_all() -> None:
    with _lock:
        for server in _servers.values():
            server.handle = None
        _servers.clear()


def _start(key: _ServerKey) -> _Server:
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelLoadError(
            f"expected the package xllamacpp to be importable, got {error}; pip install xllamacpp, or set PERSONALAGENT_POLICY and "
            "PERSONALAGENT_RESPONDER to an endpoint"
        ) from error
    api_key = secrets.token_urlsafe(32)
    try:
        handle = xllamacpp.Server(_parameters(key, api_key))
    except RuntimeError as error:
        adapter = f" with the adapters {', '.join(map(repr, map(str, key.adapters)))}" if key.adapters else ""
        raise ModelLoadError(
            f"expected llama.cpp to load {str(key.model)!r}{adapter}, got {error} Fetch the model again with `personalagent model pull`, "
            "try PERSONALAGENT_ADAPTER=none and PERSONALAGENT_RESPONDER_ADAPTER=none, and look at the free memory"
        ) from error
    return _Server(handle, handle.listening_address, api_key)


def _parameters(key: _ServerKey, api_key: str) -> xllamacpp.CommonParams:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(key.model)
    params.model_alias = {model_name(key.model)}
    params.n_ctx = key.context_tokens * PARALLEL
    params.n_parallel = PARALLEL
    for processors in (params.cpuparams, params.cpuparams_batch):
        processors.n_threads = key.threads
        processors.poll = (
            0  # a thread that spins while it waits takes the time of the one it waits for: 5 times slower on a busy machine
        )
    params.chat_template = CHATML
    params.use_jinja = True
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # llama.cpp takes a free one
    params.api_keys = [api_key]
    params.ui = params.endpoint_slots = False
    params.cors_origins = "null"
    params.verbosity = -1
    params.cache_ram_mib = 0  # this cache mixes up prompts that were computed under different adapter scales
    loras = []
    for path in key.adapters:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(path), 0.0
        loras.append(lora)
    if loras:
        params.lora_adapters = loras
    if key.embeds:  # one text at a time, whole in one batch: a vector does not depend on what is embedded beside it
        params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_ctx = params.n_batch = params.n_ubatch = EMBEDDING_TOKENS
        params.n_parallel = 1
    return params


def _thread_count() -> int:
    """Return how many processors this process may use, a container's quota included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        pass
    return min(count, MAX_THREADS)
