"""The blind sheet: what annotators see, what they must not, and how it is read back."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from personalagent.bench.annotation import guide_path, key_path, read_sheet, write_sheet
from personalagent.bench.verdict_files import VerdictRow
from personalagent.errors import DataError
from personalagent.rubrics import load_rubric

RUBRIC = load_rubric("prefeval_helpful")
ROWS = [
    VerdictRow(f"e{n}", system, RUBRIC.name, f"p{n}", {"question": f"Question {n}?", "reply": f"Reply {n}{i}"}, {"helpful": 1.0})
    for n in range(10)
    for i, system in enumerate(("base", "personalagent"))
]


def read(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(folder: Path, rows: list[VerdictRow] = ROWS, *, seed: int = 0, limit: int | None = None) -> list[dict[str, str]]:
    """Write a sheet and return its lines."""
    sheet = folder / "sheet.csv"
    assert write_sheet(rows, RUBRIC, sheet, key=key_path(sheet), seed=seed, limit=limit) == min(limit or 20, len(rows))
    return read(sheet)


def fill(folder: Path, lines: list[dict[str, str]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Write the lines as a spreadsheet would save them."""
    path = folder / "filled.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_a_sheet_shows_what_was_judged_and_neither_system_nor_verdict(tmp_path: Path) -> None:
    lines = write(tmp_path)
    assert list(lines[0]) == ["item", "question", "reply", "helpful", "remark"]
    assert all(line["helpful"] == line["remark"] == "" for line in lines)
    text = (tmp_path / "sheet.csv").read_text("utf-8")
    assert not any(word in text for word in ("base", "personalagent", "e1", "p1"))
    key = read(key_path(tmp_path / "sheet.csv"))
    assert {(line["example_id"], line["system"]) for line in key} == {(row.example_id, row.system) for row in ROWS}
    guide = guide_path(tmp_path / "sheet.csv").read_text("utf-8")
    assert all(level.meaning in guide for level in RUBRIC.criteria[0].levels)


def test_the_order_follows_from_the_seed_alone(tmp_path: Path) -> None:
    shown = [line["reply"] for line in write(tmp_path)]
    assert shown != [row.fields["reply"] for row in ROWS] and sorted(shown) == sorted(row.fields["reply"] for row in ROWS)
    assert [line["reply"] for line in write(tmp_path, ROWS[::-1])] == shown
    assert [line["reply"] for line in write(tmp_path, seed=1)] != shown
    assert [line["reply"] for line in write(tmp_path, limit=5)] == shown[:5]


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_filled_sheet_is_read_back_however_it_was_saved(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = write(tmp_path)
    for number, line in enumerate(lines):
        line |= {"item": str(int(line["item"])), "helpful": ("Yes", "no", "")[number % 3], "remark": "hm; well, no"}
    rows = read_sheet(fill(tmp_path, lines, delimiter=delimiter, encoding=encoding), RUBRIC, tmp_path / "sheet.key.csv")
    by_reply = {(row.example_id, row.system): row.fields["reply"] for row in ROWS}
    assert [by_reply[row.example_id, row.system] for row in rows] == [line["reply"] for line in lines]
    assert [row.scores for row in rows[:3]] == [{"helpful": 1.0}, {"helpful": 0.0}, {}]
    assert {(row.example_id, row.unit) for row in rows} == {(row.example_id, row.unit) for row in ROWS}


def test_a_table_that_names_examples_and_systems_needs_no_key(tmp_path: Path) -> None:
    filled = fill(tmp_path, [{"example_id": "e1", "system": "base", "helpful": "no"}])
    assert read_sheet(filled, RUBRIC, None) == [VerdictRow("e1", "base", RUBRIC.name, "e1", {}, {"helpful": 0.0})]


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    filled = fill(tmp_path, [{"example_id": "e1", "system": "s", "safety": "0,5"}], delimiter=";")
    assert read_sheet(filled, load_rubric("profile_accuracy"), None)[0].scores == {"safety": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"helpful": "perhaps"}, r"filled\.csv:2: helpful: expected no or yes, got 'perhaps'; correct the cell"),
        ({"item": "99"}, r"filled\.csv:2: expected an item of the key, got '99'"),
        ({"item": "2"}, r"filled\.csv:3: expected each item once"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    lines = write(tmp_path)
    lines[0] |= change
    with pytest.raises(DataError, match=message):
        read_sheet(fill(tmp_path, lines), RUBRIC, tmp_path / "sheet.key.csv")


def test_a_missing_key_or_another_rubrics_sheet_says_so(tmp_path: Path) -> None:
    filled = fill(tmp_path, write(tmp_path))
    with pytest.raises(DataError, match=r"expected its key in .*filled\.key\.csv, got no file; give it with --key"):
        read_sheet(filled, RUBRIC, None)
    with pytest.raises(DataError, match="expected lines with columns of rubric alignment"):
        read_sheet(filled, load_rubric("alignment"), None)


def test_what_a_spreadsheet_would_run_stays_text(tmp_path: Path) -> None:
    row = VerdictRow(
        "e1", "base", RUBRIC.name, "p1", {"question": "+1?", "reply": '=HYPERLINK("http://x")\nsecond line, "quoted"'}
    )
    (line,) = write(tmp_path, [row], limit=1)
    assert (line["question"], line["reply"]) == ("'+1?", '\'=HYPERLINK("http://x")\nsecond line, "quoted"')


def test_rows_that_do_not_hold_what_was_judged_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="to hold the fields question, reply, got none"):
        write(tmp_path, [VerdictRow("e1", "base", RUBRIC.name)])
