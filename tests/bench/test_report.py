"""The README's tables are the committed result files, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.bench.figures import draw_figures
from personalagent.bench.report import INFER, load_run, readme_tables, with_table
from personalagent.bench.suite_numbers import load_suite, suite_numbers
from personalagent.errors import DataError

ROOT = Path(__file__).parents[2]
DRAWN_WITH = "3.11.2"
"""The matplotlib of constraints.txt."""


def test_the_readme_shows_the_committed_results() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    tables = readme_tables(ROOT / "results")
    assert INFER in tables
    for name, table in tables.items():
        assert with_table(readme, name, table) == readme, name


def test_the_figure_of_long_histories_is_that_of_the_committed_run(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    draw_figures(suite_numbers(load_suite(sorted((ROOT / "results" / "long-histories").iterdir()))), tmp_path)
    shown, drawn = ROOT / "docs" / "figures" / "long-histories.png", tmp_path / "tokens.png"
    if matplotlib.__version__ != DRAWN_WITH:
        pytest.skip(f"another matplotlib than {DRAWN_WITH} draws other bytes")
    assert drawn.read_bytes() == shown.read_bytes()


def test_prompts_stay_flat_over_long_histories_where_base_grows() -> None:
    """From 3,000 to 26,000 inserted tokens."""
    blocks = suite_numbers(load_suite(sorted((ROOT / "results" / "long-histories").iterdir())))["blocks"]
    tokens = {b["noise_tokens"]: {name: cost["request"]["prompt_tokens"] for name, cost in b["cost"].items()} for b in blocks}
    assert max(tokens) == 26_000 and min(tokens) == 0
    assert tokens[26_000]["base"] > 6 * tokens[3_000]["base"]
    assert tokens[26_000]["personal-agent"] < 1.2 * tokens[3_000]["personal-agent"] < 0.05 * tokens[26_000]["base"]


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
