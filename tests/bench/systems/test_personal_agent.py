"""PersonalAgent as it is served: it learns the history, keeps the question apart, and pays for the history once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from personalagent.bench.conversation import Decoding
from personalagent.bench.metering import MeteredLLM, Phase
from personalagent.bench.options import parse_letter
from personalagent.bench.systems.base import open_system
from personalagent.config import Settings
from personalagent.dialogue import Message, Turn
from personalagent.errors import LLMTimeout
from personalagent.llm.base import Completion, Usage, open_llm
from personalagent.llm.scripted import Reply, ScriptedLLM
from tests.bench.systems.parts import LENGTH, SEASICK, example, parts

SLOT = "consumption_lifestyle.diet.pattern"
SAID = (Turn("I'm vegan, by the way.", "Good to know."), Turn("My cat is called Pim.", "A fine name."))
ASKS = "What shall I cook tonight?"


def policy(needs: Reply = f"<needs>\n{SLOT}\n</needs>", infer: Reply | None = None) -> ScriptedLLM:
    """A policy that learns from "I'm vegan" and reports 100 and 10 tokens to infer, 50 and 5 to decide."""

    def answer(messages: Sequence[Message]) -> Reply:
        asked = messages[-1].content
        if "Request:" in asked:
            return Completion(needs, Usage(50, 5)) if isinstance(needs, str) else needs
        fact = f"{SLOT} | add | neutral | vegan | I'm vegan" if "Message: I'm vegan" in asked else "none"
        return infer or Completion(f"<classification>\n{fact}\n</classification>", Usage(100, 10))

    return ScriptedLLM(answer)


def left_in(folder: Path) -> list[Path]:
    """What stands in a folder."""
    return list(folder.iterdir())


async def test_it_answers_from_the_profile_and_not_from_the_history() -> None:
    responder = ScriptedLLM([Completion("A lentil curry.", Usage(60, 6))])
    llm, learner = MeteredLLM(responder), policy()
    noise = tuple(Turn(f"What is {n} times {n}?", f"It is {n * n}.") for n in range(12))
    system = open_system("personal-agent", parts(policy=learner))
    reply = await system.answer(example(SAID, noise, request=ASKS), llm)
    assert (reply.text, reply.question) == ("A lentil curry.", None)
    (call,) = responder.calls
    assert "pattern: vegan" in call.messages[0].content
    assert call.messages[-1].content == ASKS + LENGTH
    assert [m.content for m in call.messages[1:3]] == ["What is 9 times 9?", "It is 81."]
    assert not any("I'm vegan" in message.content for message in call.messages)
    assert (call.max_tokens, call.temperature, call.seed) == (300, 0.0, 0)
    assert {call.seed for call in learner.calls} == {0}
    history, request = llm.meter.spent(Phase.HISTORY), llm.meter.spent(Phase.REQUEST)
    assert (history.calls, history.prompt_tokens) == (14, 1_400)
    assert (request.calls, request.prompt_tokens, request.completion_tokens) == (3, 100 + 50 + 60, 10 + 5 + 6)
    assert reply.trace == (
        "history: 14 turns, 1 facts kept, 0 outputs of the policy unreadable",
        f"used: {SLOT} = vegan",
        f"answer: needs {SLOT}; asks for nothing",
    )


async def test_what_is_missing_is_asked_for_after_a_provisional_answer() -> None:
    reply = await open_system("personal-agent", parts(policy=policy())).answer(
        example(SAID[1:], request=ASKS), ScriptedLLM(["A lentil curry."])
    )
    assert reply.question is not None
    assert reply.text == f"A lentil curry.\n\n{reply.question}"
    assert reply.trace[-1] == f"answer_and_ask: needs {SLOT}; asks for {SLOT}"


async def test_where_there_are_options_nothing_is_asked_and_the_options_teach_nothing() -> None:
    learner, responder = policy(), ScriptedLLM(["<choice>B</choice>"])
    given = example(SAID[1:], request=ASKS, options=("A steak", "A lentil curry"))
    reply = await open_system("personal-agent", parts(policy=learner)).answer(given, responder)
    assert (parse_letter(reply.text, 2), reply.question) == (1, None)
    assert "\nA. A steak\nB. A lentil curry\n" in responder.calls[0].messages[-1].content
    assert responder.calls[0].max_tokens == 16
    assert not any("steak" in call.messages[-1].content for call in learner.calls)


async def test_the_first_categories_alone_can_be_learned() -> None:
    """diet.pattern is in the eighth category."""
    found = []
    for spec in ("personal-agent:3", "personal-agent:6", "personal-agent:9", "personal-agent:11"):
        system = open_system(spec, parts(policy=policy("<needs>none</needs>")))
        assert system.name == spec
        reply = await system.answer(example(SAID, request=ASKS), ScriptedLLM(["Rice."]))
        found.append(reply.trace[0])
    assert ["0 facts" in line for line in found] == [True, True, False, False]


async def test_without_a_policy_one_model_does_both() -> None:
    llm = ScriptedLLM(lambda messages: policy()._replies(messages) if "Slots" in messages[-1].content else "Rice.")  # type: ignore[operator]
    system = open_system("personal-agent", parts())
    assert (await system.answer(example(SAID, request=ASKS), llm)).text == "Rice."
    assert "infer_general" in system.prompts


@pytest.mark.parametrize("failing", [{"infer": LLMTimeout("slow")}, {"needs": LLMTimeout("slow")}])
async def test_a_policy_that_fails_is_an_error_and_no_answer(failing: dict[str, Reply]) -> None:
    """The agent would answer without it; to score that would be to score something else."""
    with pytest.raises(LLMTimeout):
        await open_system("personal-agent", parts(policy=policy(**failing))).answer(
            example(SAID, request=ASKS), ScriptedLLM(["Rice."])
        )


async def test_examples_share_nothing_and_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    system = open_system("personal-agent", parts(policy=policy("<needs>none</needs>")))
    first = await system.answer(example(SAID, request=ASKS), ScriptedLLM(["Rice."]))
    second = await system.answer(example(request=ASKS), ScriptedLLM(["Rice."]))
    again = await system.answer(example(SAID, request=ASKS), ScriptedLLM(["Rice."]))
    assert "1 facts" in first.trace[0] and "0 turns, 0 facts" in second.trace[0]
    assert first == again
    assert left_in(tmp_path) == []


@pytest.mark.model
async def test_the_embedded_models_answer_alike_twice(qwen: Path) -> None:
    settings = Settings(models_dir=qwen.parent, embedded_threads=1)
    learner, responder = open_llm("embedded", "policy", settings), open_llm("embedded", "responder", settings)
    decoding = Decoding(max_tokens=12)
    system = open_system("personal-agent", parts(policy=learner, settings=settings, decoding=decoding))
    metered = [MeteredLLM(responder), MeteredLLM(responder)]
    replies = [await system.answer(example(SEASICK, request=ASKS), llm) for llm in metered]
    assert replies[0] == replies[1]
    assert "infer_compact" in system.prompts
    spent = [llm.meter.total for llm in metered]
    assert spent[0].calls_without_usage == 0
    assert spent[0].prompt_tokens == spent[1].prompt_tokens > 0
    await learner.aclose()
    await responder.aclose()
