"""The report of stored runs: tables like the paper's 1, 2, 3 and 5, what was spent, and pages to read them on."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personalagent.bench.suite_numbers import BASE, Numbers, Suite
from personalagent.datasets.prefeval import GROUPS
from personalagent.errors import DataError

DASH = "–"
CAUTION = (
    "These numbers were made with the models named here. They stand beside each other, not beside the paper's, "
    "which were made with other models and other judges."
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the report. Every row has a cell for each column of the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def as_markdown(self) -> str:
        """Return the table with its title and note."""
        lines = [_line(self.header), "|" + "---|" * len(self.header), *map(_line, self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(["", self.note] if self.note else [])])

    def as_html(self) -> str:
        """Return the table with its title and note."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<h2>{html.escape(self.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def tables_of(numbers: Numbers, agreements: Mapping[str, Mapping[str, Any]] | None = None) -> list[Table]:
    """Return the tables in the order of the paper, then what was spent; a table without rows is left out."""
    blocks = numbers["blocks"]
    tables = [
        *(_overview(blocks, budget) for budget in sorted({block["noise_tokens"] for block in blocks})),
        *(_scores(block) for block in blocks),
        *(_alignment(block) for block in blocks if block["alignment"]),
        *([_agreement(agreements)] if agreements else []),
        *([_masks(blocks)] if any(len(block["masks"]) > 1 for block in blocks) else []),
        *(_errors(block) for block in blocks if block["errors"]),
        *(_asking(block) for block in blocks if block["asking"]),
        *(_cost(block) for block in blocks),
        *(_times(block) for block in blocks),
    ]
    return [table for table in tables if table.rows]


def readme_table(numbers: Numbers) -> str:
    """Return scores and prompt tokens, a line for each budget and system, as Markdown: the figures of the report, fewer of them."""
    header = ("system", "inserted tokens", "score", "95 %", "prompt tokens of a request", "to read the history", "examples")
    rows = []
    for block in numbers["blocks"]:
        for system, each in block["scores"].items():
            cost = block["cost"][system]
            tokens = (number(cost[part]["prompt_tokens"], 0) for part in ("request", "history"))
            left_out = each["unscored"] + each["failed"]
            examples = str(each["rows"]) + (f", {left_out} without a score" if left_out else "")
            score = (number(each["average"]), interval(each["average_95"]))
            rows.append((system, f"{block['noise_tokens']:,}", *score, *tokens, examples))
    return "\n".join([_line(header), "|" + "---|" * len(header), *map(_line, rows)])


def load_agreements(files: Iterable[Path]) -> dict[str, Mapping[str, Any]]:
    """Read result files of `bench agreement`, by name.

    Raises:
        DataError: a file is missing or is something else.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for file in files:
        try:
            found[file.stem] = json.loads(file.read_text("utf-8"))["summary"]
            _ = found[file.stem]["agreement"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"expected a file that `bench agreement --out` wrote, got {str(file)!r}: {error}; name another"
            ) from error
    return found


def as_markdown(suite: Suite, numbers: Numbers, tables: Sequence[Table], figures: Mapping[str, str]) -> str:
    """Return the report as Markdown; ``figures`` are titles by the name of the file beside it, without its ending."""
    parts = ["# Benchmark report", "\n".join(f"- {line}" for line in facts_of(suite, numbers)), CAUTION]
    parts += [table.as_markdown() for table in tables]
    parts += [f"## {title}\n\n![{title}]({name}.png)" for name, title in figures.items()]
    return "\n\n".join(parts) + "\n"


def as_html(suite: Suite, numbers: Numbers, tables: Sequence[Table], figures: Mapping[str, str], folder: Path) -> str:
    """Return the report as one page that holds its figures."""
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in facts_of(suite, numbers))
    drawn = "".join(
        f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" src="data:image/svg+xml;base64,'
        f'{base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()}">'
        for name, title in figures.items()
    )
    body = "".join(table.as_html() for table in tables)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Benchmark report</title><style>{STYLE}</style></head><body><h1>Benchmark report</h1><ul>{facts}</ul>"
        f"<p>{html.escape(CAUTION)}</p>{body}{drawn}</body></html>\n"
    )


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.25rem .75rem;border-bottom:1px solid #ccc;"
    "text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def facts_of(suite: Suite, numbers: Numbers) -> list[str]:
    """Say what was run, with which models, and what is missing."""
    manifests = list(suite.manifests.values())

    def named(role: str) -> str:
        specs = sorted({manifest[role]["spec"] for manifest in manifests if manifest.get(role)})
        return ", ".join(specs) or "none"

    missing = numbers["rows_expected"] - numbers["rows"]
    rows = [row for block in numbers["blocks"] for row in block["scores"].values()]
    lines = [
        f"Responder: {named('responder')}; policy: {named('policy')}; judge: {named('judge')}; embedder: {named('embedder')}",
        f"Commit: {', '.join(sorted({manifest['commit'] for manifest in manifests}))}; "
        f"seed: {', '.join(sorted({str(manifest['seed']) for manifest in manifests}))}; "
        f"machine: {', '.join(sorted({manifest['machine'] for manifest in manifests}))}",
        f"Rows: {numbers['rows']}; scored {sum(row['scored'] for row in rows)}, unscored {sum(row['unscored'] for row in rows)}, "
        f"failed {sum(row['failed'] for row in rows)}",
    ]
    if missing:
        lines.append(f"NOT FINISHED: {missing} of {numbers['rows_expected']} rows are missing")
    if suite.accepted:
        lines.append(f"The runs differ in: {', '.join(suite.accepted)}")
    return lines


def _title(number: str, what: str, block: Numbers) -> str:
    return f"{number}{what}: {block['dataset']}, {block['noise_tokens']:,} inserted tokens"


def _overview(blocks: Sequence[Numbers], budget: int) -> Table:
    blocks = [block for block in blocks if block["noise_tokens"] == budget]
    systems = dict.fromkeys(system for block in blocks for system in block["scores"])
    rows = []
    for system in systems:
        cells = []
        for block in blocks:
            each = block["scores"].get(system, {})
            cells += [number(each.get("average")), interval(each.get("average_95"))]
        rows.append((system, *cells))
    header = ("system", *(name for block in blocks for name in (block["dataset"], "95 %")))
    return Table(f"Table 1. Systems by data set, {budget:,} inserted tokens", header, tuple(rows) if len(blocks) > 1 else ())


def _scores(block: Numbers) -> Table:
    is_macro = block["is_macro_average"]
    found = {group for each in block["scores"].values() for group in each["groups"]}
    groups = [*(group for group in GROUPS if group in found), *sorted(found - {*GROUPS})]
    header = ("system", *groups, "average" if is_macro else "mean", "95 %", "minus Base", "95 %", "scored", "unscored", "failed")
    rows = []
    for system, each in block["scores"].items():
        difference = each["minus_base"] or {}
        rows.append(
            (
                system,
                *(number(each["groups"].get(group)) for group in groups),
                number(each["average"]),
                interval(each["average_95"]),
                signed(difference.get("difference")),
                interval(difference.get("interval_95")),
                *(str(each[name]) for name in ("scored", "unscored", "failed")),
            )
        )
    what = "Every example counts the same."
    if is_macro or block["alignment"]:
        what = f"The figure is the mean of the {'topic groups' if is_macro else 'turns'}."
    if BASE in block["scores"]:
        what += " Minus Base: paired, on the examples that both have a score for."
    note = f"{what} 95 % percentile bootstrap over units, 1,000 draws."
    return Table(_title("Table 1, in detail. ", "Scores", block), header, tuple(rows), note)


def _alignment(block: Numbers) -> Table:
    turns = max((len(each["levels"]) for each in block["alignment"].values()), default=0)
    header = (
        "system",
        *(f"k={k}" for k in range(1, turns + 1)),
        "mean",
        "95 %",
        "area",
        "80 % at k",
        "IR",
        "R²",
        "N-IR",
        "N-R²",
        "unscored",
    )
    rows = tuple(
        (
            system,
            *(number(level) for level in (*each["levels"], *[None] * (turns - len(each["levels"])))),
            number(each["mean"]),
            interval(each["mean_95"]),
            number(each["area"]),
            DASH if each["turns_to_80"] is None else str(each["turns_to_80"]),
            *(number(each[name], 3) for name in ("rate", "r2", "normalised_rate", "normalised_r2")),
            str(each["unscored"]),
        )
        for system, each in block["alignment"].items()
    )
    note = (
        "N-IR and N-R² are degenerate (any strictly rising curve of ten turns has 0.0545 and 0.2727): they do not rank systems."
    )
    return Table(_title("Table 2. ", "AL(k)", block), header, rows, note)


def _agreement(agreements: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = tuple(
        (name, summary["rubric"], criterion, number(each["kappa"], 3), interval(each["kappa_95"], 3),
         number(each["quadratic_kappa"], 3), number(each["observed"], 3), str(each["pairs"]))
        for name, summary in agreements.items()
        for criterion, each in summary["agreement"].items()
    )  # fmt: skip
    header = ("file", "rubric", "criterion", "kappa", "95 %", "quadratic", "same", "pairs")
    return Table("Table 3. Cohen's kappa", header, rows)


def _masks(blocks: Sequence[Numbers]) -> Table:
    blocks = [block for block in blocks if len(block["masks"]) > 1]
    columns = [f"{block['dataset']}, {block['noise_tokens']:,} inserted" for block in blocks]
    sizes = sorted({int(size) for block in blocks for size in block["masks"]})
    rows = []
    for size in sizes:
        cells = []
        for block in blocks:
            each = block["masks"].get(str(size), {})
            cells += [number(each.get("average")), interval(each.get("average_95"))]
        rows.append((str(size), *cells))
    header = ("categories", *(name for column in columns for name in (column, "95 %")))
    return Table("Table 5. PersonalAgent by the categories it sees", header, tuple(rows))


def _errors(block: Numbers) -> Table:
    names = ("unhelpful", "unaware", "hallucinated", "inconsistent", "unnamed")
    rows = tuple((system, *(str(each.get(name, 0)) for name in names)) for system, each in block["errors"].items())
    return Table(_title("", "Errors", block), ("system", *names), rows)


def _asking(block: Numbers) -> Table:
    rows = tuple(
        (
            system,
            *(number(each[name], 2) for name in ("ask_recall", "over_ask", "ask_f1")),
            str(each["due"]),
            str(each["not_due"]),
        )
        for system, each in block["asking"].items()
    )
    note = "Asked where something that decides the answer was missing, and where nothing was; which slot was asked for is not looked at."
    return Table(_title("", "Asking", block), ("system", "ask recall", "over-ask", "ask F1", "due", "not due"), rows, note)


def _cost(block: Numbers) -> Table:
    rows = []
    for system, each in block["cost"].items():
        at_least = "≥ " if each["calls_without_usage"] else ""
        cells = [at_least + number(each[part][name], 1 if name == "calls" else 0)
                 for part in ("request", "history") for name in ("calls", "prompt_tokens", "completion_tokens")]  # fmt: skip
        rows.append((system, *cells, number(_embedded(each), 0), str(each["answered"]), str(each["cut"])))
    parts = [f"{part}: {name}" for part in ("request", "history") for name in ("calls", "prompt tokens", "completion tokens")]
    note = (
        "Means of a request; history is what was read beforehand, a turn at a time. Cut: rows whose history did not fit into the context. "
        "≥: the endpoint did not report the tokens of every call."
    )
    return Table(
        _title("", "Calls and tokens", block), ("system", *parts, "embedded tokens", "answered", "cut"), tuple(rows), note
    )


def _embedded(each: Numbers) -> float | None:
    parts = [each[part]["embedding_tokens"] for part in ("request", "history")]
    return None if None in parts else sum(parts)


def _times(block: Numbers) -> Table:
    rows = tuple(
        (
            system,
            number(each["request_s"], 2),
            number(each["history_s"], 2),
            number(each["embedding_s"], 2),
            *(str(each[name]) for name in ("failed_calls", "judge_calls", "judge_prompt_tokens", "judge_completion_tokens")),
        )
        for system, each in block["times"].items()
    )
    header = (
        "system",
        "request: s",
        "history: s",
        "embedding: s",
        "failed calls",
        "judge: calls",
        "judge: prompt tokens",
        "judge: completion tokens",
    )
    note = (
        "Means of a request. Seconds of the calls, waiting for a busy endpoint included: compare them where a run asked one thing at a time (--parallel 1). "
        "These figures are not the same when a run is made again."
    )
    return Table(_title("", "Seconds, and the judge", block), header, rows, note)


def number(value: float | None, digits: int = 1) -> str:
    """Write a figure; what was not measured is a dash."""
    return DASH if value is None else f"{value:,.{digits}f}"


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    return DASH if value is None else f"{value:+.1f}"


def interval(value: Sequence[float] | None, digits: int = 1) -> str:
    """Write an interval."""
    return DASH if value is None else f"{value[0]:.{digits}f} to {value[1]:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
