"""A benchmark that is killed anywhere and started again gives the rows and the report of one that was not (kill -9, torn lines)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personalagent.bench import rows as rows_module
from personalagent.bench.report_suite import as_markdown, tables_of
from personalagent.bench.rows import ROWS, Row, RowLog, load_rows, rows_bytes
from personalagent.bench.suite_numbers import load_suite, suite_numbers
from tests.bench.suite import examples_of, run_suite
from tests.conftest import ROOT
from tests.reliability.test_kill import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

DATASET = "prefeval:explicit"
NAMES = ("base", "reminder", "react", "rag", "personal-agent")
CHILD = f"""
import asyncio, sys
from pathlib import Path
from tests.bench.suite import run_suite
print("ready", flush=True)
asyncio.run(run_suite({DATASET!r}, Path(sys.argv[1]), names={NAMES!r}))
"""


def report_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the numbers and the page of a run, without what may differ: seconds and the calls of the judge."""
    suite = load_suite([folder])
    numbers = suite_numbers(suite)
    for block in numbers["blocks"]:
        block["times"] = {}
    tables = tables_of(numbers)
    return numbers, as_markdown(suite, numbers, tables, {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed, one row after the other."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    asyncio.run(run_suite(DATASET, folder, names=NAMES, parallel=1))
    return folder


def identities(folder: Path) -> list[dict[str, Any]]:
    """Return what the rows of a folder say, in their order."""
    return [row.identity for row in load_rows(folder / ROWS)]


def test_killed_at_random_moments_and_gone_on_with(whole: Path, tmp_path: Path) -> None:
    """A process of its own, killed with kill -9 when a random number of further rows is on disk and a random moment has passed."""
    folder, seed, kills = tmp_path / "run", random.Random(5), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    while True:
        done = (folder / ROWS).read_bytes().count(b"\n") if (folder / ROWS).exists() else 0
        wanted = done + seed.randint(0, 12)
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline()
        while child.poll() is None and (not (folder / ROWS).exists() or (folder / ROWS).read_bytes().count(b"\n") < wanted):
            time.sleep(0.0005)
        time.sleep(seed.uniform(0, 0.01))
        child.kill()
        code = child.wait()
        child.stdout.close()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 3
    assert identities(folder) == identities(whole)
    assert report_of(folder) == report_of(whole)


def kill_points(point: int) -> Iterator[None]:
    """Kill this process at its n-th step of putting rows on disk: half a line written, a line written, a line safe, the file replaced."""
    left = point

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, append = os.fsync, RowLog.append

    def torn(log: RowLog, row: Row) -> None:
        if left == 0:
            log._file.write(rows_bytes([row])[:37])
        step()
        append(log, row)
        step()

    def safe(file: int) -> None:
        step()
        fsync(file)

    RowLog.append = torn  # type: ignore[method-assign]
    rows_module.os.fsync = safe
    yield


def test_killed_at_any_step_of_writing_a_row(tmp_path: Path) -> None:
    """Two systems, five examples: every point at which a row is half there, there, or safe, and the last ordering of the file."""
    names, expected = ("base", "reminder"), None
    for point in range(200):
        folder = tmp_path / str(point)

        def work(folder: Path = folder, point: int = point) -> None:
            next(kill_points(point))
            asyncio.run(run_suite(DATASET, folder, names=names, noise=(0,), parallel=3))

        was_killed = in_child(work)
        asyncio.run(run_suite(DATASET, folder, names=names, noise=(0,)))
        found = identities(folder)
        expected = expected or found
        assert [(row["example_id"], row["system"]) for row in found] == [
            (example.example_id, name) for example in examples_of(DATASET) for name in names
        ]
        assert found == expected
        assert all(json.loads(line) for line in (folder / ROWS).read_text("utf-8").splitlines())
        if not was_killed:
            break
    assert 30 < point < 199
