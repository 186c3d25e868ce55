"""mem0 and LangMem: what they are given, what it costs, and that their failures are failures. Skipped where they are not installed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from personalagent.bench.embedding import Remembered
from personalagent.bench.metering import MeteredLLM, Phase
from personalagent.bench.rows import Cell
from personalagent.bench.runner import run_cell
from personalagent.bench.systems import langmem, mem0
from personalagent.bench.systems.base import System, open_system
from personalagent.bench.systems.langmem import parts_of
from personalagent.bench.systems.memories import MEMORY_TOKENS
from personalagent.config import Settings
from personalagent.dialogue import Message, Turn
from personalagent.errors import EnvironmentProblem, LLMRefused, LLMUnreachable
from personalagent.llm.base import Completion, Embedding, Usage, open_llm
from personalagent.llm.embedding import open_embedder
from personalagent.llm.scripted import Reply, ScriptedLLM
from tests.bench.systems.parts import LENGTH, SEASICK, WordEmbedder, example, parts
from tests.conftest import ROOT

INSTALLED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            find_spec(package) is None, reason=f"{package} is not installed: pip install 'personalagent[{name}]'"
        ),
    )
    for name, package in (("mem0", "mem0"), ("langmem", "langmem"))
]
MEM0, LANGMEM = [[each] for each in INSTALLED]
SECOND = (Turn("Which tent for the boat?", "A light one."),)
HISTORY = example(SEASICK, SECOND, request="Which boat?")


class Embedder(WordEmbedder):
    """As WordEmbedder, with a last coordinate that makes no vector null."""

    async def embed(self, text: str) -> Embedding:
        """Return the counts and 0.5."""
        found = await super().embed(text)
        return replace(found, vector=(*found.vector, 0.5))


def calls(*made: tuple[str, dict[str, object]]) -> str:
    """What a model writes to call LangMem's tools."""
    return json.dumps({"calls": [{"name": name, "arguments": arguments} for name, arguments in made]})


def memories(*texts: str) -> str:
    """What a model writes for mem0."""
    found = [{"id": str(n), "text": text, "attributed_to": "user", "linked_memory_ids": []} for n, text in enumerate(texts)]
    return json.dumps({"memory": found})


def remembering(messages: Sequence[Message]) -> Reply:
    """A model that remembers the boat, whoever asks; ten prompt tokens a call, and five written."""
    head, last = messages[0].content, messages[-1].content
    if '"calls"' in head:
        text = calls(("Memory", {"content": "Seasick on a boat."})) if "seasick" in last else calls()
    elif "## New Messages" in last:
        text = memories("Seasick on a boat.") if "seasick" in last.partition("## New Messages")[2] else memories()
    else:
        text = "Take the train."
    return Completion(text, Usage(10, 5))


def opened(name: str, embedder: object = None) -> System:
    """Open a system with the embedder of this module."""
    return open_system(name, parts(embedder=embedder or Embedder()))


@pytest.mark.parametrize("name", INSTALLED)
async def test_the_request_is_answered_from_memories_and_every_call_is_counted(name: str) -> None:
    llm = MeteredLLM(inner := ScriptedLLM(remembering))
    reply = await opened(name).answer(HISTORY, llm)
    written = {"mem0": 3, "langmem": 2}[name]  # a call a turn, a call a session
    assert reply.text == "Take the train."
    assert "0 answers unreadable, 1 found, 1 shown" in reply.trace[0]
    assert reply.trace[1] == "- Seasick on a boat."
    assert [call.max_tokens for call in inner.calls] == [MEMORY_TOKENS] * written + [300]
    assert {(call.temperature, call.seed) for call in inner.calls} == {(0.0, 0)}
    system, request = inner.calls[-1].messages
    assert "<memories>\n- Seasick on a boat.\n</memories>" in system.content
    assert request.content == f"Which boat?{LENGTH}"
    history, asked = llm.meter.spent(Phase.HISTORY), llm.meter.spent(Phase.REQUEST)
    assert (history.calls, history.prompt_tokens, history.completion_tokens) == (written, 10 * written, 5 * written)
    assert (asked.calls, asked.prompt_tokens, asked.completion_tokens) == (1, 10, 5)
    # mem0: each turn to search by and the memory; LangMem: each session to search by and the memory.
    assert (history.embedded_texts, asked.embedded_texts) == (written + 1, 1)


@pytest.mark.parametrize("name", INSTALLED)
async def test_the_same_example_is_the_same_calls(name: str) -> None:
    asked = []
    for _ in range(2):
        inner = ScriptedLLM(remembering)
        await opened(name).answer(HISTORY, MeteredLLM(inner))
        asked.append(inner.calls)
    assert asked[0] == asked[1]


@pytest.mark.parametrize("name", INSTALLED)
async def test_examples_at_once_do_not_share_memories(name: str) -> None:
    system, inner = opened(name), ScriptedLLM(remembering)
    other = example((Turn("I play the piano.", "How nice."),), request="Which boat?", name="e2")
    told, untold = await asyncio.gather(*(system.answer(each, MeteredLLM(inner)) for each in (HISTORY, other)))
    assert "1 found" in told.trace[0] and "0 found" in untold.trace[0]


@pytest.mark.parametrize("name", INSTALLED)
async def test_nothing_said_before_is_nothing_remembered(name: str) -> None:
    llm = MeteredLLM(inner := ScriptedLLM(remembering))
    reply = await opened(name).answer(example(request="Which boat?"), llm)
    assert (reply.text, llm.meter.spent(Phase.HISTORY).calls) == ("Take the train.", 0)
    assert "<memories>\nnothing\n</memories>" in inner.calls[-1].messages[0].content


@pytest.mark.parametrize("name", INSTALLED)
async def test_a_model_that_fails_is_a_failed_row_and_a_refused_key_ends_the_run(name: str) -> None:
    gone = ScriptedLLM(lambda messages: LLMUnreachable("expected an endpoint, got none; start it"))
    row = await run_cell(Cell(name, HISTORY, 0), opened(name), gone)
    assert row.error is not None and (row.error["at"], row.error["kind"]) == ("system", "LLMUnreachable")
    assert row.text is None and row.spent["history"]["failed_calls"] == 1
    locked = ScriptedLLM(lambda messages: LLMRefused("expected a key, got none; set one", status=401))
    with pytest.raises(LLMRefused):
        await run_cell(Cell(name, HISTORY, 0), opened(name), locked)


@pytest.mark.parametrize("name", INSTALLED)
async def test_an_embedder_that_fails_is_no_empty_memory(name: str) -> None:
    """mem0 would go on without the memory that it could not embed."""

    class Failing(Embedder):
        async def embed(self, text: str) -> Embedding:
            if "Seasick" in text:
                raise LLMUnreachable("expected an embedder, got none; start it")
            return await super().embed(text)

    with pytest.raises(LLMUnreachable, match="expected an embedder"):
        await opened(name, Failing()).answer(HISTORY, MeteredLLM(ScriptedLLM(remembering)))


@pytest.mark.parametrize("name", INSTALLED)
async def test_an_endpoint_without_json_schemas_is_asked_without_from_then_on(name: str) -> None:
    schemas: list[bool] = []

    class Plain(ScriptedLLM):
        async def complete(self, messages: Sequence[Message], **options: object) -> Completion:  # type: ignore[override]
            schemas.append(options.get("json_schema") is not None)
            if schemas[-1]:
                raise LLMRefused("expected no response_format, got one", status=400)
            return await super().complete(messages, **options)  # type: ignore[arg-type]

    llm = MeteredLLM(Plain(remembering))
    reply = await opened(name).answer(HISTORY, llm)
    assert "1 found" in reply.trace[0]
    assert schemas == [True] + [False] * (len(schemas) - 1)
    assert llm.meter.total.failed_calls == 1


@pytest.mark.parametrize("name", INSTALLED)
async def test_answers_that_cannot_be_read_are_counted(name: str) -> None:
    def mumbling(messages: Sequence[Message]) -> Reply:
        made = remembering(messages)
        return Completion("Hm.") if isinstance(made, Completion) and made.text.startswith("{") else made

    reply = await opened(name).answer(HISTORY, MeteredLLM(ScriptedLLM(mumbling)))
    assert f"{ {'mem0': 3, 'langmem': 2}[name] } answers unreadable, 0 found" in reply.trace[0]


NETWORK = """
import asyncio, pathlib, sys
from tests.bench.systems import test_peers as peers
outside = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        outside.append((event, args[1] if event == "socket.connect" else args[0]))
sys.addaudithook(watch)
reply = asyncio.run(peers.opened(sys.argv[1]).answer(peers.HISTORY, peers.MeteredLLM(peers.ScriptedLLM(peers.remembering))))
assert "1 found" in reply.trace[0], reply.trace
import time; time.sleep(0.5)  # a tracer sends from a thread of its own
print(outside)
"""


@pytest.mark.parametrize("name", INSTALLED)
def test_nothing_is_sent_anywhere_and_nothing_is_left_behind(name: str, tmp_path: Path) -> None:
    """Even where the environment asks for telemetry and traces."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    wishes = {"MEM0_TELEMETRY": "True", "LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "true", "LANGSMITH_API_KEY": "x",
              "LANGSMITH_ENDPOINT": "http://127.0.0.1:9", "HOME": str(home), "TMPDIR": str(scratch)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", NETWORK, name], env=os.environ | wishes, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
    assert list(home.rglob("*")) == list(scratch.rglob("*")) == []


@pytest.mark.parametrize("name", MEM0)
async def test_mem0_is_told_the_example_s_days(name: str) -> None:
    llm = MeteredLLM(inner := ScriptedLLM(remembering))
    await opened(name).answer(HISTORY, llm)
    told = [call.messages[-1].content.partition("## Current Date\n")[2][:10] for call in inner.calls[:3]]
    assert told == ["2026-01-01", "2026-01-01", "2026-01-02"]


@pytest.mark.parametrize("name", MEM0)
async def test_a_cancelled_answer_leaves_no_thread_that_waits(name: str) -> None:
    class Silent(ScriptedLLM):
        async def complete(self, messages: Sequence[Message], **options: object) -> Completion:  # type: ignore[override]
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    asked, before = asyncio.Event(), threading.active_count()
    answering = asyncio.create_task(opened(name).answer(HISTORY, MeteredLLM(Silent([]))))
    await asked.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert threading.active_count() == before


@pytest.mark.parametrize("name", LANGMEM)
async def test_langmem_changes_a_memory_by_the_id_that_the_model_read(name: str) -> None:
    def changing(messages: Sequence[Message]) -> Reply:
        head = messages[0].content
        if "<instance id=" not in head:
            return remembering(messages)
        patch = {"op": "replace", "path": "/content", "value": "Loves a boat."}
        named = head.partition("<instance id=")[2].partition(" ")[0]
        return calls(("PatchDoc", {"json_doc_id": named, "planned_edits": "", "patches": [patch]}))

    reply = await opened(name).answer(HISTORY, MeteredLLM(ScriptedLLM(changing)))
    assert reply.trace[1:] == ("- Loves a boat.",)


@pytest.mark.parametrize("name", LANGMEM)
async def test_langmem_lets_the_model_repair_a_call_that_is_not_valid(name: str) -> None:
    def slipping(messages: Sequence[Message]) -> Reply:
        head, last = messages[0].content, messages[-1].content
        if "PatchFunctionErrors" in head:
            patch = {"op": "add", "path": "/content", "value": "Seasick on a boat."}
            named = last.partition("json_doc_id=[")[2].partition("]")[0]
            return calls(("PatchFunctionErrors", {"json_doc_id": named, "planned_edits": "", "patches": [patch]}))
        if '"calls"' in head:
            return calls(("Memory", {})) if "seasick" in last else calls()
        return "Take the train."

    reply = await opened(name).answer(example(SEASICK, request="Which boat?"), MeteredLLM(ScriptedLLM(slipping)))
    assert reply.trace[1:] == ("- Seasick on a boat.",)


def test_a_session_is_read_in_parts_that_fit() -> None:
    session = [Turn("a" * 76, "b" * 36), Turn("c" * 36), Turn("d" * 400)]  # 23 + 13, 13, and 104 tokens, by estimate
    assert [[message.content[0] for message in part] for part in parts_of(session, 49)] == [["a", "b", "c"], ["d"]]
    assert [[message.content[0] for message in part] for part in parts_of(session, 48)] == [["a", "b"], ["c"], ["d"]]
    assert list(parts_of([], 10)) == []


@pytest.mark.parametrize(("name", "package"), [("mem0", "mem0ai"), ("langmem", "langmem")])
def test_without_the_package_or_with_another_version_it_says_what_to_install(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(EnvironmentProblem, match=rf"got none; pip install 'personalagent\[{name}\]'"):
        opened(name)
    other = tmp_path / f"{package}-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\n")
    with pytest.raises(EnvironmentProblem, match=rf"expected {package} .*, got 0.0.1; "):
        opened(name)


def test_the_extras_are_pinned_to_the_versions_that_the_adapters_were_written_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert (extras["mem0"][0], extras["langmem"][0]) == (f"mem0ai=={mem0.VERSION}", f"langmem=={langmem.VERSION}")


@pytest.mark.model
@pytest.mark.parametrize("name", LANGMEM)
async def test_the_embedded_model_writes_calls_that_langmem_can_read(name: str, qwen: Path) -> None:
    settings = Settings(models_dir=qwen.parent, adapter="none")
    inner, embedder = open_llm("embedded", "responder", settings), Remembered(open_embedder("embedded", settings))
    llm = MeteredLLM(inner)
    reply = await opened(name, embedder).answer(example(SEASICK[:1], request="Which boat?", options=("none", "any")), llm)
    await inner.aclose()
    await embedder.aclose()
    assert "1 parts read, 0 answers unreadable" in reply.trace[0]
    assert llm.meter.spent(Phase.HISTORY).prompt_tokens > 500


@pytest.mark.model
@pytest.mark.parametrize("name", MEM0)
async def test_mem0_s_prompt_does_not_fit_into_4096_tokens(name: str, qwen: Path) -> None:
    settings = Settings(models_dir=qwen.parent, adapter="none")
    inner, embedder = open_llm("embedded", "responder", settings), Remembered(open_embedder("embedded", settings))
    row = await run_cell(Cell(name, HISTORY, 0), opened(name, embedder), inner)
    await inner.aclose()
    await embedder.aclose()
    assert row.error is not None and row.error["kind"] == "LLMRefused"
    assert "to fit into the 4096 tokens" in row.error["message"]
