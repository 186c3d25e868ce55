"""PrefEval's checks: what counts as right, what each error is called, and how many calls it takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from personalagent.bench.error_checks import ErrorChecks, ErrorType, check_answer
from personalagent.dialogue import Message
from personalagent.errors import JudgeError
from personalagent.llm.scripted import ScriptedLLM


@pytest.mark.parametrize(("ack", "hal", "vio", "helpful"), list(product((False, True), repeat=4)))
def test_accuracy_is_helpful_and_not_violates_in_all_16_cases(ack: bool, hal: bool, vio: bool, helpful: bool) -> None:
    """An answer is right where none of the four errors of the benchmark holds, in the benchmark's own terms."""
    hal = ack and hal
    errors = {
        ErrorType.INCONSISTENT: ack and not hal and vio and helpful,
        ErrorType.HALLUCINATED: ack and hal and vio and helpful,
        ErrorType.UNAWARE: not ack and vio and helpful,
        ErrorType.UNHELPFUL: not helpful,
    }
    checks = ErrorChecks(helpful, vio, ack, hal if ack else None)
    assert checks.is_accurate == (not any(errors.values())) == (helpful and not vio)
    assert checks.error == next((name for name, holds in errors.items() if holds), None)


def judge_that_says(**answers: str) -> ScriptedLLM:
    """Return a judge that gives each check its answer, whatever is judged."""

    def reply(messages: Sequence[Message]) -> str:
        name = next(name for name in ErrorChecks.__dataclass_fields__ if f"\n- {name}: " in messages[0].content)
        return f'{{"reason": "r", "quote": "as you avoid fish", "{name}": "{answers[name]}"}}'

    return ScriptedLLM(reply)


async def check(llm: ScriptedLLM) -> ErrorChecks:
    """Check an answer with a judge."""
    return await check_answer("Try the prawns, as you avoid fish.", preference="No seafood.", question="Dinner?", llm=llm)


@pytest.mark.parametrize(
    ("answers", "calls", "error"),
    [
        ({"helpful": "yes", "violates": "no"}, 2, None),
        ({"helpful": "no", "violates": "no"}, 2, ErrorType.UNHELPFUL),
        ({"helpful": "no", "violates": "yes"}, 2, ErrorType.UNHELPFUL),
        ({"helpful": "yes", "violates": "yes", "acknowledges": "no"}, 3, ErrorType.UNAWARE),
        ({"helpful": "yes", "violates": "yes", "acknowledges": "yes", "hallucinates": "yes"}, 4, ErrorType.HALLUCINATED),
        ({"helpful": "yes", "violates": "yes", "acknowledges": "yes", "hallucinates": "no"}, 4, ErrorType.INCONSISTENT),
        ({"helpful": "yes", "violates": "yes", "acknowledges": ""}, 5, ErrorType.UNNAMED),
        ({"helpful": "yes", "violates": "yes", "acknowledges": "yes", "hallucinates": ""}, 6, ErrorType.UNNAMED),
    ],
)
async def test_an_error_is_named_by_as_few_calls_as_it_takes(
    answers: dict[str, str], calls: int, error: ErrorType | None
) -> None:
    llm = judge_that_says(**answers)
    checks = await check(llm)
    assert (checks.error, checks.is_accurate, len(llm.calls)) == (error, error is None, calls)


async def test_only_those_checks_see_the_preference_that_must() -> None:
    llm = judge_that_says(helpful="yes", violates="yes", acknowledges="yes", hallucinates="no")
    await check(llm)
    assert ["No seafood." in call.messages[1].content for call in llm.calls] == [False, True, False, True]
    assert "as you avoid fish" in llm.calls[3].messages[1].content
    assert "prawns" not in llm.calls[3].messages[1].content, "the words that were quoted, not the whole answer"


@pytest.mark.parametrize("unread", ["helpful", "violates"])
async def test_an_empty_judge_is_unscored_and_never_correct(unread: str) -> None:
    with pytest.raises(JudgeError):
        await check(judge_that_says(**({"helpful": "yes", "violates": "no"} | {unread: ""})))
    with pytest.raises(JudgeError):
        await check(ScriptedLLM(["", "", ""]))
