"""``personalagent data``: the corpus, checked, and turned into training examples."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from personalagent.cli.bench import CORPUS, Data
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import emit, note, say
from personalagent.datasets.corpus import load_corpus
from personalagent.datasets.validation import validate
from personalagent.errors import UsageError
from personalagent.train.samples import STAGES, compose

app = typer.Typer(no_args_is_help=True, help="The corpus, checked, and turned into training examples.")
Stage = Annotated[
    Literal["breadth", "gold"], typer.Option(help="breadth: every slot from the bank; gold: mostly what people said.")
]


@app.command()
def synth(
    context: typer.Context,
    data: Data = CORPUS,
    stage: Stage = "breadth",
    seed: Annotated[int, typer.Option(help="Same corpus, same seed, same examples.")] = 0,
    output: Annotated[Path | None, typer.Option("--out", help="The JSON Lines file; standard output when left out.")] = None,
) -> None:
    """Compose training examples of both tasks from the corpus's train split."""
    examples = compose(load_corpus(data), schema_of(settings_of(context)), seed=seed, mixture=STAGES[stage])
    lines = "".join(json.dumps(asdict(example), ensure_ascii=False) + "\n" for example in examples)
    if output is None:
        sys.stdout.write(lines)
    else:
        try:
            output.write_text(lines, "utf-8")
        except OSError as error:
            raise UsageError(
                f"expected a file that can be written, got {error.strerror}: {output}; choose another place"
            ) from error
    counts = Counter(f"{example.task} from {example.origin}" for example in examples)
    note(f"{len(examples)} examples: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


@app.command("validate")
def validate_(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON Lines of dialogues, turns or phrase-bank records.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check corpus files against the schema; exit code 1 where something is wrong."""
    schema = schema_of(settings_of(context))
    report = validate(files, schema)
    if as_json:
        emit(
            {
                "records": report.records,
                "turns": report.turns,
                "empty_turns": report.empty_turns,
                "requests": report.requests,
                "sufficient_requests": report.sufficient_requests,
                "slots": len(report.slots),
                "problems": [{"where": where, "problem": problem} for where, problem in report.problems],
            }
        )
    else:
        for where, problem in report.problems:
            say(f"{where}: {problem}")
        say(
            f"{report.records} records, {report.turns} turns ({report.empty_turns} empty), {report.requests} requests "
            f"({report.sufficient_requests} sufficient), {len(report.slots)} of {len(schema)} slots; {len(report.problems)} problems"
        )
    if report.problems:
        raise typer.Exit(1)
