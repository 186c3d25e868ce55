"""mem0 (Apache-2.0), the open-source library: memories extracted from every turn, and those nearest to the request in the reply.

As its documentation has it: ``add`` after every turn with what both said, ``search`` with the request (20 memories, a score of 0.1 at
least), and the memories in the system message. Two of its options are off, for they fetch models from the network: keyword search and
entities; it then ranks by meaning alone, as it does where nothing but ``mem0ai`` is installed. Its telemetry is off, its state is in
temporary folders. It tells its model today's date; here one session is one day from 2026-01-01 on, so that a run can be repeated.

Its extraction prompt alone has some 33,700 characters: a context of 4,096 tokens has no room for it.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from personalagent.bench.conversation import Conversation, Decoding, messages_of
from personalagent.bench.embedding import Embedder
from personalagent.bench.metering import Phase, metered
from personalagent.bench.systems.base import SystemParts, SystemReply, needed_embedder, refuse_variant
from personalagent.bench.systems.memories import PROMPTS, MemoryModels, answer_from, need_package
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.errors import EnvironmentProblem
from personalagent.llm.base import LLM

T = TypeVar("T")
VERSION = "2.2.1"
USER = "user"
FIRST_DAY = date(2026, 1, 1)
_MEMORY = {
    "id": {"type": "string"},
    "text": {"type": "string"},
    "attributed_to": {"type": "string", "enum": ["user", "assistant"]},
    "linked_memory_ids": {"type": "array", "items": {"type": "string"}},
}
SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "memory": {
            "type": "array",
            "items": {"type": "object", "properties": _MEMORY, "required": list(_MEMORY), "additionalProperties": False},
        }
    },
    "required": ["memory"],
    "additionalProperties": False,
}
"""The answer that mem0's prompt describes; mem0 itself asks for any JSON object."""
_TODAY = re.compile(r"^(## (?:Observation|Current) Date\n)\S+$", re.MULTILINE)


class Loop:
    """The event loop as a thread beside it uses it: calls are made there, and none is waited for after ``close``."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: Future[Any] | None = None
        self._is_closed = False

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Make a call from the thread and return what it returns."""
        with self._lock:
            if self._is_closed:
                call.close()
                raise CancelledError
            waiting = asyncio.run_coroutine_threadsafe(call, self._loop)
            self._waiting = waiting
        return waiting.result()

    def close(self) -> None:
        """Cancel the call that the thread waits for, and refuse others."""
        with self._lock:
            self._is_closed = True
            if self._waiting is not None:
                self._waiting.cancel()


class Model:
    """What mem0 takes for its language model."""

    def __init__(self, models: MemoryModels, loop: Loop) -> None:
        self._models = models
        self._loop = loop
        self.day = 0
        self.unreadable = 0

    def generate_response(self, messages: Sequence[Mapping[str, str]], **_: object) -> str:
        """Return JSON with memories; the dates of its prompt become those of the example."""
        today = (FIRST_DAY + timedelta(days=self.day)).isoformat()
        *before, last = messages
        sent = [Message("system" if each["role"] == "system" else "user", each["content"]) for each in before]
        sent.append(Message("user", _TODAY.sub(lambda found: found[1] + today, last["content"])))
        text = self._loop.run(self._models.write(sent, SCHEMA))
        try:
            json.loads(text)
        except ValueError:
            self.unreadable += 1
        return text


class Vectors:
    """What mem0 takes for its embedder."""

    def __init__(self, models: MemoryModels, loop: Loop) -> None:
        self._models = models
        self._loop = loop

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """Return the vector of a text; what mem0 does with it makes no difference."""
        return self.embed_batch([text])[0]

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        """Return the vectors of several texts."""
        return self._loop.run(self._models.vectors(texts))


@dataclass(frozen=True, slots=True)
class Mem0:
    """The model with mem0's memories instead of the history."""

    decoding: Decoding
    embedder: Embedder
    name: str = "mem0"
    prompts: tuple[str, ...] = PROMPTS

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Answer in one call a turn of the history, and one for the request. Raises LLMError, and what mem0 raises."""
        model = metered(llm)
        models = MemoryModels(model, self.embedder, self.decoding)
        dimensions = await models.dimensions(example.request)
        loop = Loop()
        with tempfile.TemporaryDirectory(prefix="personalagent-mem0-") as folder, ThreadPoolExecutor(1) as thread:

            def work() -> tuple[list[str], str]:
                return _remember(example, models, loop, Path(folder), dimensions)

            try:
                found, trace = await asyncio.get_running_loop().run_in_executor(thread, work)
            finally:
                loop.close()
        return await answer_from(Conversation(example, model, self.decoding), found, trace)

    async def aclose(self) -> None:
        """Do nothing: the embedder is borrowed."""


def open_mem0(variant: str, parts: SystemParts) -> Mem0:
    """Build ``mem0``.

    Raises:
        EnvironmentProblem: the package is not installed, or in another version.
    """
    refuse_variant("mem0", variant)
    need_package("mem0", "mem0ai", VERSION)
    _package()
    return Mem0(parts.decoding, needed_embedder("mem0", parts))


@cache
def _package() -> Any:
    """Import mem0 with its telemetry off and its settings in a temporary folder: it looks for both while it is imported."""
    folder = tempfile.mkdtemp(prefix="personalagent-mem0-settings-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=folder)
    package = importlib.import_module("mem0")
    telemetry, nlp = (importlib.import_module(f"mem0.{name}") for name in ("memory.telemetry", "utils.spacy_models"))
    if telemetry.MEM0_TELEMETRY:
        raise EnvironmentProblem(
            "expected mem0 without its telemetry, got it imported before with it; set MEM0_TELEMETRY=False in the environment"
        )
    for name in ("_load_failed_full", "_load_failed_lemma"):  # what it sets where spaCy is not installed
        setattr(nlp, name, True)
    logging.getLogger("mem0").setLevel(logging.CRITICAL)  # its warnings quote what users said
    return package


def _open(folder: Path, dimensions: int, model: Model, vectors: Vectors) -> Any:
    package, unused = _package(), {"provider": "openai", "config": {"api_key": "none", "model": "unused"}}
    store = {"path": str(folder / "qdrant"), "embedding_model_dims": dimensions, "collection_name": "memories"}
    memory = package.Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "history_db_path": str(folder / "history.db"),
            "llm": unused,
            "embedder": unused,
        }
    )
    memory.llm, memory.embedding_model = model, vectors
    memory.vector_store._bm25_encoder = False  # what it sets where fastembed is not installed
    return memory


def _remember(example: Example, models: MemoryModels, loop: Loop, folder: Path, dimensions: int) -> tuple[list[str], str]:
    """Let mem0 read the history, and search it for the request; return what it found, best first, and what it did."""
    model = Model(models, loop)
    memory = _open(folder, dimensions, model, Vectors(models, loop))
    kept = 0

    def call(method: Callable[..., Mapping[str, Any]], *values: object, **options: object) -> list[Mapping[str, Any]]:
        try:
            results = method(*values, **options)["results"]
        except Exception:
            if models.error is None:
                raise
        if models.error is not None:
            raise models.error
        return list(results)

    try:
        for day, session in enumerate(example.sessions):
            model.day = day
            for turn in session:
                said = [message.as_wire() for message in messages_of([[turn]])]
                kept += len(call(memory.add, said, user_id=USER))
        models.phase = Phase.REQUEST
        found = call(memory.search, example.request, filters={"user_id": USER})
    finally:
        memory.close()
        memory.vector_store.client.close()
    return [str(each["memory"]) for each in found], f"history: {kept} memories kept, {model.unreadable} answers unreadable"
