"""``personalagent bench judge`` and ``bench agreement``: verdicts on what was answered, and how far two judges agree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from personalagent.bench.agreement import summarise_agreement
from personalagent.bench.annotation import guide_path, key_path, read_sheet, write_sheet
from personalagent.bench.manifest import commit, file_sha256
from personalagent.bench.verdict_files import VerdictRow, judge_row, load_verdicts, of_rubric, write_lines
from personalagent.cli.doors import AsJson, settings_of
from personalagent.cli.terminal import counting, emit, note, out
from personalagent.cli.views import plain_table
from personalagent.errors import UsageError
from personalagent.judge import VerdictCache, prompts_sha256
from personalagent.llm.base import LLM, open_llm

Seed = Annotated[int, typer.Option(help="Of the order of the sheet, or of the interval's draws.")]


def judge(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines: example_id, system, unit, rubric, fields.")],
    spec: Annotated[str, typer.Option("--judge", metavar="SPEC", help="The judge, as the setting responder names a model.")],
    output: Annotated[Path, typer.Option("--out", help="Write a verdict a line to this file.")],
    cache: Annotated[Path | None, typer.Option(help="Keep verdicts in this file and take them from it.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Verdicts asked for at once.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Judge what is in a file by the rubric that each line names; what cannot be read is unscored and counted."""
    _refuse_unwritable(output, cache)
    rows = load_verdicts(file)
    llm = open_llm(spec, "judge", settings_of(context))
    lines = asyncio.run(_judge_all(rows, llm, cache, parallel))
    write_lines(output, lines)
    unscored = sum(line["verdict"] is None for line in lines)
    note(f"written to {output}")
    summary = {"judge": llm.name, "judged": len(lines) - unscored, "unscored": unscored}
    if as_json:
        emit(summary)
    else:
        out().print(f"{summary['judged']} judged, {unscored} unscored")


def agreement(
    first: Annotated[Path, typer.Argument(metavar="VERDICTS", help="A file of verdicts (bench judge).")],
    second: Annotated[
        Path | None, typer.Argument(metavar="[VERDICTS|SHEET.csv]", help="Another one, or a sheet that people filled in.")
    ] = None,
    rubric: Annotated[str | None, typer.Option(help="Which rubric, where the file has several.")] = None,
    export: Annotated[Path | None, typer.Option(metavar="SHEET.csv", help="Write a blind sheet instead of comparing.")] = None,
    key: Annotated[Path | None, typer.Option(help="What the sheet's numbers stand for; SHEET.key.csv when left out.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many items on the sheet, drawn by the seed.")] = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option("--out", help="Write manifest and summary to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far two judges, or a judge and people, agree beyond chance (Cohen's kappa); or write a sheet for people."""
    _refuse_unwritable(export, key if export else None, output)
    chosen, rows = of_rubric(load_verdicts(first), rubric)
    if (second is None) == (export is None):
        raise UsageError("expected either a second file to compare with, or --export SHEET.csv, got both or neither; give one")
    if export is not None:
        secret = key or key_path(export)
        _refuse_present(export, secret, guide_path(export))
        count = write_sheet(rows, chosen, export, key=secret, seed=seed, limit=limit)
        note(f"{count} items written to {export}, with {guide_path(export)} as the guide; keep {secret} from the annotators")
        return
    assert second is not None
    is_sheet = second.suffix.lower() == ".csv"
    others = read_sheet(second, chosen, key) if is_sheet else of_rubric(load_verdicts(second), chosen.name)[1]
    summary = summarise_agreement(rows, others, chosen, seed=seed)
    manifest = {
        "task": "bench agreement",
        "commit": commit(),
        "rubric_sha256": chosen.sha256,
        "prompts_sha256": prompts_sha256(),
        "first": {"name": first.name, "sha256": file_sha256(first)},
        "second": {"name": second.name, "sha256": file_sha256(second)},
        "seed": seed,
    }
    report = {"manifest": manifest, "summary": summary}
    if output is not None:
        output.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
        note(f"written to {output}")
    if as_json:
        emit(report)
    else:
        _show(summary)


async def _judge_all(rows: Sequence[VerdictRow], llm: LLM, cache: Path | None, parallel: int) -> list[dict[str, Any]]:
    room = asyncio.Semaphore(parallel)
    kept = VerdictCache(cache) if cache else None
    try:
        with counting("verdicts", len(rows)) as advance:

            async def one(row: VerdictRow) -> dict[str, Any]:
                async with room:
                    line = await judge_row(row, llm=llm, cache=kept)
                advance()
                return line

            return await asyncio.gather(*map(one, rows))
    finally:
        await llm.aclose()
        if kept is not None:
            kept.close()


def _refuse_unwritable(*paths: Path | None) -> None:
    """Say now, not after the run, that something cannot be written."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"expected a file in a folder that exists, got {str(path)!r}; create {str(path.parent)!r} first")


def _refuse_present(*paths: Path) -> None:
    """Keep a sheet from being written over one that somebody has filled in, or over its own key."""
    for path in paths:
        if path.exists() or paths.count(path) > 1:
            raise UsageError(
                f"expected three new files for sheet, key and guide, got {str(path)!r}; name another, or move it away"
            )


def _show(summary: dict[str, Any]) -> None:
    table = plain_table("criterion", "kappa", "95 %", "quadratic", "95 %", "same", "pairs")
    for name, figures in summary["agreement"].items():
        values = (figures[each] for each in ("kappa", "kappa_95", "quadratic_kappa", "quadratic_kappa_95", "observed"))
        table.add_row(name.replace("_", " "), *map(_text, values), str(figures["pairs"]))
    out().print(table)
    note(
        f"{summary['compared']} compared, of {summary['units']} units; unscored {summary['unscored_first']} and "
        f"{summary['unscored_second']}; only in one file {summary['only_first']} and {summary['only_second']}"
    )


def _text(value: float | tuple[float, float] | None) -> str:
    if value is None:
        return "not measured"
    return f"{value[0]:.3f} to {value[1]:.3f}" if isinstance(value, tuple) else f"{value:.3f}"
