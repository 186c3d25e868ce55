"""A judge: a language model that applies a rubric to what others wrote and gives a verdict.

```python
rubric = load_rubric("prefeval_violates")
fields = {"preference": "No seafood.", "question": "Dinner ideas?", "reply": "Try the prawns."}
verdict = await judge(rubric, fields, llm=llm, cache=VerdictCache(Path("verdicts.db")))
verdict.scores  # {"violates": 1.0}
```

The judge gives labels; scores are computed here. What cannot be read is asked again, and then is a JudgeError: unscored, never a score.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from personalagent.dialogue import Message
from personalagent.errors import JudgeError, LLMRefused, StoreError, UsageError
from personalagent.llm.base import LLM, FinishReason
from personalagent.parsing import ParseOutcome, parse_verdict
from personalagent.prompts import load_prompt
from personalagent.rubrics import Combine, Criterion, Level, Rubric, load_rubric

__all__ = ["Combine", "Criterion", "Level", "Rubric", "Verdict", "VerdictCache", "judge", "load_rubric", "verdict_key"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt asks."""

    temperature: float
    seed: int
    max_tokens: int
    """Little at first, since a small model may write on and on; a model that thinks aloud needs more."""
    wants_schema: bool
    """An endpoint that takes a JSON schema may still do better without."""


ATTEMPTS = (Attempt(0.0, 0, 400, True), Attempt(0.4, 1, 800, True), Attempt(0.8, 2, 2_500, False))
VERDICT_FORMAT = 1
"""Raised when the fields of Verdict change, so that older ones are not found."""
REFUSALS = (400, 422)
"""With these an endpoint may mean the JSON schema."""
PROMPTS = ("judge", "judge_data", "judge_json", "judge_lines")
_CONTROL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|/?think>|/?verdict>)|\[(?=/?INST\])", re.IGNORECASE)
"""Where something begins in judged text that a model may read as the end of its message, or that read back would be a verdict: a space
is put behind it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge decided about one thing."""

    rubric: str
    rubric_sha256: str
    prompts_sha256: str
    judge: str
    """The judge's name, by which it would be opened again."""
    scores: Mapping[str, float]
    """Criterion -> score."""
    score: float
    """Over all criteria, as the rubric combines them."""
    variants: Mapping[str, float]
    """The rubric's variants -> score."""
    texts: Mapping[str, str]
    """What the judge wrote besides: a reason, a quote."""
    attempts: int
    """Which attempt could be read, from 1."""

    def as_record(self) -> dict[str, Any]:
        """Return the verdict as JSON values; ``Verdict(**record)`` is the verdict again."""
        return asdict(self)


async def judge(rubric: Rubric, fields: Mapping[str, str], *, llm: LLM, cache: VerdictCache | None = None) -> Verdict:
    """Return the verdict on ``fields``, from the cache where it was given before.

    Raises:
        JudgeError: no attempt could be read; what was judged stays unscored.
        UsageError: the fields are not those of the rubric.
        LLMError: the judge could not be reached or refused.
    """
    if set(fields) != set(rubric.fields):
        raise UsageError(
            f"expected the fields {', '.join(rubric.fields)} of rubric {rubric.name}, got {', '.join(fields)}; give exactly these"
        )
    if cache is None:
        return await _judge_afresh(rubric, fields, llm, set())
    key = verdict_key(rubric, fields, llm.name)
    async with cache.alone(key):
        verdict = cache.get(key)
        if verdict is None:
            verdict = await _judge_afresh(rubric, fields, llm, cache.without_schema)
            cache.put(key, verdict)
    return verdict


def verdict_key(rubric: Rubric, fields: Mapping[str, str], judge_name: str) -> str:
    """Return the hash of everything that a verdict depends on: rubric, prompts, judge and what is judged."""
    parts = [VERDICT_FORMAT, rubric.sha256, prompts_sha256(), judge_name, sorted(fields.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prompts_sha256() -> str:
    """Return one hash over the prompts of a judge."""
    return hashlib.sha256("".join(load_prompt(name).sha256 for name in PROMPTS).encode()).hexdigest()


def build_judge_messages(rubric: Rubric, fields: Mapping[str, str], *, as_json: bool) -> list[Message]:
    """Return the judge's messages: the rubric, then the data between delimiters that do not occur in it."""
    keys = {name: f"{name}: {text}" for name, text in rubric.texts.items()}
    keys |= {each.name: f"{each.name}: {each.choices}" for each in rubric.criteria}
    form = load_prompt("judge_json" if as_json else "judge_lines").fill(keys="\n".join(keys.values()))
    system = load_prompt("judge").fill(
        task=rubric.task,
        fields="\n".join(f"- {name}: {text}" for name, text in rubric.fields.items()),
        criteria="\n".join(map(_criterion_text, rubric.criteria)),
        form=form.strip(),
    )
    shown = {name: _CONTROL.sub(lambda found: f"{found[0]} ", fields[name]) for name in rubric.fields}
    mark = _mark(shown)
    data = "\n".join(f'<data-{mark} name="{name}">\n{text}\n</data-{mark}>' for name, text in shown.items())
    names = ", ".join(each.name for each in rubric.criteria)
    return [
        Message("system", system.strip()),
        Message("user", load_prompt("judge_data").fill(mark=mark, data=data, names=names).strip()),
    ]


def _criterion_text(criterion: Criterion) -> str:
    levels = "\n".join(f"  {level.label}: {level.meaning}" for level in criterion.levels)
    return f"- {criterion.name}: {criterion.question}\n{levels}"


def _mark(fields: Mapping[str, str]) -> str:
    """Return a word for the delimiters that follows from the data, so that it is always the same, and is not in it."""
    text = json.dumps(sorted(fields.items()))
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    while any(mark in each.lower() for each in fields.values()):
        mark = hashlib.sha256(mark.encode()).hexdigest()[:12]
    return mark


async def _judge_afresh(rubric: Rubric, fields: Mapping[str, str], llm: LLM, without_schema: set[str]) -> Verdict:
    """Ask until an answer can be read; ``without_schema`` remembers the endpoints that refuse a JSON schema."""
    outcomes = []
    for number, attempt in enumerate(ATTEMPTS, 1):
        takes_schema = attempt.wants_schema and llm.name not in without_schema
        try:
            text, is_cut = await _answer(rubric, fields, llm, attempt, as_json=takes_schema)
        except (LLMRefused, UsageError) as error:
            if not takes_schema or (isinstance(error, LLMRefused) and error.status not in REFUSALS):
                raise
            text, is_cut = await _answer(rubric, fields, llm, attempt, as_json=False)
            without_schema.add(llm.name)
        outcome, scores, texts = _read(rubric, text, is_cut=is_cut)
        if outcome is ParseOutcome.OK:
            return Verdict(
                rubric=rubric.name,
                rubric_sha256=rubric.sha256,
                prompts_sha256=prompts_sha256(),
                judge=llm.name,
                scores=scores,
                score=rubric.score(scores),
                variants=rubric.variant_scores(scores),
                texts=texts,
                attempts=number,
            )
        outcomes.append(str(outcome))
    raise JudgeError(
        f"expected a verdict by rubric {rubric.name} from {llm.name}, got {', '.join(outcomes)} in {len(outcomes)} attempts; "
        "count it as unscored, or use another judge"
    )


async def _answer(rubric: Rubric, fields: Mapping[str, str], llm: LLM, attempt: Attempt, *, as_json: bool) -> tuple[str, bool]:
    completion = await llm.complete(
        build_judge_messages(rubric, fields, as_json=as_json),
        max_tokens=attempt.max_tokens,
        temperature=attempt.temperature,
        seed=attempt.seed,
        json_schema=rubric.json_schema() if as_json else None,
    )
    return completion.text, completion.finish_reason is FinishReason.LENGTH


def _read(rubric: Rubric, text: str, *, is_cut: bool) -> tuple[ParseOutcome, dict[str, float], Mapping[str, str]]:
    names = [each.name for each in rubric.criteria]
    parsed = parse_verdict(text, names, texts=tuple(rubric.texts), truncated=is_cut)
    if parsed.outcome is not ParseOutcome.OK:
        return parsed.outcome, {}, {}
    scores = {each.name: score for each in rubric.criteria if (score := each.read(parsed.labels[each.name])) is not None}
    return (ParseOutcome.OK if len(scores) == len(names) else ParseOutcome.PARTIAL), scores, parsed.texts


class VerdictCache:
    """Verdicts by content hash in one SQLite file.

    A verdict is on disk before it is returned, whole or not at all, so a process that is killed loses none that it gave. Tasks of one
    process that want the same verdict wait for the first; processes share the file. What could not be read is not kept: it is asked
    again next time. The judged texts are not in the file.
    """

    def __init__(self, path: Path) -> None:
        self.without_schema: set[str] = set()
        """Judges that refused a JSON schema since this cache was opened."""
        self._path = path
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        try:
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, rubric TEXT, judge TEXT, verdict TEXT NOT NULL)"
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM verdicts")[0][0])

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Be the only task that works on a verdict."""
        lock = self._asking.get(key)
        if lock is None:
            lock = self._asking[key] = asyncio.Lock()
        async with lock:
            yield

    def get(self, key: str) -> Verdict | None:
        """Return the verdict with a key."""
        rows = self._execute("SELECT verdict FROM verdicts WHERE key = ?", key)
        return Verdict(**json.loads(rows[0][0])) if rows else None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict; one that is there stays, so that every reader gets the same."""
        record = json.dumps(verdict.as_record(), ensure_ascii=False)
        self._execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?)", key, verdict.rubric, verdict.judge, record)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _execute(self, statement: str, *values: str) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error) -> StoreError:
        return StoreError(
            f"expected {self._path} to be a cache of verdicts that can be written, got {type(error).__name__}: {error}; "
            "give another path, or delete the file: verdicts are asked for again"
        )
