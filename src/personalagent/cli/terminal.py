"""What the command line prints: results on standard output, everything else on standard error, colour only where it is wanted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import IO, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

Advance = Callable[[], None]
"""Called when one more unit of work is done."""


def out() -> Console:
    """Return standard output."""
    return _console(sys.stdout)


def err() -> Console:
    """Return standard error."""
    return _console(sys.stderr)


def _console(file: IO[str]) -> Console:
    """Open a console that writes no escape codes where NO_COLOR is set, TERM is dumb, or a file is written."""
    return Console(
        file=file, color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False, emoji=False, markup=False
    )


def say(text: str | Text = "", *, style: str | None = None) -> None:
    """Print a line of the result; what users and models wrote cannot move the cursor or colour the screen."""
    line = text if isinstance(text, Text) else Text(printable(text))
    out().print(line, style=style, soft_wrap=True)


def note(text: str, *, style: str | None = None) -> None:
    """Print a line that is not the result."""
    err().print(Text(printable(text)), style=style, soft_wrap=True)


def printable(text: str) -> str:
    """Return the text with every control character but newline and tab shown as U+FFFD."""
    return "".join(char if char in "\n\t" or not _is_control(char) else "\ufffd" for char in text)


def _is_control(char: str) -> bool:
    return ord(char) < 32 or 127 <= ord(char) < 160 or 0x202A <= ord(char) <= 0x202E or 0x2066 <= ord(char) <= 0x2069


def emit(value: object, *, indent: int | None = 2) -> None:
    """Print a value as JSON; ``indent=None`` gives one line, as in JSON Lines."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value)
    return str(value)


@contextmanager
def counting(title: str, total: int) -> Iterator[Advance]:
    """Show a bar with the time left on standard error, where that is a terminal; without one, a line at the start."""
    console = err()
    if not console.is_terminal:
        note(f"{title}: {total}")
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def downloading(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar of bytes on standard error; without a terminal, a line for every tenth part."""
    console = err()
    if not console.is_terminal:
        yield _tenths(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _tenths(title: str) -> Callable[[int, int | None], None]:
    reached = -1

    def report(done: int, total: int | None) -> None:
        nonlocal reached
        tenth = 10 * done // total if total else done // 10**8
        if tenth > reached:
            reached = tenth
            of = f" of {total // 10**6}" if total else ""
            note(f"{title}: {done // 10**6}{of} MB")

    return report


def waiting() -> AbstractContextManager[object]:
    """Show on standard error that something is under way, where that is a terminal."""
    console = err()
    return console.status("…", spinner="dots") if console.is_terminal else nullcontext()
