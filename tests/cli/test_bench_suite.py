"""``bench run`` and ``bench report`` from a data set to a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from personalagent.bench.rows import ROWS, load_rows
from personalagent.bench.suite_manifest import load_manifest
from tests.cli.conftest import Cli
from tests.conftest import ROOT

UNSEEN = ("unseen:test", "--path", str(ROOT / "data" / "unseen"), "--limit", "3", "--systems", "base", "--parallel", "1")


@pytest.fixture
def judge(tmp_path: Path) -> str:
    """A judge that gives 75, 25, and something that nobody can read."""
    path = tmp_path / "judge.json"
    path.write_text(json.dumps([*(json.dumps({"reason": "so", "alignment": level}) for level in ("75", "25")), *["?"] * 3]))
    return f"scripted:{path}"


def test_a_run_is_scored_and_reported(cli: Cli, script: Callable[..., None], judge: str, tmp_path: Path) -> None:
    script("responder", "One.", "Two.", "Three.")
    folder, page = tmp_path / "run", tmp_path / "page"
    done = cli("bench", "run", *UNSEEN, "--judge", judge, "--out", str(folder), "--price", "1000", "2000", "--json")
    assert done.code == 0, done.err
    assert done.json == {"rows": 3, "scored": 2, "unscored": 1, "failed": 0}
    assert "rows: 3 of 3; 0 failed, cost 0.00" in done.err
    assert [row.score for row in load_rows(folder / ROWS)] == [75, 25, None]
    manifest = load_manifest(folder)
    assert manifest["judge"]["spec"] == judge and manifest["policy"] is None and manifest["how"]["price"] == [1000, 2000]
    told = cli("bench", "report", str(folder), "--out", str(page))
    assert told.code == 0, told.err
    assert {"report.md", "report.json", "report.html"} == {path.name for path in page.iterdir()}, (
        "one budget, no turns: no figure"
    )
    assert "| base | 50.0 |" in (page / "report.md").read_text("utf-8")
    assert json.loads((page / "report.json").read_text("utf-8"))["blocks"][0]["scores"]["base"]["unscored"] == 1
    assert "base" in cli("bench", "report", str(folder), "--no-figures").out
    assert cli("bench", "report", str(folder), "--json").json["rows"] == 3


def test_a_published_run_has_the_same_figures_and_none_of_the_words(
    cli: Cli, script: Callable[..., None], judge: str, tmp_path: Path
) -> None:
    script("responder", "A wholly secret reply.", "A wholly secret reply.")
    run, shown = tmp_path / "run", tmp_path / "shown"
    assert cli("bench", "run", *UNSEEN, "--judge", judge, "--out", str(run)).code == 1, "the third reply is missing: it fails"
    assert cli("bench", "publish", str(run), "--out", str(shown), "--json").json == {"path": str(shown), "rows": 3}
    assert b"secret" in (run / ROWS).read_bytes() and b"secret" not in (shown / ROWS).read_bytes()
    figures = [cli("bench", "report", str(folder), "--json").json["blocks"] for folder in (run, shown)]
    assert figures[0] == figures[1] and figures[0][0]["cost"]["base"]["answered"] == 2
    again = cli("bench", "publish", str(run), "--out", str(shown))
    assert again.code == 2 and "a folder that does not exist yet" in again.err


def test_what_is_there_is_not_asked_again_and_another_run_is_refused(
    cli: Cli, script: Callable[..., None], tmp_path: Path
) -> None:
    script("responder", "One.", "Two.", "Three.")
    folder = tmp_path / "run"
    first = cli("bench", "run", *UNSEEN, "--out", str(folder))
    assert first.code == 0 and "3 rows: 0 scored, 3 unscored, 0 failed" in first.out
    again = cli("bench", "run", *UNSEEN, "--out", str(folder))
    assert again.code == 0 and "3 of 3 rows are there; going on" in again.err
    other = cli("bench", "run", *UNSEEN, "--out", str(folder), "--seed", "1")
    assert other.code == 2 and "seed (0 and 1)" in other.err


def test_failures_are_rows_and_the_exit_code_says_so(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    script("responder", "One.")
    done = cli("bench", "run", *UNSEEN, "--out", str(tmp_path / "run"))
    assert done.code == 1 and "2 failed" in done.out
    assert [row.error is None for row in load_rows(tmp_path / "run" / ROWS)].count(True) == 1
    script("responder", "Two.", "Three.")
    again = cli("bench", "run", *UNSEEN, "--out", str(tmp_path / "run"), "--retry-failed")
    assert again.code == 0 and "1 of 3 rows are there" in again.err


def test_noise_and_masks_are_further_cells(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    noise = tmp_path / "noise.json"
    noise.write_text(
        json.dumps([{"role": "user", "content": "How much is two and two?"}, {"role": "assistant", "content": "Four."}])
    )
    script("responder", *["A reply."] * 40)
    script("policy", *["<classification>\nnone\n</classification>"] * 400)
    done = cli(
        "bench", "run", *UNSEEN[:-4], "--systems", "base,personal-agent", "--masks", "3", "--limit", "1", "--noise", "0,5",
        "--noise-file", str(noise), "--parallel", "1", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = load_rows(tmp_path / "run" / ROWS)
    assert [(row.noise_tokens, row.system) for row in rows] == [
        (noise, system) for noise in (0, 5) for system in ("base", "personal-agent", "personal-agent:3")
    ]
    assert load_manifest(tmp_path / "run")["noise_protocol"] == "prefeval"


def test_verdicts_of_a_run_can_be_compared(cli: Cli, script: Callable[..., None], judge: str, tmp_path: Path) -> None:
    script("responder", "One.", "Two.", "Three.")
    assert cli("bench", "run", *UNSEEN, "--judge", judge, "--out", str(tmp_path / "run")).code == 0
    verdicts = str(tmp_path / "run" / "verdicts.jsonl")
    result = cli("bench", "agreement", verdicts, verdicts, "--out", str(tmp_path / "same.json"))
    assert result.code == 0, result.err
    told = cli("bench", "report", str(tmp_path / "run"), "--agreement", str(tmp_path / "same.json"))
    assert "| same | alignment | alignment | 1.000 |" in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("aloe",), "--path"),
        (("unsen", "--path", "x"), "Did you mean 'unseen'"),
        ((*UNSEEN, "--noise", "0,5"), "--noise-file"),
        ((*UNSEEN, "--noise", "0,many"), "--noise as whole numbers"),
        ((*UNSEEN, "--masks", "3,3"), "--masks"),
        ((*UNSEEN[:-4], "--systems", "base,base"), "each once"),
        ((*UNSEEN[:-4], "--systems", "bas"), "Did you mean 'base'"),
        ((*UNSEEN[:-4], "--systems", "rag"), "embedder"),
        ((*UNSEEN, "--responder", "embedded", "--context-tokens", "9000"), "embedded_context_tokens=9000 bench run"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(
    cli: Cli, script: Callable[..., None], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = cli("bench", "run", *arguments, "--out", str(tmp_path / "run"))
    assert result.code == 2 and said in result.err and not (tmp_path / "run").exists()


def test_what_is_no_run_is_told(cli: Cli, tmp_path: Path) -> None:
    assert "without a readable manifest.json" in cli("bench", "report", str(tmp_path)).err
