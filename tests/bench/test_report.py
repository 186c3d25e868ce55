"""The README's tables are the committed result files, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.bench.report import INFER, load_run, readme_tables, with_table
from personalagent.errors import DataError

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_committed_results() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    tables = readme_tables(ROOT / "results")
    assert INFER in tables
    for name, table in tables.items():
        assert with_table(readme, name, table) == readme, name


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(DataError, match="expected the README to hold"):
        with_table("no place for a table", INFER, "| a |")


def test_the_table_goes_between_the_markers() -> None:
    between = "before\n<!-- results:a -->\n{}\n<!-- /results:a -->\nafter"
    assert with_table(between.format("old"), "a", "| new |") == between.format("| new |")


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("{}", "utf-8")
    with pytest.raises(DataError, match="expected 'manifest' and 'summary'"):
        load_run(path)
