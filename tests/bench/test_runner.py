"""What a run does with what goes wrong: a failure is a row, a refusal of everybody ends the run, and it goes on where it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from personalagent.bench.rows import ROWS, VOLATILE, Cell, Row, RowLog, load_rows
from personalagent.bench.runner import cells_of, limited, run_cell, run_cells
from personalagent.bench.systems.base import System, SystemParts, SystemReply, open_system
from personalagent.config import Settings
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.errors import DataError, LLMRefused, LLMTimeout, ModelMissingError, UsageError
from personalagent.llm.base import LLM
from personalagent.llm.scripted import Reply, ScriptedLLM
from tests.bench.suite import POOL, examples_of, run_suite

MCQ, WRITTEN = "prefeval:explicit-mcq", "unseen:test"
BASE: dict[str, System] = {"base": open_system("base", SystemParts(Settings()))}


def one(dataset: str = WRITTEN) -> Cell:
    """The first example, for Base."""
    return Cell("base", examples_of(dataset)[0])


async def run(
    llm: LLM, folder: Path, dataset: str = MCQ, *, parallel: int = 1, again: bool = False, systems: object = None
) -> list[Row]:
    with RowLog(folder, again=again) as log:
        return await run_cells(cells_of(examples_of(dataset), ["base"]), systems or BASE, llm, log, parallel=parallel)  # type: ignore[arg-type]


def failing_at(number: int, problem: Exception) -> Callable[[Sequence[Message]], Reply]:
    """Choose A, but fail at one example."""
    return lambda messages: problem if f"Question number {number}" in messages[-1].content else "A"


async def test_a_failure_is_a_row_with_its_name_and_without_a_score(tmp_path: Path) -> None:
    rows = await run(ScriptedLLM(failing_at(2, LLMTimeout("expected an answer, got none; wait"))), tmp_path)
    assert [row.score for row in rows] == [100, None, 100, 100, 100]
    assert rows[1].error == {"at": "system", "kind": "LLMTimeout", "message": "expected an answer, got none; wait"}
    assert rows[1].text is None and rows[1].spent["request"]["failed_calls"] == 1
    assert load_rows(tmp_path / ROWS) == rows


async def test_a_bug_of_a_system_is_a_row_too(tmp_path: Path) -> None:
    class Broken:
        name, prompts = "base", ()

        async def answer(self, example: Example, llm: LLM) -> SystemReply:
            return {}["nothing"]  # type: ignore[no-any-return]

        async def aclose(self) -> None:
            pass

    rows = await run(ScriptedLLM([]), tmp_path, systems={"base": Broken()})
    assert {(row.error or {})["kind"] for row in rows} == {"KeyError"}


async def test_a_judge_that_fails_leaves_the_reply_and_no_score() -> None:
    row = await run_cell(one(), BASE["base"], ScriptedLLM(["Soup."]), judge_llm=ScriptedLLM([LLMTimeout("slow")]))
    assert (row.text, row.score, row.error) == ("Soup.", None, {"at": "judge", "kind": "LLMTimeout", "message": "slow"})


async def test_a_verdict_that_cannot_be_read_is_unscored_and_no_failure() -> None:
    row = await run_cell(one(), BASE["base"], ScriptedLLM(["Soup."]), judge_llm=ScriptedLLM(["?", "?", "?"]))
    assert row.score is None and row.error is None and "3 attempts" in (row.unscored or "")
    assert row.spent["judge"]["calls"] == 3 and row.spent["request"]["calls"] == 1


async def test_without_a_judge_a_written_answer_is_unscored() -> None:
    row = await run_cell(one(), BASE["base"], ScriptedLLM(["Soup."]))
    assert (row.text, row.score, row.unscored, row.missing) == ("Soup.", None, "no judge was named", one().example.missing)


@pytest.mark.parametrize(
    "problem", [*(LLMRefused("no", status=status) for status in (401, 402, 403, 404, 429)), ModelMissingError("no weights")]
)
async def test_what_would_refuse_everybody_ends_the_run_and_it_can_be_gone_on_with(tmp_path: Path, problem: Exception) -> None:
    with pytest.raises(type(problem)):
        await run(ScriptedLLM(failing_at(3, problem)), tmp_path)
    assert [row.example_id for row in load_rows(tmp_path / ROWS)] == ["prefeval/1", "prefeval/2"]
    llm = ScriptedLLM(lambda messages: "A")
    assert [row.score for row in await run(llm, tmp_path)] == [100] * 5
    assert len(llm.calls) == 3, "what has a row is not asked again"


async def test_a_request_that_is_refused_is_only_its_own_row(tmp_path: Path) -> None:
    rows = await run(ScriptedLLM(failing_at(1, LLMRefused("too long", status=400))), tmp_path)
    assert [row.error is None for row in rows] == [False, True, True, True, True]


async def test_rows_that_failed_are_run_again_where_it_is_asked_for(tmp_path: Path) -> None:
    await run(ScriptedLLM(failing_at(2, LLMTimeout("slow"))), tmp_path)
    assert (await run(ScriptedLLM([]), tmp_path))[1].error is not None
    rows = await run(ScriptedLLM(["B"]), tmp_path, again=True)
    assert [(row.example_id, row.score) for row in rows] == [(f"prefeval/{n}", 0 if n == 2 else 100) for n in range(1, 6)]
    assert load_rows(tmp_path / ROWS) == rows


async def test_the_same_examples_seed_and_endpoint_give_identical_rows(tmp_path: Path) -> None:
    names = ("base", "personal-agent", "membank")
    first = await run_suite(MCQ, tmp_path / "one", names=names, parallel=1)
    second = await run_suite(MCQ, tmp_path / "two", names=names, parallel=7)
    assert [row.identity for row in first] == [row.identity for row in second]
    assert set(first[0].as_record()) - set(first[0].identity) == set(VOLATILE) == {"spent"}


async def test_no_more_is_asked_at_once_than_allowed(tmp_path: Path) -> None:
    now = most = 0

    class Slow(ScriptedLLM):
        async def complete(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return await super().complete(*arguments, **options)  # type: ignore[arg-type]

    await run(Slow(lambda messages: "A"), tmp_path, parallel=3)
    assert most == 3


def test_a_limit_takes_topics_in_turn_and_whole_dialogues() -> None:
    examples = examples_of("prefeval:explicit")
    assert [each.example_id for each in limited(examples, 3)] == ["prefeval/1", "prefeval/3", "prefeval/4"]
    assert limited(examples, None) == limited(examples, 9) == examples
    turns = [replace(each, example_id=f"d{n}/{each.k}") for n in (1, 2) for each in examples_of("aloe")]
    assert limited(turns, 1) == tuple(turns[:5])


def test_cells_stand_by_budget_example_and_system() -> None:
    cells = cells_of(examples_of(MCQ)[:2], ["base", "cot"], noise_tokens=(0, 10), pool=POOL)
    assert [cell.key for cell in cells[:3]] == [(0, "prefeval/1", "base"), (0, "prefeval/1", "cot"), (0, "prefeval/2", "base")]
    assert [len(cell.example.sessions[-1]) for cell in cells] == [1] * 4 + [2] * 4
    with pytest.raises(DataError, match="larger file"):
        cells_of(examples_of(MCQ), ["base"], noise_tokens=(11,), pool=POOL)


async def test_a_torn_line_is_dropped_and_its_row_made_again(tmp_path: Path) -> None:
    rows = await run(ScriptedLLM(lambda messages: "A"), tmp_path)
    data = (tmp_path / ROWS).read_bytes()
    last = len(data.splitlines(keepends=True)[-1])
    for torn in (data[:-1], data[:-5], data[: -last + 1], data[:-last] + b"\0" * 20, data[:-last] + b'{"system"\n'):
        (tmp_path / ROWS).write_bytes(torn)
        assert load_rows(tmp_path / ROWS) == rows[:-1]
        again = await run(ScriptedLLM(["A"]), tmp_path)
        assert [row.identity for row in again] == [row.identity for row in rows]


def test_a_broken_line_in_the_middle_is_not_dropped(tmp_path: Path) -> None:
    asyncio.run(run(ScriptedLLM(lambda messages: "A"), tmp_path))
    lines = (tmp_path / ROWS).read_bytes().splitlines(keepends=True)
    for broken in ([lines[0], b"{}\n", *lines[2:]], [lines[0], b'{"sys\n', *lines[2:]], [*lines, lines[0]]):
        (tmp_path / ROWS).write_bytes(b"".join(broken))
        with pytest.raises(DataError, match=r"rows\.jsonl:"):
            load_rows(tmp_path / ROWS)


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with RowLog(tmp_path), pytest.raises(UsageError, match="no other run"), RowLog(tmp_path):
        pass
