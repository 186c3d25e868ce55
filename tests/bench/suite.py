"""A whole benchmark on five invented examples: scripted models whose every number can be worked out by hand.

Example n asks "Question number n". A reply is "good" up to n = 2 where the model sees the history, n = 3 for ReAct and MemBank, n = 4 for
PersonalAgent; at n = 5 the first of these give what cannot be scored ("odd"), the others "bad". Reminder fails at n = 1.
A good reply is the right option, violates nothing and has the level 75; a bad one has 25.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from personalagent.bench.conversation import Decoding
from personalagent.bench.rows import Row, RowLog
from personalagent.bench.runner import cells_of, run_cells
from personalagent.bench.scoring import rubrics_of
from personalagent.bench.suite_manifest import model_facts, settle, suite_manifest
from personalagent.bench.systems.base import System, SystemParts, open_system
from personalagent.config import Settings
from personalagent.datasets.example import Example
from personalagent.datasets.noise import NoisePool, NoiseTurn
from personalagent.dialogue import Message, Turn
from personalagent.errors import LLMResponseError
from personalagent.judge import VerdictCache
from personalagent.llm.base import Completion, Usage
from personalagent.llm.scripted import Reply, ScriptedLLM
from personalagent.prompts import load_prompt
from tests.bench.systems.parts import WordEmbedder

SYSTEMS = (
    "base", "reminder", "cot", "self-critic", "rag", "react", "membank",
    "personal-agent:3", "personal-agent:6", "personal-agent:9", "personal-agent",
)  # fmt: skip
DATA_SETS = ("prefeval:explicit-mcq", "prefeval:explicit", "aloe:all", "unseen:test", "corpus:test")
POOL = NoisePool(((NoiseTurn(Turn("How much is two and two?", "Four."), 10.0),),))
NOISE = (0, 10)
TOPICS = ("travel_hotel", "travel_hotel", "pet_ownership", "shop_home", "shop_home")
SLOT = "consumption_lifestyle.diet.pattern"
_NUMBER = re.compile(r"Question number (\d)")


def examples_of(dataset: str) -> tuple[Example, ...]:
    """Return five examples in the manner of a data set."""
    name, _, variant = dataset.partition(":")
    is_mcq = variant.endswith("-mcq")
    return tuple(
        Example(
            example_id=f"{name}/{n}",
            dataset=name,
            unit=f"unit {n}",
            topic=TOPICS[n - 1] if name == "prefeval" else name,
            sessions=((Turn("I grow tall sunflowers.", "How nice."),),),
            request=f"Question number {n}: what shall I cook tonight?",
            options=("good", "bad") if is_mcq else (),
            right=0 if is_mcq else None,
            preference="No soup.",
            persona="Grows sunflowers.",
            missing=((SLOT,) if n <= 3 else ()) if name in ("unseen", "corpus") else None,
            k=n if name == "aloe" else None,
        )
        for n in range(1, 6)
    )


def responder() -> ScriptedLLM:
    """The model that every system writes with; it reports ten prompt tokens a message, and three written."""

    def answer(messages: Sequence[Message]) -> Reply:
        head, last = messages[0].content, messages[-1].content
        found = _NUMBER.findall(last)
        usage = Usage(10 * len(messages), 3)
        if not found:
            return Completion("A summary.", usage)
        n = int(found[-1])
        is_react = head.startswith("You answer a user's request.")
        sees_all = head == load_prompt("bench_system").fill().strip()
        if load_prompt("bench_reminder").fill().strip() in last and n == 1:
            return LLMResponseError("expected a chat completion, got something else; look at the endpoint's log")
        good_to = 2 if sees_all else 3 if is_react or "<memories>" in head else 4
        kind = "good" if n <= good_to else "odd" if n == 5 and sees_all else "bad"
        text = (
            kind
            if "letter of one option" not in last
            else {"good": "<choice>A</choice>", "bad": "<choice>B</choice>"}.get(kind, kind)
        )
        return Completion(f"Thought: I know.\nAction: finish[{text}]" if is_react else text, usage)

    return ScriptedLLM(answer, name="responder")


def policy() -> ScriptedLLM:
    """A policy that learns nothing, and needs the diet for odd questions; a hundred tokens a call."""

    def answer(messages: Sequence[Message]) -> Reply:
        asked = messages[-1].content
        if "Request:" not in asked:
            return Completion("<classification>\nnone\n</classification>", Usage(100, 10))
        n = int(_NUMBER.findall(asked)[-1])
        return Completion(f"<needs>{SLOT if n % 2 else 'none'}</needs>", Usage(100, 10))

    return ScriptedLLM(answer, name="policy")


def judge() -> ScriptedLLM:
    """A judge that goes by the word: what is odd it cannot read, and so nobody can read it."""

    def answer(messages: Sequence[Message]) -> Reply:
        reply = re.findall(r'name="reply">\n(.*?)\n</data-', messages[-1].content, re.DOTALL)[0]
        usage = Usage(50, 5)
        if "odd" in reply:
            return Completion("Hm.", usage)
        is_good = "good" in reply
        labels = {"helpful": "yes", "violates": "no" if is_good else "yes", "acknowledges": "no"}
        verdict = {name: label for name, label in labels.items() if f"- {name}:" in messages[0].content}
        if not verdict:
            verdict = {"alignment": "75" if is_good else "25"}
        text = "quote" if "acknowledges" in verdict else "reason"
        return Completion(json.dumps({text: "so" if text == "reason" else "", **verdict}), usage)

    return ScriptedLLM(answer, name="judge")


def open_systems(names: Sequence[str] = SYSTEMS) -> dict[str, System]:
    """Open the systems with the scripted policy and an embedder of words."""
    parts = SystemParts(Settings(), Decoding(), WordEmbedder(), policy())
    return {name: open_system(name, parts) for name in names}


async def run_suite(
    dataset: str, folder: Path, *, names: Sequence[str] = SYSTEMS, noise: Sequence[int] = NOISE, parallel: int = 4
) -> list[Row]:
    """Run systems on a data set's five examples into a folder, or go on with it."""
    examples, systems = examples_of(dataset), open_systems(names)
    settle(folder, manifest_of(dataset, examples, systems, noise))
    with RowLog(folder) as log:
        cache = VerdictCache(folder / "verdicts.db")
        try:
            cells = cells_of(examples, names, noise_tokens=noise, pool=POOL)
            return await run_cells(cells, systems, responder(), log, judge_llm=judge(), cache=cache, parallel=parallel)
        finally:
            cache.close()


def manifest_of(
    dataset: str, examples: Sequence[Example], systems: Mapping[str, System], noise: Sequence[int] = NOISE, *, seed: int = 0
) -> dict[str, object]:
    """Return the manifest of such a run."""
    return suite_manifest(
        dataset=dataset,
        examples=examples,
        limit=None,
        systems=list(systems.values()),
        noise={"tokens": list(noise), "protocol": "prefeval", "sha256": None},
        models={
            role: model_facts(llm, None) for role, llm in (("responder", responder()), ("policy", policy()), ("judge", judge()))
        }
        | {"embedder": {"spec": "words"}},
        rubrics=rubrics_of(examples),
        decoding=Decoding(),
        settings=Settings(),
        seed=seed,
        how={"parallel": 4},
    )
