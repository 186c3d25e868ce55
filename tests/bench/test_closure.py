"""A question, the simulated user's answer, and what the profile knows then: played for real on a scripted policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.agent import PersonalAgent
from personalagent.bench.closure import NOW, ClosureCase, ClosureRow, closure_cases, play_case, summarise_closure
from personalagent.config import Settings
from personalagent.datasets.base import PersonaSlot
from personalagent.datasets.corpus import Corpus
from personalagent.datasets.simulated_user import SimulatedKind
from personalagent.dialogue import Message
from personalagent.errors import LLMUnreachable
from personalagent.llm.base import Completion
from personalagent.llm.scripted import ScriptedLLM
from personalagent.profile import Profile
from personalagent.schema import ProfileSchema

FOODS, RESTRICTIONS = "consumption_lifestyle.diet.foods", "consumption_lifestyle.diet.restrictions"
PERSONA = (PersonaSlot(FOODS, "lentil soup", "like"),)


def agent_of(folder: Path, schema: ProfileSchema, needs: str | Exception, inferred: str = "none") -> PersonalAgent:
    """Return an agent whose policy names these needs and infers this from the answer."""

    def policy(messages: list[Message]) -> Completion:
        text = messages[-1].content
        if "Request:" in text:
            if isinstance(needs, Exception):
                raise needs
            return Completion(f"<needs>\n{needs}\n</needs>")
        said = inferred if "lentil soup" in text else "none"
        return Completion(f"<classification>\n{said}\n</classification>")

    settings = Settings(database_url=f"sqlite:///{folder}/played.db", consent=("all",))
    return PersonalAgent(
        settings, policy=ScriptedLLM(policy), responder=ScriptedLLM(lambda messages: "Soup."), schema=schema, clock=lambda: NOW
    )


CASE = ClosureCase("d/1", "d", "What shall I cook?", Profile(), (FOODS,), PERSONA)


async def test_an_answered_question_resolves_what_was_missing(tmp_path: Path, schema: ProfileSchema) -> None:
    agent = agent_of(tmp_path, schema, FOODS, f"{FOODS} | add | like | lentil soup | lentil soup")
    row = await play_case(CASE, agent)
    await agent.aclose()
    assert (row.asked_for, row.reply, row.kind) == (FOODS, "lentil soup", SimulatedKind.TOLD)
    assert (row.is_filled, row.is_right, row.is_resolved, row.error) == (True, True, True, None)


async def test_a_question_that_the_persona_cannot_answer_resolves_nothing(tmp_path: Path, schema: ProfileSchema) -> None:
    agent = agent_of(tmp_path, schema, RESTRICTIONS)
    row = await play_case(CASE, agent)
    await agent.aclose()
    assert (row.asked_for, row.kind, row.is_right, row.is_resolved) == (RESTRICTIONS, SimulatedKind.HAS_NONE, False, False)


async def test_what_is_known_is_not_asked_for(tmp_path: Path, schema: ProfileSchema, corpus: Corpus) -> None:
    known = next(case for case in closure_cases(corpus, schema, "test") if not case.missing and len(list(case.profile)) > 3)
    path = next(iter(known.profile)).path
    agent = agent_of(tmp_path, schema, path)
    row = await play_case(known, agent)
    await agent.aclose()
    assert (row.asked_for, row.question, row.error) == (None, None, None)


async def test_a_policy_that_fails_is_no_score(tmp_path: Path, schema: ProfileSchema) -> None:
    rows = [
        ClosureRow("d/1", "d", "?", (FOODS,), FOODS, "?", "soup", SimulatedKind.TOLD, True, True, True),
        ClosureRow("d/2", "d", "?", (FOODS,), error="LLMUnreachable"),
        ClosureRow("e/1", "e", "?", (FOODS,), RESTRICTIONS, "?", "no", SimulatedKind.HAS_NONE, True),
        ClosureRow("e/2", "e", "?", ()),
    ]
    figures = summarise_closure(rows)
    assert (figures["requests"], figures["failed"], figures["questions"]) == (4, 1, 2)
    assert (figures["worth_asking"], figures["filled"], figures["right"], figures["resolved"]) == (0.5, 1.0, 1.0, 0.5)
    assert (figures["questions_per_dialogue"], figures["replies"]) == (1.0, {"told": 1, "has_none": 1})
    agent = agent_of(tmp_path, schema, LLMUnreachable("down"))
    row = await play_case(CASE, agent)
    await agent.aclose()
    assert row.asked_for is None


def test_nothing_measured_is_no_figure() -> None:
    figures = summarise_closure([ClosureRow("d/1", "d", "?", (), error="LLMTimeout")])
    assert (figures["resolved"], figures["questions_per_dialogue"]) == (None, None)
    assert figures["failed"] == pytest.approx(1)
