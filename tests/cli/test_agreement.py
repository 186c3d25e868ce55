"""``bench judge`` and ``bench agreement`` from a file of answers to kappa."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Write four answers that are to be judged."""
    path = tmp_path / "items.jsonl"
    lines = [
        {
            "example_id": f"e{n}",
            "system": ("base", "personalagent")[n % 2],
            "unit": f"p{n}",
            "rubric": "prefeval_helpful",
            "fields": {"question": f"Q{n}", "reply": f"A{n}"},
        }
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def judged(cli: Cli, items: Path, name: str, *replies: str, extra: tuple[str, ...] = ()) -> Path:
    """Judge the answers with a judge that says so."""
    script, output = items.with_name(f"{name}.json"), items.with_name(f"{name}.jsonl")
    script.write_text(json.dumps(replies), "utf-8")
    arguments = ("--judge", f"scripted:{script}", "--out", str(output), "--parallel", "1", *extra)
    result = cli("bench", "judge", str(items), *arguments)
    assert result.code == 0, result.err
    return output


def says(*labels: str) -> list[str]:
    """Return what a judge says that gives these labels."""
    return [f'{{"reason": "r", "helpful": "{label}"}}' for label in labels]


def test_two_judges_are_compared(cli: Cli, items: Path, tmp_path: Path) -> None:
    first = judged(cli, items, "first", *says("yes", "yes", "no", "no"))
    second = judged(cli, items, "second", *says("yes", "no", "no", "no"))
    result = cli("bench", "agreement", str(first), str(second), "--out", str(tmp_path / "k.json"), "--json")
    assert result.code == 0, result.err
    report = json.loads((tmp_path / "k.json").read_text("utf-8"))
    # P_o = 3/4, P_e = (2*1 + 2*3)/16 = 1/2: kappa = 1/2
    assert report["summary"]["agreement"]["helpful"]["kappa"] == pytest.approx(0.5)
    assert report["manifest"]["first"]["name"] == "first.jsonl" and report["manifest"]["seed"] == 0
    assert result.json == report
    shown = cli("bench", "agreement", str(first), str(second))
    assert "0.500" in shown.out and "4 compared, of 4 units" in shown.err


def test_what_a_judge_leaves_unscored_is_counted_and_shown(cli: Cli, items: Path) -> None:
    replies = [*says("yes"), "", "", "", *says("no", "no")]
    first = judged(cli, items, "first", *replies)
    lines = [json.loads(line) for line in first.read_text("utf-8").splitlines()]
    assert [line["verdict"] is None for line in lines] == [False, True, False, False]
    result = cli("bench", "agreement", str(first), str(first), "--json")
    assert (result.json["summary"]["unscored_first"], result.json["summary"]["agreement"]["helpful"]["pairs"]) == (1, 3)


def test_a_cache_answers_the_second_time(cli: Cli, items: Path, tmp_path: Path) -> None:
    cache = ("--cache", str(tmp_path / "verdicts.db"))
    first = judged(cli, items, "same", *says("yes", "yes", "no", "no"), extra=cache).read_text("utf-8")
    assert judged(cli, items, "same", extra=cache).read_text("utf-8") == first


def test_a_sheet_is_exported_filled_in_and_compared(cli: Cli, items: Path, tmp_path: Path) -> None:
    first, sheet = judged(cli, items, "first", *says("yes", "yes", "no", "no")), tmp_path / "sheet.csv"
    exported = cli("bench", "agreement", str(first), "--export", str(sheet), "--seed", "3")
    assert exported.code == 0 and "4 items written to" in exported.err
    assert sorted(path.name for path in tmp_path.glob("sheet*")) == ["sheet.csv", "sheet.key.csv", "sheet.md"]
    with sheet.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(line | {"helpful": "yes" if line["reply"] in ("A0", "A1") else "no"} for line in lines)
    result = cli("bench", "agreement", str(first), str(sheet), "--json")
    assert result.json["summary"]["agreement"]["helpful"]["kappa"] == 1.0
    again = cli("bench", "agreement", str(first), "--export", str(sheet))
    assert (again.code, "expected three new files" in again.err) == (2, True), "a filled sheet is not written over"


def test_what_cannot_be_meant_is_refused(cli: Cli, items: Path, tmp_path: Path) -> None:
    first = str(judged(cli, items, "first", *says("yes", "yes", "no", "no")))
    neither = cli("bench", "agreement", first)
    assert (neither.code, "got both or neither" in neither.err) == (2, True)
    absent = cli("bench", "agreement", first, str(tmp_path / "absent.jsonl"))
    assert (absent.code, "expected a readable JSON Lines file" in absent.err) == (2, True)
    nowhere = cli("bench", "agreement", first, first, "--out", str(tmp_path / "absent" / "k.json"))
    assert (nowhere.code, "folder that exists" in nowhere.err) == (2, True)
    itself = cli("bench", "agreement", first, "--export", str(tmp_path / "s.csv"), "--key", str(tmp_path / "s.csv"))
    assert (itself.code, "expected three new files" in itself.err) == (2, True)
