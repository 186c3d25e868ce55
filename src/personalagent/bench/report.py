"""Committed results as the Markdown tables that the README shows: files of ``bench infer``, and folders of ``bench publish``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personalagent.bench.report_suite import readme_table
from personalagent.bench.rows import MANIFEST
from personalagent.bench.suite_numbers import load_suite, suite_numbers
from personalagent.errors import DataError

INFER = "infer"
SERVER = "server"


def load_run(path: Path) -> Mapping[str, Any]:
    """Read one result file of ``bench infer``.

    Raises:
        DataError: the file is missing or is not such a file.
    """
    try:
        run = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a result file of `bench infer`, got {path}: {error}; run the benchmark again") from error
    if not isinstance(run, dict) or not {"manifest", "summary"} <= run.keys():
        raise DataError(
            f"expected 'manifest' and 'summary' in {path}, got {sorted(run) if isinstance(run, dict) else type(run).__name__}"
        )
    return run


def infer_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the comparison of runs, one column each; a figure that was not measured is a dash."""
    rows: list[tuple[str, list[str]]] = [
        ("fact F1, group level", [_with_interval(run["summary"]["facts"]["group"]) for run in runs]),
        ("precision / recall", [_pair(run["summary"]["facts"]["group"]) for run in runs]),
        ("fact F1, exact slot", [_number(run["summary"]["facts"]["slot"]["f1"]) for run in runs]),
        ("fact F1, category level", [_number(run["summary"]["facts"]["category"]["f1"]) for run in runs]),
        ("false facts, empty turns of dialogues", [_rate(run, "empty dialogue turns") for run in runs]),
        ("false facts, third-party and hypothetical turns", [_rate(run, "third_party and hypothetical") for run in runs]),
        ("false facts, pasted text", [_rate(run, "pasted") for run in runs]),
        ("updates / retractions found", [_changes(run["summary"]["change"]) for run in runs]),
        ("needs F1", [_number((run["summary"]["needs"] or {}).get("f1")) for run in runs]),
        ("ms a turn, p50 / p95", [_spread(run["summary"]["cost"]["ms"]) for run in runs]),
        ("prompt tokens, p50 / p95", [_spread(run["summary"]["cost"]["prompt_tokens"]) for run in runs]),
        ("completion tokens, p50 / p95", [_spread(run["summary"]["cost"]["completion_tokens"]) for run in runs]),
        ("prompt tokens after 10 / 100 / 1,000 turns of history", [_history(run["summary"]) for run in runs]),
        ("held-out personas / turns in all", [f"{run['summary']['personas']} / {run['summary']['turns']}" for run in runs]),
    ]
    names = [_name(run["manifest"]) for run in runs]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    return "\n".join(lines + [f"| {label} | " + " | ".join(cells) + " |" for label, cells in rows])


def _name(manifest: Mapping[str, Any]) -> str:
    if not manifest["adapter"]:
        return f"base model ({manifest['notation']} prompt)"
    return "trained policy, bfloat16" if manifest["policy"].startswith("transformers") else "trained policy, quantised as served"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(ratio: Mapping[str, Any]) -> str:
    interval = ratio["f1_95"]
    shown = f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else ""
    return f"{_number(ratio['f1'])}{shown}"


def _pair(ratio: Mapping[str, Any]) -> str:
    return f"{_number(ratio['precision'])} / {_number(ratio['recall'])}"


def _rate(run: Mapping[str, Any], kind: str) -> str:
    rate = run["summary"]["false_fact_rate"][kind]
    return "–" if rate["rate"] is None else f"{100 * rate['rate']:.0f} % of {rate['turns']}"


def _changes(change: Mapping[str, Any]) -> str:
    return " / ".join(f"{_number(change[op]['accuracy'])} of {change[op]['gold']}" for op in ("update", "retract"))


def _spread(spread: Mapping[str, float | None]) -> str:
    return f"{_number(spread['p50'], 0)} / {_number(spread['p95'], 0)}"


def _history(summary: Mapping[str, Any]) -> str:
    costs = summary.get("prompt_tokens_after_turns") or {}
    return " / ".join(_number(costs.get(turns), 0) for turns in ("10", "100", "1000"))


def server_table(report: Mapping[str, Any]) -> str:
    """Return what ``benchmarks/proxy_latency.py`` measured as a Markdown table, in milliseconds."""
    latency, streams = report["latency"], report["streams"]
    rows = [
        f"| {name} | {latency[key]['p50_ms']:.1f} | {latency[key]['p95_ms']:.1f} | {latency[key]['p99_ms']:.1f} |"
        for name, key in (("the endpoint itself", "endpoint"), ("through the server", "server"), ("**added**", "added"))
    ]
    begun = f"{1000 * streams['first_event_p50_s']:.0f} | | {1000 * streams['first_event_p99_s']:.0f}"
    held = f"| {streams['streams']} streams at once, {streams['complete']} complete: first event after | {begun} |"
    return "\n".join(["| ms | p50 | p95 | p99 |", "|---|---|---|---|", *rows, held])


def readme_tables(results: Path) -> dict[str, str]:
    """Return every table of the README by its name: ``infer`` from ``infer-*.json``, ``server`` from ``server.json``, and one for each
    folder with runs in it.

    Raises:
        DataError: a file or folder is no run.
        UsageError: runs in one folder were not made alike.
    """
    tables = {INFER: infer_table([load_run(path) for path in sorted(results.glob(f"{INFER}-*.json"))])}
    tables[SERVER] = server_table(json.loads((results / f"{SERVER}.json").read_text("utf-8")))
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        runs = sorted(manifest.parent for manifest in folder.glob(f"*/{MANIFEST}"))
        tables[folder.name] = readme_table(suite_numbers(load_suite(runs)))
    return tables


def with_table(readme: str, name: str, table: str) -> str:
    """Return the README with the table between the markers ``<!-- results:NAME -->`` and ``<!-- /results:NAME -->``.

    Raises:
        DataError: the markers are missing.
    """
    begin, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    before, found, rest = readme.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise DataError(f"expected the README to hold {begin} and {end}, got a text without them; put them where the table goes")
    return f"{before}{begin}\n{table}\n{end}{after}"
