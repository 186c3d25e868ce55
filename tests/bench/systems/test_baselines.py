"""What each baseline asks its model, call by call."""

from __future__ import annotations

import pytest

from personalagent.bench.conversation import Decoding
from personalagent.bench.metering import MeteredLLM, Phase
from personalagent.bench.options import parse_letter
from personalagent.bench.systems.base import SYSTEMS, open_system
from personalagent.config import Settings
from personalagent.dialogue import Turn
from personalagent.errors import UsageError
from personalagent.llm.base import Completion, Usage
from personalagent.llm.scripted import ScriptedLLM
from personalagent.prompts import load_prompt
from tests.bench.systems.parts import LENGTH, SEASICK, WordEmbedder, example, parts

REQUEST = "How do I get to the island?" + LENGTH
OPTIONS = ("The train over the bridge", "The noon boat")


def asked(llm: ScriptedLLM, call: int = 0) -> str:
    """The last message of a call."""
    return llm.calls[call].messages[-1].content


async def test_base_is_the_whole_dialogue_and_one_call() -> None:
    llm = ScriptedLLM(["Take the train."])
    reply = await open_system("base", parts()).answer(example(SEASICK), llm)
    assert (reply.text, reply.question, reply.trace, reply.cut_messages) == ("Take the train.", None, (), 0)
    (call,) = llm.calls
    assert [m.role for m in call.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert call.messages[-1].content == REQUEST


async def test_reminder_puts_one_sentence_after_the_request() -> None:
    llm = ScriptedLLM(["Take the train."])
    await open_system("reminder", parts()).answer(example(SEASICK), llm)
    before, _, reminder = asked(llm).partition("\n\n")
    assert before == REQUEST
    assert reminder.count(".") == 1 and "earlier messages" in reminder
    assert len(llm.calls[0].messages) == 6


async def test_cot_puts_worked_examples_before_the_request() -> None:
    llm = ScriptedLLM(["Take the train."])
    await open_system("cot", parts()).answer(example(SEASICK), llm)
    assert asked(llm).endswith(f"\n\n{REQUEST}")
    assert [asked(llm).count(word) for word in ("\nQuestion:", "\nThinking:", "\nAnswer:")] == [5, 5, 5]
    assert len(llm.calls[0].messages) == 6


async def test_self_critic_replies_criticises_and_rewrites_each_time_with_the_history() -> None:
    llm = ScriptedLLM(["Take the boat.", "I get seasick, you said. No boats.", "Take the train."])
    reply = await open_system("self-critic", parts()).answer(example(SEASICK), llm)
    assert reply.text == "Take the train."
    assert [len(call.messages) for call in llm.calls] == [6, 8, 10]
    assert all(call.messages[1].content == "I get seasick on any boat." for call in llm.calls)
    assert [m.content for m in llm.calls[2].messages[-5:-1]] == [
        REQUEST,
        "Take the boat.",
        load_prompt("bench_critique").fill().strip(),
        "I get seasick, you said. No boats.",
    ]
    assert asked(llm, 2).endswith(REQUEST)
    assert reply.trace == ("reply: Take the boat.", "critique: I get seasick, you said. No boats.")


async def test_a_critique_of_a_letter_may_be_a_text() -> None:
    llm = ScriptedLLM(["<choice>B</choice>", "You get seasick.", "<choice>A</choice>"])
    reply = await open_system("self-critic", parts()).answer(example(SEASICK, options=OPTIONS), llm)
    assert [call.max_tokens for call in llm.calls] == [16, 300, 16]
    assert parse_letter(reply.text, 2) == 0


async def test_rag_shows_the_nearest_messages_and_keeps_the_history() -> None:
    session = (*SEASICK, Turn("One boat, two boats.", "Soup."), Turn("And a tent.", "A tent it is."))
    llm, embedder = MeteredLLM(inner := ScriptedLLM(["Take the train."])), WordEmbedder()
    given = example(session, request="Which boat?")
    reply = await open_system("rag", parts(embedder=embedder)).answer(given, llm)
    assert reply.trace == ("retrieved messages 0, 4, 1, 2, 3 of 8, counted from 0",)
    assert "<context>\n1. user: I get seasick on any boat.\n2. user: One boat, two boats.\n3. assistant: I will" in asked(inner)
    assert "tent" not in asked(inner) and asked(inner).endswith(f"\n\nWhich boat?{LENGTH}")
    assert len(inner.calls[0].messages) == 1 + 8 + 1
    history, request = llm.meter.spent(Phase.HISTORY), llm.meter.spent(Phase.REQUEST)
    assert (history.embedded_texts, history.calls, request.embedded_texts, request.embedding_tokens) == (8, 0, 1, 2)


async def test_rag_searches_with_the_request_and_not_with_the_options() -> None:
    embedder = WordEmbedder()
    await open_system("rag", parts(embedder=embedder)).answer(example(SEASICK, options=OPTIONS), ScriptedLLM(["A"]))
    assert embedder.texts[-1] == "How do I get to the island?"


async def test_a_served_model_gets_the_prompt_of_base_and_counts_on_the_same_meter() -> None:
    served, run = ScriptedLLM([Completion("Take the train.", Usage(9, 3))]), MeteredLLM(ScriptedLLM([]))
    from personalagent.bench.systems.served import Served

    system = Served(Decoding(), served, "dpo:scripted")
    base = ScriptedLLM(["x"])
    await open_system("base", parts()).answer(example(SEASICK), base)
    assert (await system.answer(example(SEASICK), run)).text == "Take the train."
    assert served.calls == base.calls
    assert (run.meter.total.calls, run.meter.total.prompt_tokens) == (1, 9)
    await system.aclose()
    assert served.is_closed


@pytest.mark.parametrize("spec", ["base", "reminder", "cot", "rag"])
async def test_where_there_are_options_a_letter_is_asked_for_after_the_same_request(spec: str) -> None:
    llm = ScriptedLLM(["<choice>A</choice>"])
    reply = await open_system(spec, parts()).answer(example(SEASICK, options=OPTIONS), llm)
    assert "How do I get to the island?\n\nWhich of these options" in asked(llm)
    assert "\nA. The train over the bridge\nB. The noon boat\n" in asked(llm)
    assert llm.calls[0].max_tokens == 16
    assert parse_letter(reply.text, 2) == 0


@pytest.mark.parametrize("name", [name for name in SYSTEMS.names() if name not in ("dpo", "sft-preferred", "mem0", "langmem")])
async def test_every_system_can_be_built_and_names_prompts_that_exist(name: str) -> None:
    system = open_system(name, parts())
    assert system.name == name
    assert all(load_prompt(prompt).version for prompt in system.prompts)
    await system.aclose()
    await system.aclose()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bsae", "Did you mean 'base'"),
        ("react:fast", "no variants"),
        ("membank:bug-compatable", "Did you mean 'bug-compatible'"),
        ("personal-agent:three", "personal-agent:3"),
        ("personal-agent:0", "personal-agent:3"),
        ("dpo", "dpo:MODEL@http"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_system(spec, parts())


@pytest.mark.parametrize("spec", ["rag", "membank"])
def test_a_system_that_retrieves_needs_an_embedder(spec: str) -> None:
    with pytest.raises(UsageError, match="expected an embedder"):
        open_system(spec, parts(embedder=None))


def test_a_served_system_is_named_by_its_model() -> None:
    assert open_system("sft-preferred:mine@http://localhost:1/v1", parts(settings=Settings())).name == (
        "sft-preferred:mine@http://localhost:1/v1"
    )
