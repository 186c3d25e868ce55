"""Runs systems over examples: side by side, resumable after any kill, and never a failure for a score.

```python
cells = cells_of(examples, ["base", "personal-agent"], noise)
with RowLog(folder) as log:
    rows = await run_cells(cells, systems, llm, log, judge_llm=judge_llm, cache=cache)
```
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from personalagent.bench.metering import MeteredLLM, Phase, Spent
from personalagent.bench.rows import Cell, Row, RowLog
from personalagent.bench.scoring import Grade, grade
from personalagent.bench.systems.base import System, SystemReply
from personalagent.datasets.example import Example
from personalagent.datasets.noise import NoisePool, NoiseProtocol, with_noise
from personalagent.errors import EnvironmentProblem, LLMError, LLMRefused
from personalagent.judge import VerdictCache
from personalagent.llm.base import LLM

HOPELESS = frozenset({401, 402, 403, 404, 429})
"""With these an endpoint will refuse every other request too: key, payment, right, model name, quota. The run ends, to be gone on with."""


def limited(examples: Sequence[Example], limit: int | None) -> tuple[Example, ...]:
    """Return so many examples, one topic after the other in turn, in their own order; of dialogues, so many whole ones."""
    if limit is None:
        return tuple(examples)
    topics: dict[str, dict[str, list[int]]] = {}
    for place, example in enumerate(examples):
        whole = example.example_id if example.k is None else example.example_id.rpartition("/")[0]
        topics.setdefault(example.topic, {}).setdefault(whole, []).append(place)
    queues = [list(groups.values()) for groups in topics.values()]
    taken: list[int] = []
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue) and limit > 0:
                taken += queue[turn]
                limit -= 1
    return tuple(examples[place] for place in sorted(taken))


def cells_of(
    examples: Iterable[Example],
    systems: Sequence[str],
    *,
    noise_tokens: Sequence[int] = (0,),
    pool: NoisePool | None = None,
    protocol: NoiseProtocol = NoiseProtocol.PREFEVAL,
    seed: int = 0,
) -> list[Cell]:
    """Return the cells of a run in the order of its rows: budget, example, system. All systems of an example stand together.

    Raises:
        DataError: the pool cannot fill a budget.
    """
    examples = tuple(examples)
    empty = NoisePool(())
    return [
        Cell(system, noisy, budget)
        for budget in noise_tokens
        for example in examples
        for noisy in [with_noise(example, pool or empty, budget, protocol=protocol, seed=seed)]
        for system in systems
    ]


async def run_cells(
    cells: Sequence[Cell],
    systems: Mapping[str, System],
    llm: LLM,
    log: RowLog,
    *,
    judge_llm: LLM | None = None,
    cache: VerdictCache | None = None,
    parallel: int = 4,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Run the cells that have no row yet, so many at once, and return all rows in the order of the cells.

    Raises:
        LLMRefused: an endpoint refuses everybody (HOPELESS).
        EnvironmentProblem: the machine is at fault, not an endpoint. What was done is on disk.
    """
    todo = iter([cell for cell in cells if cell.key not in log.rows])

    async def work(cells_left: Iterator[Cell]) -> None:
        for cell in cells_left:
            row = await run_cell(cell, systems[cell.system], llm, judge_llm=judge_llm, cache=cache)
            log.append(row)
            on_row(row)

    tasks = [asyncio.create_task(work(todo)) for _ in range(parallel)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return log.finish([cell.key for cell in cells])


async def run_cell(
    cell: Cell, system: System, llm: LLM, *, judge_llm: LLM | None = None, cache: VerdictCache | None = None
) -> Row:
    """Let a system answer and score the reply; whatever fails is in the row.

    Raises:
        EnvironmentProblem: as ``run_cells``.
    """
    metered = MeteredLLM(llm)
    judging = MeteredLLM(judge_llm) if judge_llm else None
    started = time.perf_counter()
    reply: SystemReply | None = None
    graded = Grade()
    error: dict[str, str] | None = None
    try:
        reply = await system.answer(cell.example, metered)
        graded = await grade(cell.example, reply.text, judge_llm=judging, cache=cache)
    except Exception as problem:
        if _is_hopeless(problem):
            raise
        error = {"at": "system" if reply is None else "judge", "kind": type(problem).__name__, "message": str(problem)}
    spent = {
        "history": asdict(metered.meter.spent(Phase.HISTORY)),
        "request": asdict(metered.meter.spent(Phase.REQUEST)),
        "judge": asdict(judging.meter.total if judging else Spent()),
        "seconds": time.perf_counter() - started,
    }
    return _row(cell, reply, graded, error, spent)


def _is_hopeless(problem: Exception) -> bool:
    if isinstance(problem, LLMRefused):
        return problem.status in HOPELESS
    return isinstance(problem, EnvironmentProblem) and not isinstance(problem, LLMError)


def _row(cell: Cell, reply: SystemReply | None, graded: Grade, error: dict[str, str] | None, spent: Mapping[str, object]) -> Row:
    example = cell.example
    return Row(
        system=cell.system,
        example_id=example.example_id,
        noise_tokens=cell.noise_tokens,
        dataset=example.dataset,
        unit=example.unit,
        topic=example.topic,
        k=example.k,
        missing=example.missing,
        text=reply.text if reply else None,
        question=reply.question if reply else None,
        trace=reply.trace if reply else (),
        cut_messages=reply.cut_messages if reply else 0,
        choice=graded.choice,
        right=example.right,
        score=graded.score,
        verdict=graded.verdict,
        unscored=graded.unscored,
        error=error,
        spent=spent,
    )
