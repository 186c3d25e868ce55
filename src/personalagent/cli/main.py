"""The command line: what it offers, and how it fails: one line on standard error, exit code 1, 2 or 3."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from personalagent import __version__
from personalagent.cli import (
    admin,
    agreement,
    assess,
    bench,
    bench_asking,
    bench_publish,
    bench_suite,
    chat,
    config,
    data,
    demo,
    from_store,
    keys,
    model,
    profile,
    replay,
    review,
    serve,
    train,
    train_episodes,
    train_replies,
    train_rewards,
)
from personalagent.cli.doors import parse_settings
from personalagent.cli.terminal import note
from personalagent.errors import PersonalAgentError, UsageError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as every shell has it."""
USAGE = UsageError.exit_code

app = typer.Typer(
    name="personalagent",
    help="A personal agent that learns what one user is like, knows what it does not know, and asks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"personalagent {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting; may be given more than once. See docs/cli.md."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """A personal agent that learns what one user is like, knows what it does not know, and asks."""
    context.obj = parse_settings(settings or ())


app.command()(chat.chat)
app.command()(serve.serve)
app.command()(replay.replay)
app.command()(demo.demo)
app.command()(assess.assess)
profile.app.command()(review.training)
profile.app.command("review")(review.review)
app.add_typer(profile.app, name="profile")
app.add_typer(model.app, name="model")
bench.app.command()(bench_asking.coldstart)
bench.app.command()(bench_asking.closure)
bench.app.command()(bench_asking.transcripts)
bench.app.command()(agreement.judge)
bench.app.command()(agreement.agreement)
bench.app.command()(bench_suite.run)
bench.app.command()(bench_suite.report)
bench.app.command()(bench_publish.publish)
app.add_typer(bench.app, name="bench")
data.app.command("from-store")(from_store.from_store)
app.add_typer(data.app, name="data")
train.app.command()(train_replies.dpo)
train.app.command()(train_rewards.rewards)
train.app.command()(train_episodes.episodes)
app.add_typer(train.app, name="train")
app.add_typer(keys.keys, name="keys")
app.add_typer(keys.jobs, name="jobs")
app.add_typer(config.app, name="config")
app.command()(admin.verify)
app.command()(admin.doctor)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 ok, 1 failed, 2 usage, 3 environment, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given, prog_name="personalagent", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Say on one line what went wrong and return the exit code."""
    if isinstance(error, PersonalAgentError):
        _fail(str(error))
        return error.exit_code
    if hasattr(error, "format_message"):  # click's and typer's own errors, whichever package they come from
        _fail(_usage(error))
        return USAGE
    _fail(
        f"expected no such error, got {type(error).__name__}: a bug of personalagent; run again with --debug first and report it"
    )
    return 1


def _fail(message: str) -> None:
    note(f"error: {' '.join(message.split())}", style="red")


def _usage(error: Any) -> str:
    message = str(error.format_message()).rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command_path", "personalagent")
    return f"{message}; see: {command} --help"
