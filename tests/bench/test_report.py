"""The README's table is the committed result files, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.bench.report import BEGIN, END, infer_table, load_run, with_table
from personalagent.errors import DataError

ROOT = Path(__file__).parents[2]
RUNS = sorted((ROOT / "results").glob("infer-*.json"))


def test_the_readme_shows_the_committed_results() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = infer_table([load_run(path) for path in RUNS]) if RUNS else "Not measured yet."
    assert with_table(readme, table) == readme


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(DataError, match="expected the README to hold"):
        with_table("no place for a table", "| a |")


def test_the_table_goes_between_the_markers() -> None:
    assert with_table(f"before\n{BEGIN}\nold\n{END}\nafter", "| new |") == f"before\n{BEGIN}\n| new |\n{END}\nafter"


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("{}", "utf-8")
    with pytest.raises(DataError, match="expected 'manifest' and 'summary'"):
        load_run(path)
