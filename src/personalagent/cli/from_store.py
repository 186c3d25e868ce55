"""``personalagent data from-store``: consented, reviewed sessions as training data."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated

import typer

from personalagent.cli.doors import AsJson, open_profiles, refuse_unknown_user, schema_of, settings_of
from personalagent.cli.terminal import emit, note, say
from personalagent.datasets.own_traffic import own_data, split_file
from personalagent.errors import UsageError


def from_store(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--out", help="The folder to write: turns/own.jsonl and split.json; it must not exist.")
    ],
    user: Annotated[list[str] | None, typer.Option(help="Only this user; may be given more than once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the reviewed sessions of users who consented as turns in the corpus's format, pseudonymised."""
    settings = settings_of(context)
    if output.exists():
        raise UsageError(f"expected a folder that does not exist yet, got {str(output)!r}; delete it or choose another place")
    with open_profiles(settings) as (agent, _):
        for each in user or ():
            refuse_unknown_user(agent.store, each)
        data = own_data(agent.store, schema_of(settings), users=user, rng=random.SystemRandom())
    for reason, count in data.left_out.items():
        note(f"left out: {count} {reason}")
    if not data.records:
        raise UsageError(
            "expected at least one reviewed turn of a user who consented, got none; see `profile review` and `profile training`"
        )
    try:
        (output / "turns").mkdir(parents=True)
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in data.records]
        (output / "turns" / "own.jsonl").write_text("".join(lines), "utf-8")
        (output / "split.json").write_text(json.dumps(split_file(data), indent=1) + "\n", "utf-8")
    except OSError as error:
        raise UsageError(
            f"expected a folder that can be written, got {error.strerror}: {output}; choose another place"
        ) from error
    pairs = sum(bool(record["wrong"]) for record in data.records)
    if as_json:
        emit({"path": str(output), "turns": len(data.records), "pairs": pairs, "users": data.users, "left_out": data.left_out})
    else:
        say(
            f"{output}: {len(data.records)} turns ({pairs} put right) of {data.users} users; pseudonymised, not anonymous: keep it safe"
        )
