"""``personalagent config``: which settings hold, and where they come from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from personalagent.cli.doors import AsJson
from personalagent.cli.terminal import emit, say
from personalagent.config import Settings, shown

app = typer.Typer(no_args_is_help=True, help="The settings.")


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting as it holds now, secrets hidden."""
    settings, origins = Settings.load_with_origins(**(context.find_root().obj or {}))
    values = {name: shown(name, getattr(settings, name)) for name in origins}
    if as_json:
        emit([{"name": name, "value": value, "origin": asdict(origins[name])} for name, value in values.items()])
        return
    texts = {name: _text(value) for name, value in values.items()}
    names, widest = max(map(len, texts)), max(map(len, texts.values()))
    for name, text in texts.items():
        say(f"{name:<{names}}  {f'{text:<{widest}}  {origins[name]}' if origin else text}")


def _text(value: object) -> str:
    if value is None:
        return "not set"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
