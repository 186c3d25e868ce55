"""PrefEval's four checks of a written answer, and what they add up to (PAPER.md section 4).

Accuracy is *helpful and not violates*. The other two checks only name the error of an answer that is helpful and violates the preference:
it never mentioned one (unaware), it mentioned another one (hallucinated), or it mentioned the right one (inconsistent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from personalagent.errors import JudgeError
from personalagent.judge import VerdictCache, judge
from personalagent.llm.base import LLM
from personalagent.rubrics import load_rubric


class ErrorType(StrEnum):
    """Why an answer is not accurate."""

    UNHELPFUL = "unhelpful"
    UNAWARE = "unaware"
    HALLUCINATED = "hallucinated"
    INCONSISTENT = "inconsistent"
    UNNAMED = "unnamed"
    """It violates the preference; the checks that would say how could not be read."""


@dataclass(frozen=True, slots=True)
class ErrorChecks:
    """The verdicts on one answer."""

    helpful: bool
    violates: bool
    acknowledges: bool | None = None
    """None where it was not asked, because it cannot matter, or could not be read."""
    hallucinates: bool | None = None
    """None where nothing was acknowledged, or as above."""

    @property
    def is_accurate(self) -> bool:
        """Whether the answer counts as right."""
        return self.helpful and not self.violates

    @property
    def error(self) -> ErrorType | None:
        """What is wrong with the answer; None where it is right."""
        if not self.helpful:
            return ErrorType.UNHELPFUL
        if not self.violates:
            return None
        if self.acknowledges is False:
            return ErrorType.UNAWARE
        if self.acknowledges is None or self.hallucinates is None:
            return ErrorType.UNNAMED
        return ErrorType.HALLUCINATED if self.hallucinates else ErrorType.INCONSISTENT


async def check_answer(reply: str, *, preference: str, question: str, llm: LLM, cache: VerdictCache | None = None) -> ErrorChecks:
    """Judge one answer: two calls, and up to two more that name the error of an answer that is helpful and violates.

    Raises:
        JudgeError: whether it is helpful, or whether it violates the preference, could not be read: the answer is unscored.
        LLMError: the judge could not be reached.
    """

    async def holds(name: str, fields: Mapping[str, str]) -> tuple[bool, Mapping[str, str]]:
        verdict = await judge(load_rubric(f"prefeval_{name}"), fields, llm=llm, cache=cache)
        return verdict.scores[name] == 1.0, verdict.texts

    helpful, _ = await holds("helpful", {"question": question, "reply": reply})
    violates, _ = await holds("violates", {"preference": preference, "question": question, "reply": reply})
    if not (helpful and violates):
        return ErrorChecks(helpful, violates)
    try:
        acknowledges, texts = await holds("acknowledges", {"question": question, "reply": reply})
    except JudgeError:
        return ErrorChecks(helpful, violates)
    if not acknowledges:
        return ErrorChecks(helpful, violates, False)
    try:
        hallucinates, _ = await holds("hallucinates", {"preference": preference, "statement": texts["quote"] or reply})
    except JudgeError:
        return ErrorChecks(helpful, violates, True)
    return ErrorChecks(helpful, violates, True, hallucinates)
