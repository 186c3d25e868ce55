"""Rate limits: one who is told to wait makes everybody wait, and what failed in passing is sent again once, not twice."""

from __future__ import annotations

import asyncio

import pytest

from personalagent.bench.pacing import RATE_TRIES, Pace, PacedLLM
from personalagent.dialogue import Message
from personalagent.errors import LLMRefused, LLMTimeout, LLMUnreachable
from personalagent.llm.scripted import ScriptedLLM

ASKED = [Message("user", "Hello?")]
BUSY = LLMRefused("busy", status=429, retry_after_s=7.0)


class Time:
    """A clock that only goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def pace(self) -> Pace:
        return Pace(sleep=self.sleep, clock=lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def test_the_pause_that_the_endpoint_asks_for_is_kept_by_everybody() -> None:
    time = Time()
    pace = time.pace()
    first = PacedLLM(ScriptedLLM([BUSY, "a"]), max_retries=0, pace=pace)
    assert (await first.complete(ASKED, max_tokens=8)).text == "a"
    assert time.now == 7.0 and pace.waited == 1
    pace.hold(3.0)
    second = PacedLLM(ScriptedLLM(["b"]), max_retries=0, pace=pace)
    assert (await second.complete(ASKED, max_tokens=8)).text == "b"
    assert time.now == 10.0


async def test_without_a_word_of_the_endpoint_the_pauses_grow() -> None:
    time = Time()
    llm = PacedLLM(ScriptedLLM([LLMRefused("busy", status=429)] * 3 + ["a"]), max_retries=0, pace=time.pace())
    await llm.complete(ASKED, max_tokens=8)
    assert [0.75 <= pause / 2**n <= 1 for n, pause in enumerate(time.slept)] == [True] * 3


async def test_a_limit_that_does_not_end_is_an_error() -> None:
    scripted = ScriptedLLM(lambda messages: BUSY)
    with pytest.raises(LLMRefused, match="busy"):
        await PacedLLM(scripted, max_retries=5, pace=Time().pace()).complete(ASKED, max_tokens=8)
    assert len(scripted.calls) == RATE_TRIES + 1


@pytest.mark.parametrize("problem", [LLMUnreachable("gone"), LLMTimeout("slow"), LLMRefused("locked", status=409)])
async def test_what_fails_in_passing_is_sent_again_as_often_as_set(problem: Exception) -> None:
    scripted, time = ScriptedLLM([problem, problem, "a"]), Time()
    assert (await PacedLLM(scripted, max_retries=2, pace=time.pace()).complete(ASKED, max_tokens=8)).text == "a"
    again = ScriptedLLM([problem, problem, "a"])
    with pytest.raises(type(problem)):
        await PacedLLM(again, max_retries=1, pace=Time().pace()).complete(ASKED, max_tokens=8)
    assert len(again.calls) == 2


async def test_what_is_refused_for_good_is_not_sent_again() -> None:
    scripted = ScriptedLLM([LLMRefused("no", status=400)])
    with pytest.raises(LLMRefused):
        await PacedLLM(scripted, max_retries=5, pace=Time().pace()).complete(ASKED, max_tokens=8)
    assert len(scripted.calls) == 1


async def test_it_goes_by_the_name_and_adapter_of_its_model() -> None:
    scripted = ScriptedLLM(["a"], name="m")
    llm = PacedLLM(scripted, max_retries=0)
    assert (llm.name, llm.adapter) == ("m", None)
    assert [piece async for piece in llm.stream(ASKED, max_tokens=8)] == ["a"]
    await llm.aclose()
    assert scripted.is_closed
