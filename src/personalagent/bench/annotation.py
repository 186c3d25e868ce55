"""A sheet on which people judge what a judge judged, without seeing which system wrote it or what the judge said.

Three files: the sheet (CSV: a number, what is judged, an empty column for each criterion, a remark), a guide to the columns beside it, and
the key (CSV), which says what the numbers stand for and which annotators must not see.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from personalagent.bench.verdict_files import VerdictRow
from personalagent.errors import DataError
from personalagent.rubrics import Rubric

ITEM = "item"
REMARK = "remark"
KEY_COLUMNS = (ITEM, "example_id", "system", "rubric", "unit")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run when a cell starts with it."""


def key_path(sheet: Path) -> Path:
    """Return where the key of a sheet is kept: `sheet.csv` -> `sheet.key.csv`."""
    return sheet.with_name(f"{sheet.stem}.key.csv")


def guide_path(sheet: Path) -> Path:
    """Return where the guide to a sheet is kept: `sheet.csv` -> `sheet.md`."""
    return sheet.with_suffix(".md")


def write_sheet(
    rows: Sequence[VerdictRow], rubric: Rubric, sheet: Path, *, key: Path, seed: int = 0, limit: int | None = None
) -> int:
    """Write sheet, guide and key, and return how many items they hold.

    Which rows are taken and their order follow from the seed alone, whatever order they come in. What was to be judged but is
    unscored is on the sheet too: a person may be able to read it.

    Raises:
        DataError: a row does not hold what was judged.
    """
    for row in rows:
        if set(row.fields) != set(rubric.fields):
            raise DataError(
                f"expected {row.example_id} of {row.system!r} to hold the fields {', '.join(rubric.fields)}, "
                f"got {', '.join(row.fields) or 'none'}; export from a file that keeps what was judged"
            )
    chosen = sorted(rows, key=lambda row: row.place)
    random.Random(seed).shuffle(chosen)  # noqa: S311 - an order, not secrets
    chosen = chosen[:limit]
    numbered = [(f"{number:04d}", row) for number, row in enumerate(chosen, 1)]
    criteria = [criterion.name for criterion in rubric.criteria]
    _write(
        sheet,
        [ITEM, *rubric.fields, *criteria, REMARK],
        [[number, *(_inert(row.fields[name]) for name in rubric.fields), *[""] * len(criteria), ""] for number, row in numbered],
    )
    _write(key, KEY_COLUMNS, [[number, row.example_id, row.system, row.rubric, row.unit] for number, row in numbered])
    guide_path(sheet).write_text(guide(rubric), "utf-8")
    return len(numbered)


def guide(rubric: Rubric) -> str:
    """Return what an annotator must know, as Markdown."""
    lines = [f"# {rubric.name}", "", rubric.task, "", "You are shown:", ""]
    lines += [f"- `{name}`: {text}" for name, text in rubric.fields.items()]
    lines += ["", f"Fill in the columns below. Leave one empty where you cannot tell. `{REMARK}` is yours.", ""]
    for criterion in rubric.criteria:
        lines += [f"## {criterion.name}: {criterion.choices}", "", criterion.question, ""]
        lines += [*(f"- **{level.label}**: {level.meaning}" for level in criterion.levels), ""]
    return "\n".join(lines)


def read_sheet(sheet: Path, rubric: Rubric, key: Path | None) -> list[VerdictRow]:
    """Read a filled sheet; an empty cell is left out, and any other column is passed over.

    A sheet that has the columns `example_id` and `system` needs no key. Sheets saved with `;` or tabs, decimal commas or a byte order
    mark are read too.

    Raises:
        DataError: a file cannot be read, a column is missing, an item is not in the key, or a cell is none of the criterion's levels.
    """
    lines = _read(sheet)
    columns = set(lines[0]) if lines else set()
    criteria = [criterion for criterion in rubric.criteria if criterion.name in columns]
    if not criteria:
        wanted = ", ".join(criterion.name for criterion in rubric.criteria)
        raise DataError(f"{sheet}: expected lines with columns of rubric {rubric.name} ({wanted}), got none; check the file")
    has_names = {"example_id", "system"} <= columns
    names = {} if has_names else _key_of(sheet, key or key_path(sheet))
    rows: dict[tuple[str, str, str], VerdictRow] = {}
    for number, line in enumerate(lines, 2):
        where = f"{sheet.name}:{number}"
        named = line if has_names else names.get(line.get(ITEM, "").strip().lstrip("0"))
        if named is None:
            raise DataError(
                f"{where}: expected an item of the key, got {line.get(ITEM)!r}; use the key that was written with the sheet"
            )
        scores = {}
        for criterion in criteria:
            cell = (line[criterion.name] or "").strip()
            score = criterion.read(cell)
            if score is not None:
                scores[criterion.name] = score
            elif cell:
                raise DataError(f"{where}: {criterion.name}: expected {criterion.choices}, got {cell[:40]!r}; correct the cell")
        row = VerdictRow(named["example_id"], named["system"], rubric.name, named.get("unit") or named["example_id"], {}, scores)
        if row.place in rows:
            raise DataError(f"{where}: expected each item once, got {row.example_id} of {row.system!r} twice; remove one line")
        rows[row.place] = row
    return list(rows.values())


def _key_of(sheet: Path, key: Path) -> dict[str, Mapping[str, str]]:
    if not key.is_file():
        raise DataError(
            f"{sheet}: expected its key in {key}, got no file; give it with --key, or add columns example_id and system"
        )
    lines = _read(key)
    if not lines or not set(KEY_COLUMNS) <= set(lines[0]):
        raise DataError(
            f"{key}: expected the columns {', '.join(KEY_COLUMNS)}, got others; give the key that was written with the sheet"
        )
    return {line[ITEM].lstrip("0"): line for line in lines}


def _read(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"expected a CSV file in UTF-8, got {type(error).__name__}: {path}; check the path, or save it as UTF-8"
        ) from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        return [
            {name: cell or "" for name, cell in line.items() if name}
            for line in csv.DictReader(io.StringIO(text), delimiter=delimiter)
        ]
    except csv.Error as error:
        raise DataError(f"expected a CSV file, got one that does not parse: {path} ({error}); save it again") from error


def _write(path: Path, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)


def _inert(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
