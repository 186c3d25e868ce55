"""The public test double."""

from __future__ import annotations

import pytest

from personalagent.dialogue import Message
from personalagent.errors import LLMTimeout, UsageError
from personalagent.llm.base import Completion, FinishReason
from personalagent.llm.scripted import Call, ScriptedLLM

ASKED = [Message("user", "Hello")]


async def test_replies_come_in_order_and_calls_are_kept() -> None:
    llm = ScriptedLLM(["first", "second"])
    assert [(await llm.complete(ASKED, max_tokens=8, seed=seed)).text for seed in (1, 2)] == ["first", "second"]
    assert llm.calls == [Call(tuple(ASKED), 8, seed=1), Call(tuple(ASKED), 8, seed=2)]


async def test_a_function_answers_from_the_messages() -> None:
    llm = ScriptedLLM(lambda messages: f"You said {messages[-1].content}")
    assert (await llm.complete(ASKED, max_tokens=8)).text == "You said Hello"


async def test_an_error_among_the_replies_is_raised_and_the_next_call_goes_on() -> None:
    llm = ScriptedLLM([LLMTimeout("too slow"), "late"])
    with pytest.raises(LLMTimeout, match="too slow"):
        await llm.complete(ASKED, max_tokens=8)
    assert (await llm.complete(ASKED, max_tokens=8)).text == "late"
    assert len(llm.calls) == 2


async def test_a_list_that_runs_out_is_an_error_of_the_test() -> None:
    llm = ScriptedLLM([])
    with pytest.raises(UsageError, match="expected at most 0 calls of 'scripted', got call 1"):
        await llm.complete(ASKED, max_tokens=8)


async def test_a_reply_longer_than_allowed_is_cut() -> None:
    completion = await ScriptedLLM(["one two three"]).complete(ASKED, max_tokens=2)
    assert (completion.text, completion.finish_reason) == ("one two ", FinishReason.LENGTH)


async def test_a_whole_completion_is_passed_on() -> None:
    scripted = Completion("x", finish_reason=FinishReason.CONTENT_FILTER)
    assert await ScriptedLLM([scripted]).complete(ASKED, max_tokens=2) is scripted


@pytest.mark.parametrize("text", ["Two  words\nand a line. ", "", " \n", "one"])
async def test_the_pieces_of_a_stream_make_the_reply(text: str) -> None:
    pieces = [piece async for piece in ScriptedLLM([text]).stream(ASKED, max_tokens=8)]
    assert "".join(pieces).strip() == text.strip()


async def test_closing_is_remembered() -> None:
    llm = ScriptedLLM([])
    await llm.aclose()
    assert llm.is_closed
