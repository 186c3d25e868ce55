"""What an answer costs is what the endpoint reports, by phase, and never an estimate."""

from __future__ import annotations

import pytest

from personalagent.bench.metering import Meter, MeteredLLM, Phase, Spent, metered
from personalagent.dialogue import Message
from personalagent.errors import LLMTimeout
from personalagent.llm.base import Completion, Embedding, Usage
from personalagent.llm.scripted import ScriptedLLM

ASKED = [Message("user", "Hello?")]


async def test_calls_and_tokens_add_up_as_the_endpoint_reports_them() -> None:
    llm = MeteredLLM(ScriptedLLM([Completion("a", Usage(10, 2), elapsed_s=1.0), Completion("b", Usage(5, 1), elapsed_s=1.0)]))
    await llm.complete(ASKED, max_tokens=8)
    await llm.complete(ASKED, max_tokens=8)
    total = llm.meter.total
    assert (total.calls, total.prompt_tokens, total.completion_tokens, total.calls_without_usage) == (2, 15, 3, 0)
    assert 0 < total.seconds < 1


@pytest.mark.parametrize("usage", [Usage(), Usage(prompt_tokens=7), Usage(completion_tokens=7)])
async def test_a_call_whose_tokens_are_not_reported_is_counted_as_such(usage: Usage) -> None:
    llm = MeteredLLM(ScriptedLLM([Completion("a", usage), Completion("b", Usage(5, 1))]))
    await llm.complete(ASKED, max_tokens=8)
    await llm.complete(ASKED, max_tokens=8)
    assert (llm.meter.total.calls, llm.meter.total.calls_without_usage) == (2, 1)
    known = 5 + (usage.prompt_tokens or 0), 1 + (usage.completion_tokens or 0)
    assert (llm.meter.total.prompt_tokens, llm.meter.total.completion_tokens) == known


async def test_a_call_that_fails_is_counted_apart_and_still_fails() -> None:
    llm = MeteredLLM(ScriptedLLM([LLMTimeout("too slow")]))
    with pytest.raises(LLMTimeout):
        await llm.complete(ASKED, max_tokens=8)
    assert (llm.meter.total.calls, llm.meter.total.failed_calls, llm.meter.total.calls_without_usage) == (0, 1, 0)


async def test_history_and_request_are_counted_apart_on_one_meter() -> None:
    llm = MeteredLLM(ScriptedLLM([Completion("a", Usage(10, 2)), Completion("b", Usage(5, 1))]))
    await llm.during(Phase.HISTORY).complete(ASKED, max_tokens=8)
    await llm.complete(ASKED, max_tokens=8)
    assert llm.meter.spent(Phase.HISTORY).prompt_tokens == 10
    assert llm.meter.spent(Phase.REQUEST).prompt_tokens == 5
    assert llm.meter.total.prompt_tokens == 15


async def test_a_second_model_can_count_on_the_meter_of_the_first() -> None:
    first = MeteredLLM(ScriptedLLM([]))
    second = metered(ScriptedLLM([Completion("a", Usage(10, 2))]), like=first)
    await second.complete(ASKED, max_tokens=8)
    assert first.meter.total.calls == 1
    assert metered(first).meter is first.meter


async def test_every_option_of_a_call_reaches_the_model_and_closing_it_does_not() -> None:
    inner = ScriptedLLM(["a"])
    llm = MeteredLLM(inner)
    await llm.complete(
        ASKED, max_tokens=8, temperature=0.5, seed=3, stop=["x"], json_schema={}, logit_bias={"g": 1.0}, logprobs=True
    )
    await llm.aclose()
    (call,) = inner.calls
    assert (call.max_tokens, call.temperature, call.seed, call.stop) == (8, 0.5, 3, ("x",))
    assert (call.json_schema, call.logit_bias, call.logprobs, inner.is_closed) == ({}, {"g": 1.0}, True, False)


async def test_a_streamed_call_has_no_usage() -> None:
    llm = MeteredLLM(ScriptedLLM(["one two"]))
    assert [piece async for piece in llm.stream(ASKED, max_tokens=8)] == ["one", " two"]
    assert (llm.meter.total.calls, llm.meter.total.calls_without_usage) == (1, 1)


def test_embeddings_are_counted_with_what_they_cost_when_they_were_computed() -> None:
    meter = Meter()
    meter.add_embedding(Embedding((1.0,), tokens=3, elapsed_s=0.5), Phase.REQUEST)
    meter.add_embedding(Embedding((1.0,), tokens=None, elapsed_s=0.25), Phase.REQUEST)
    assert meter.total == Spent(embedded_texts=2, texts_without_usage=1, embedding_tokens=3, embedding_seconds=0.75)
