"""Files of verdicts, a JSON object a line: what was judged, by which rubric, and the verdict or why there is none.

```json
{"example_id": "e1", "system": "base", "unit": "p7", "rubric": "alignment", "fields": {"persona": "…", "message": "…", "reply": "…"},
 "verdict": {"judge": "…", "scores": {"alignment": 75.0}, …}, "error": null}
```

Before it is judged, a line has neither `verdict` nor `error`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from personalagent.datasets.base import read_jsonl
from personalagent.errors import DataError, JudgeError, UsageError
from personalagent.judge import Verdict, VerdictCache, judge
from personalagent.llm.base import LLM
from personalagent.registry import did_you_mean
from personalagent.rubrics import Rubric, load_rubric

Place = tuple[str, str, str]
"""Example, system and rubric: what two judges must share to be compared."""


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One reply or profile, and what a judge or a person gave it."""

    example_id: str
    system: str
    rubric: str
    unit: str = ""
    """The persona or preference, which intervals resample; the example where the file does not say."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What was judged."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Criterion -> score. Empty where it is unscored; a person may leave some criteria out."""
    rubric_sha256: str | None = None
    """None for a person."""

    @property
    def place(self) -> Place:
        """What is compared with what."""
        return self.example_id, self.system, self.rubric


async def judge_row(row: VerdictRow, *, llm: LLM, cache: VerdictCache | None = None) -> dict[str, Any]:
    """Judge one row and return the line of the file; where no verdict can be read, the line says so and the run goes on.

    Raises:
        LLMError: the judge could not be reached.
    """
    verdict, error = None, None
    try:
        verdict = await judge(load_rubric(row.rubric), row.fields, llm=llm, cache=cache)
    except JudgeError as problem:
        error = str(problem)
    return verdict_line(row, verdict, error)


def verdict_line(row: VerdictRow, verdict: Verdict | None, error: str | None = None) -> dict[str, Any]:
    """Return the line of a file of verdicts, as JSON values."""
    shown = {name: value for name, value in asdict(row).items() if name not in ("scores", "rubric_sha256")}
    return {**shown, "verdict": verdict.as_record() if verdict else None, "error": error}


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of verdicts."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def load_verdicts(path: Path) -> list[VerdictRow]:
    """Load a file of verdicts, or of what is to be judged.

    Raises:
        DataError: it cannot be read, a line lacks something, or two lines are about the same.
    """
    rows: dict[Place, VerdictRow] = {}
    for where, record in read_jsonl(path):
        row = _row(where, record)
        if row.place in rows:
            raise DataError(f"{where}: expected each example, system and rubric once, got {row.place} twice; remove one line")
        rows[row.place] = row
    return list(rows.values())


def of_rubric(rows: Sequence[VerdictRow], name: str | None) -> tuple[Rubric, list[VerdictRow]]:
    """Return a rubric and the rows judged by it; where the rows have only one rubric it need not be named.

    Raises:
        UsageError: no row has it, or it must be named.
    """
    known = sorted({row.rubric for row in rows})
    if name is None and len(known) == 1:
        name = known[0]
    if name is None or name not in known:
        hint = did_you_mean(name, known) if name else ""
        raise UsageError(f"expected one of the rubrics of the file ({', '.join(known) or 'none'}), got {name!r}.{hint}")
    return load_rubric(name), [row for row in rows if row.rubric == name]


def _row(where: str, record: Mapping[str, Any]) -> VerdictRow:
    verdict = record.get("verdict") or {}
    texts = {name: record.get(name, "") for name in ("example_id", "system", "rubric", "unit")}
    fields = record.get("fields") or {}
    if not (
        all(isinstance(text, str) for text in texts.values())
        and texts["example_id"]
        and texts["rubric"]
        and isinstance(verdict, dict)
        and isinstance(fields, dict)
        and all(isinstance(text, str) for text in fields.values())
    ):
        raise DataError(
            f"{where}: expected example_id, system, rubric and unit as texts, fields as a mapping of texts, and verdict as an object or null, "
            f"got the keys {', '.join(record)}; see docs/benchmark.md"
        )
    scores = verdict.get("scores", {})
    if not isinstance(scores, dict) or not all(type(score) in (int, float) for score in scores.values()):
        raise DataError(f"{where}: expected scores to be numbers by criterion, got {type(scores).__name__}; mend the line")
    return VerdictRow(
        texts["example_id"],
        texts["system"],
        texts["rubric"],
        texts["unit"] or texts["example_id"],
        fields,
        {str(name): float(score) for name, score in scores.items()},
        verdict.get("rubric_sha256"),
    )
