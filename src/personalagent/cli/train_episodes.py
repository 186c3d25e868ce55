"""``personalagent train episodes``: dialogues as the rows that veRL reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from personalagent.cli.bench import CORPUS, Data, refuse_unwritable
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import emit, say
from personalagent.datasets.corpus import load_corpus
from personalagent.errors import EnvironmentProblem, UsageError
from personalagent.train.episode import dialogue_episodes, turn_episodes


def episodes(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    data: Data = CORPUS,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Which personas.")] = "train",
    kind: Annotated[
        Literal["turns", "dialogues"], typer.Option("--episodes", help="Single turns with their profile, or whole dialogues.")
    ] = "dialogues",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write dialogues with their gold as a Parquet file, a row an episode."""
    try:
        from personalagent.train.verl_data import write_rows
    except ImportError as error:
        raise EnvironmentProblem(
            "expected the package that writes Parquet, got no 'datasets'; pip install 'personalagent[verl]' (or [train])"
        ) from error
    refuse_unwritable(output)
    corpus, schema = load_corpus(data), schema_of(settings_of(context))
    found = (dialogue_episodes(corpus, split) if kind == "dialogues" else turn_episodes(corpus, schema, split))[:limit]
    if not found:
        raise UsageError(f"expected {kind} of the split {split!r} in {str(data)!r}, got none; name another split or folder")
    write_rows(found, output)
    facts = {"path": str(output), "episodes": len(found), "turns": sum(len(each.turns) for each in found)}
    if as_json:
        emit(facts)
    else:
        say(f"{output}: {facts['episodes']} episodes, {facts['turns']} turns")
