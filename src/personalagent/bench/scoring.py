"""What a reply scores, 0 to 100: the right option, PrefEval's accuracy, or the alignment level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from personalagent.bench.error_checks import check_answer
from personalagent.bench.options import parse_letter
from personalagent.bench.rows import Cell, Row
from personalagent.datasets.example import Example
from personalagent.errors import JudgeError
from personalagent.judge import VerdictCache, judge
from personalagent.llm.base import LLM
from personalagent.rubrics import load_rubric

ALIGNMENT = "alignment"
CHECKS = ("prefeval_helpful", "prefeval_violates", "prefeval_acknowledges", "prefeval_hallucinates")
NO_JUDGE = "no judge was named"


@dataclass(frozen=True, slots=True)
class Grade:
    """The score of one reply, or why it has none."""

    score: float | None = None
    choice: int | None = None
    verdict: Mapping[str, Any] = field(default_factory=dict)
    unscored: str | None = None


def rubrics_of(examples: Iterable[Example]) -> tuple[str, ...]:
    """Return the rubrics by which the replies to these examples are judged; none where all have options."""
    written = [example for example in examples if not example.options]
    return tuple(
        name
        for is_used, names in (
            (any(example.dataset == "prefeval" for example in written), CHECKS),
            (any(example.dataset != "prefeval" for example in written), (ALIGNMENT,)),
        )
        if is_used
        for name in names
    )


async def grade(example: Example, text: str, *, judge_llm: LLM | None, cache: VerdictCache | None = None) -> Grade:
    """Score a reply.

    Options need no judge: 100 for the right one, 0 for another, unscored where none can be read. PrefEval's written answers are 100 where
    *helpful and not violates*, else 0. All others have the level of the rubric ``alignment``.

    Raises:
        LLMError: the judge could not be reached. A verdict that cannot be read raises nothing: the reply is unscored.
    """
    if example.options:
        return _chosen(example, text)
    if judge_llm is None:
        return Grade(unscored=NO_JUDGE)
    try:
        if example.dataset == "prefeval":
            return await _checked(example, text, judge_llm, cache)
        return await _aligned(example, text, judge_llm, cache)
    except JudgeError as error:
        return Grade(unscored=str(error))


def _chosen(example: Example, text: str) -> Grade:
    choice = parse_letter(text, len(example.options))
    if choice is None or example.right is None:
        return Grade(choice=choice, unscored="no option could be read from the reply")
    return Grade(100.0 if choice == example.right else 0.0, choice)


async def _checked(example: Example, text: str, judge_llm: LLM, cache: VerdictCache | None) -> Grade:
    if example.preference is None:
        return Grade(unscored="the example names no preference")
    checks = await check_answer(text, preference=example.preference, question=example.request, llm=judge_llm, cache=cache)
    verdict = {
        "helpful": checks.helpful,
        "violates": checks.violates,
        "acknowledges": checks.acknowledges,
        "hallucinates": checks.hallucinates,
        "error": None if checks.error is None else str(checks.error),
    }
    return Grade(100.0 if checks.is_accurate else 0.0, verdict=verdict)


async def _aligned(example: Example, text: str, judge_llm: LLM, cache: VerdictCache | None) -> Grade:
    if example.persona is None:
        return Grade(unscored="the example names no persona")
    fields = {"persona": example.persona, "message": example.request, "reply": text}
    verdict = await judge(load_rubric(ALIGNMENT), fields, llm=judge_llm, cache=cache)
    return Grade(verdict.score, verdict={**verdict.scores, **verdict.texts})


def verdict_lines(cells: Iterable[Cell], rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Yield what was judged and the verdict, as ``bench agreement`` reads it; with noise, the example's id ends in ``@`` and its tokens.

    Of PrefEval's checks the two that score are given. A reply that nobody judged has no line.
    """
    known = {row.key: row for row in rows}
    for cell in cells:
        row, example = known.get(cell.key), cell.example
        if row is None or row.text is None or row.error or example.options or row.unscored == NO_JUDGE:
            continue
        shown = {"persona": example.persona, "preference": example.preference, "reply": row.text}
        shown |= {"message": example.request, "question": example.request}
        for name in CHECKS[:2] if example.dataset == "prefeval" else (ALIGNMENT,):
            rubric = load_rubric(name)
            (criterion,) = (each.name for each in rubric.criteria)
            is_scored = row.score is not None
            yield {
                "example_id": f"{row.example_id}@{row.noise_tokens}" if row.noise_tokens else row.example_id,
                "system": row.system,
                "unit": row.unit,
                "rubric": name,
                "fields": {field: shown[field] or "" for field in rubric.fields},
                "verdict": {"scores": {criterion: float(row.verdict[criterion])}, "rubric_sha256": rubric.sha256}
                if is_scored
                else None,
                "error": row.unscored,
            }
