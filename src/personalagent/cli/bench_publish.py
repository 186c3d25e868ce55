"""``personalagent bench publish``: a run without the words in it, so that its figures can be passed on where its data may not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personalagent.bench.rows import MANIFEST, ROWS, load_rows, rows_bytes, write_whole
from personalagent.bench.suite_manifest import load_manifest
from personalagent.cli.doors import AsJson
from personalagent.cli.terminal import emit, say
from personalagent.errors import UsageError


def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of bench run.")],
    output: Annotated[Path, typer.Option("--out", help="The folder to write; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Copy a run without replies, questions and traces; `bench report` makes the same tables of it."""
    load_manifest(folder)
    rows = load_rows(folder / ROWS)
    if output.exists():
        raise UsageError(f"expected a folder that does not exist yet, got {str(output)!r}; delete it or choose another place")
    output.mkdir(parents=True)
    write_whole(output / MANIFEST, (folder / MANIFEST).read_bytes())
    write_whole(output / ROWS, rows_bytes(row.without_text for row in rows))
    if as_json:
        emit({"path": str(output), "rows": len(rows)})
    else:
        say(f"{output}: {len(rows)} rows without their texts")
