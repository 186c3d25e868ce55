"""A process that is killed while it judges loses no verdict that it had given."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from personalagent.agent import run_sync
from personalagent.judge import VerdictCache, judge
from personalagent.llm.scripted import ScriptedLLM
from personalagent.rubrics import load_rubric

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def fields(number: int) -> dict[str, str]:
    """Return the n-th thing to be judged."""
    return {"question": "Dinner?", "reply": f"dish {number}"}


def judge_until_killed(cache_path: Path, given_path: Path, start: int) -> None:
    """Judge one thing after another and write down each that was given."""
    cache, llm = VerdictCache(cache_path), ScriptedLLM(lambda messages: '{"reason": "r", "helpful": "yes"}')
    for number in range(start, start + 1_000_000):
        run_sync(judge(load_rubric("prefeval_helpful"), fields(number), llm=llm, cache=cache))
        with given_path.open("a") as file:
            file.write(f"{number}\n")


def test_a_killed_process_loses_no_verdict_it_gave(tmp_path: Path) -> None:
    cache_path, given_path = tmp_path / "verdicts.db", tmp_path / "given"
    rng = random.Random(4)
    for round_ in range(5):
        child = os.fork()
        if child == 0:
            try:
                judge_until_killed(cache_path, given_path, round_ * 10_000)
            finally:
                os._exit(1)
        before = given_path.stat().st_size if given_path.exists() else 0
        deadline = time.monotonic() + 60
        while not given_path.exists() or given_path.stat().st_size == before:
            assert time.monotonic() < deadline, "the child gave no verdict"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    given = [int(line) for line in given_path.read_text().splitlines()]
    assert len(given) >= 5
    cache, silent = VerdictCache(cache_path), ScriptedLLM([])
    for number in given:
        assert run_sync(judge(load_rubric("prefeval_helpful"), fields(number), llm=silent, cache=cache)).score == 1.0
    assert sqlite3.connect(cache_path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
