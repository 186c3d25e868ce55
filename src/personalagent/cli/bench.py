"""``personalagent bench``: how well a policy does, by the same code as serving."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from personalagent.agent import notation_of
from personalagent.bench.infer import Job, NeedsRow, TurnRow, history_cost, jobs_of, run_job, run_requests, summarise
from personalagent.bench.manifest import manifest_of
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import counting, emit, note, out
from personalagent.cli.views import plain_table
from personalagent.config import Settings
from personalagent.datasets.corpus import Corpus, load_corpus
from personalagent.errors import UsageError
from personalagent.inference import Notation
from personalagent.llm.base import LLM, open_llm
from personalagent.llm.models import find_model
from personalagent.schema import ProfileSchema

app = typer.Typer(no_args_is_help=True, help="Measure a policy.")
Data = Annotated[Path, typer.Option("--data", help="The corpus folder.")]
CORPUS = Path("data/corpus")
TIMED = 10
"""Dialogues that run alone where the others run side by side."""


@app.callback()
def bench() -> None:
    """Measure a policy."""


@app.command()
def infer(
    context: typer.Context,
    data: Data = CORPUS,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Which personas.")] = "test",
    limit_dialogues: Annotated[int | None, typer.Option(min=1, help="Only the first so many dialogues.")] = None,
    bank_patterns: Annotated[int, typer.Option(min=0, help="Held-out bank patterns of each kind that reveals nothing.")] = 60,
    policy: Annotated[str | None, typer.Option(help="The policy, as the setting of that name.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="PATH|none|default", help="The LoRA of the embedded policy.")] = None,
    notation: Annotated[
        Literal["compact", "general"] | None, typer.Option(help="What the policy writes; compact where it has an adapter.")
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, help="Dialogues at once; above 1, times are taken on the first ten, which run alone.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Which bank patterns are drawn.")] = 0,
    output: Annotated[Path | None, typer.Option("--out", help="Write manifest, summary and rows to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure profile inference and needs on personas that were never trained on."""
    settings = settings_of(context, policy=policy, adapter=adapter)
    schema = schema_of(settings)
    corpus = _limited(load_corpus(data), split, limit_dialogues)
    refuse_unwritable(output)
    llm = open_llm(settings.policy, "policy", settings)
    written = notation or notation_of(llm)
    started = time.monotonic()
    jobs = jobs_of(corpus, schema, split, bank_patterns=bank_patterns, seed=seed)
    rows, needs, history = asyncio.run(_run(llm, corpus, schema, split, jobs, written, parallel))
    facts = {
        "split": split,
        "notation": written,
        "dialogues": len(corpus.dialogues_of(split)),
        "bank_patterns": bank_patterns,
        "turns": len(rows),
        "requests": len(needs),
        "parallel": parallel,
        "categories": len(schema.categories),
        "slots": len(schema),
        "wall_s": round(time.monotonic() - started, 1),
    }
    manifest = manifest_of("bench infer", policy=llm, weights=weights_of(settings), data=data, seed=seed, facts=facts)
    _report(
        manifest, summarise(rows, needs) | {"prompt_tokens_after_turns": history}, [*rows, *needs], output=output, as_json=as_json
    )


def _report(
    manifest: dict[str, Any], summary: dict[str, Any], rows: Sequence[TurnRow | NeedsRow], *, output: Path | None, as_json: bool
) -> None:
    if output is not None:
        report = {"manifest": manifest, "summary": summary, "rows": list(map(asdict, rows))}
        output.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
        note(f"written to {output}")
    if as_json:
        emit({"manifest": manifest, "summary": summary})
    else:
        _show(summary)


async def _run(
    llm: LLM,
    corpus: Corpus,
    schema: ProfileSchema,
    split: Literal["train", "dev", "test"],
    jobs: list[Job],
    notation: Notation,
    parallel: int,
) -> tuple[list[TurnRow], list[NeedsRow], dict[str, float | None]]:
    """Do the jobs one after the other, so that a turn's time is its own; or the first ten so, and the others side by side."""
    done: dict[int, list[TurnRow]] = {}
    needs: list[NeedsRow] = []
    dialogues = corpus.dialogues_of(split)
    side_by_side = asyncio.Semaphore(parallel)
    try:
        with counting("dialogues and turns", len(jobs)) as advance:

            async def one(number: int, *, alone: bool) -> None:
                async with side_by_side:
                    done[number] = await run_job(jobs[number], llm=llm, schema=schema, notation=notation, alone=alone)
                advance()

            timed = len(jobs) if parallel == 1 else min(TIMED, len(jobs))
            for number in range(timed):
                await one(number, alone=True)
            await asyncio.gather(*(one(number, alone=False) for number in range(timed, len(jobs))))
        with counting("requests, by dialogue", len(dialogues)) as advance:
            for dialogue in dialogues:
                alone = Corpus((dialogue,), (), (), corpus.held_out)
                needs += await run_requests(alone, split, llm=llm, schema=schema, notation=notation)
                advance()
        history = await history_cost(corpus, schema, llm=llm, notation=notation)
    finally:
        await llm.aclose()
    return [row for number in sorted(done) for row in done[number]], needs, history


def _limited(corpus: Corpus, split: Literal["train", "dev", "test"], limit: int | None) -> Corpus:
    """Keep the first dialogues of a split; with a limit, single turns are left out."""
    chosen = corpus.dialogues_of(split)
    if not chosen:
        raise UsageError(f"expected dialogues in the split {split!r} of the corpus, got none; look at its split.json")
    return corpus if limit is None else Corpus(chosen[:limit], (), corpus.bank, corpus.held_out)


def refuse_unwritable(output: Path | None) -> None:
    """Say now, not after the run, that the results cannot be written."""
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"expected --out in a folder that exists, got {str(output)!r}; create {str(output.parent)!r} first")


def weights_of(settings: Settings) -> Path | None:
    kind, _, name = settings.policy.partition(":")
    if kind not in ("embedded", "transformers"):
        return None
    return find_model((kind == "embedded" and name) or settings.embedded_model, settings.models_dir)


def _show(summary: dict[str, Any]) -> None:
    table = plain_table("measure", "value", "95 %", "of")
    for level, ratio in summary["facts"].items():
        for name in ("precision", "recall", "f1"):
            of = ratio["predicted"] if name == "precision" else ratio["gold"]
            table.add_row(
                f"facts, {level}: {name}", text_of(ratio[name]), text_of(ratio["f1_95"]) if name == "f1" else "", str(of)
            )
    for kind, rate in summary["false_fact_rate"].items():
        table.add_row(f"false facts on turns: {kind}", text_of(rate["rate"]), text_of(rate["rate_95"]), str(rate["turns"]))
    for op, change in summary["change"].items():
        table.add_row(f"{op}: accuracy", text_of(change["accuracy"]), "", str(change["gold"]))
    if summary["needs"]:
        for name in ("f1", "asked_the_right_slot", "asks_when_insufficient", "asks_when_sufficient"):
            table.add_row(
                f"needs: {name.replace('_', ' ')}", text_of(summary["needs"][name]), "", str(summary["needs"]["requests"])
            )
    for name, spread in summary["cost"].items():
        table.add_row(f"{name.replace('_', ' ')} a turn: p50, p95", f"{text_of(spread['p50'])}, {text_of(spread['p95'])}", "", "")
    for turns, tokens in summary["prompt_tokens_after_turns"].items():
        table.add_row(f"prompt tokens after {turns} turns: p50", text_of(tokens), "", "")
    table.add_row(
        "outcomes", ", ".join(f"{name} {count}" for name, count in summary["outcomes"].items()), "", str(summary["turns"])
    )
    out().print(table)


def text_of(value: object) -> str:
    if value is None:
        return "not measured"
    return " to ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
