"""``personalagent model``: the weights of the embedded model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from personalagent.cli.doors import AsJson, settings_of
from personalagent.cli.terminal import downloading, emit, out, say
from personalagent.cli.views import plain_table
from personalagent.config import Settings
from personalagent.errors import ModelMissingError
from personalagent.llm.models import KNOWN, find_model, list_models, pull

app = typer.Typer(no_args_is_help=True, help="The weights of the embedded model.")


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the known models, and whatever else was pulled."""
    from personalagent.llm.embedded import find_adapter  # brings the openai package: most of a second

    settings = settings_of(context)
    shipped = settings.model_copy(update={"adapter": "default"})
    rows = [
        {
            "name": model.name,
            "is_cached": model.is_cached,
            "size_bytes": model.size_bytes,
            "has_adapter": find_adapter(shipped, "policy", model.path) is not None,
            "path": str(model.path),
            "about": model.about,
        }
        for model in list_models(settings.models_dir)
    ]
    if as_json:
        emit(rows)
        return
    table = plain_table("name", "MB", "here", "adapter", "about")
    for row in rows:
        here, adapter = "yes" if row["is_cached"] else "no", "yes" if row["has_adapter"] else "no"
        table.add_row(*map(Text, (str(row["name"]), str(int(str(row["size_bytes"])) // 10**6), here, adapter, str(row["about"]))))
    out().print(table)
    say(f"in {settings.models_dir}", style="dim")


@app.command("pull")
def pull_(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="NAME|PATH|URL", help="What to fetch; the setting embedded_model when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch weights, verify them and keep them; a broken download goes on where it stopped."""
    settings = settings_of(context)
    path = pull_with_bar(source or settings.embedded_model, settings.models_dir)
    if as_json:
        emit({"path": str(path), "size_bytes": path.stat().st_size})
    else:
        say(str(path))


def pull_with_bar(source: str, models_dir: Path) -> Path:
    """Fetch weights with a progress bar on standard error."""
    with downloading(source.rpartition("/")[2]) as progress:
        return pull(source, models_dir=models_dir, progress=progress)


def fetch_missing(settings: Settings) -> None:
    """Pull the embedded model that the settings name, where it is a known one and not on this machine."""
    for spec in dict.fromkeys((settings.policy, settings.responder)):
        kind, _, name = spec.partition(":")
        model = name or settings.embedded_model
        if kind == "embedded" and model in KNOWN:
            try:
                find_model(model, settings.models_dir)
            except ModelMissingError:
                pull_with_bar(model, settings.models_dir)
