"""The figures of a report, as PNG and SVG; needs the extra ``bench`` (matplotlib). The same numbers give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from personalagent.bench.suite_numbers import Numbers
from personalagent.errors import UsageError

COLOURS = 10
MARKERS = "osD^vPX<>*hp"
SIZE = (6.4, 4.2)
"""Of one panel, in inches."""
COLUMNS = 2
Panel = tuple[str, Mapping[str, Sequence["Point"]]]
"""A title, and the points of each line."""
Point = tuple[float, float | None, Sequence[float] | None]
"""x, y and the interval of y."""


def draw_figures(numbers: Numbers, folder: Path) -> dict[str, str]:
    """Draw what the numbers have, and return the figures' titles by the names of their files.

    Raises:
        UsageError: matplotlib is not installed.
    """
    drawn: dict[str, str] = {}
    figures: Sequence[tuple[str, str, str, str, Callable[[Sequence[Numbers]], list[Panel]]]] = (
        ("alignment", "Alignment level over turns", "turn k", "AL(k)", alignment_panels),
        ("masks", "Score by the categories that PersonalAgent sees", "categories", "score", mask_panels),
        ("noise", "Score by inserted tokens", "inserted tokens", "score", noise_panels),
        ("tokens", "Prompt tokens of a request by inserted tokens", "inserted tokens", "prompt tokens", token_panels),
    )
    for name, title, x_label, y_label, panels_of in figures:
        panels = panels_of(numbers["blocks"])
        if panels:
            _draw(folder / name, panels, x_label, y_label)
            drawn[name] = title
    return drawn


def alignment_panels(blocks: Sequence[Numbers]) -> list[Panel]:
    """Return AL(k) of every system, a panel for each data set and budget with turns."""
    return [
        (
            _title(block),
            {
                system: [(float(k), level, None) for k, level in enumerate(each["levels"], 1)]
                for system, each in block["alignment"].items()
            },
        )
        for block in blocks
        if block["alignment"]
    ]


def mask_panels(blocks: Sequence[Numbers]) -> list[Panel]:
    """Return one panel with a line for each data set and budget that was run with several masks."""
    lines = {
        _title(block): [(float(size), each["average"], each["average_95"]) for size, each in block["masks"].items()]
        for block in blocks
        if len(block["masks"]) > 1
    }
    return [("", lines)] if lines else []


def noise_panels(blocks: Sequence[Numbers]) -> list[Panel]:
    """Return the score of every system by inserted tokens, a panel for each data set with several budgets."""

    def points(system: str, several: Iterable[Numbers]) -> list[Point]:
        return [
            (float(block["noise_tokens"]), each["average"], each["average_95"])
            for block in several
            if (each := block["scores"].get(system)) is not None
        ]

    return [(dataset, {system: points(system, several) for system in _systems(several)}) for dataset, several in _swept(blocks)]


def token_panels(blocks: Sequence[Numbers]) -> list[Panel]:
    """Return two panels for each data set with several budgets: at the request, and to read the history before it."""

    def points(system: str, several: Iterable[Numbers], part: str) -> list[Point]:
        return [
            (float(block["noise_tokens"]), each[part]["prompt_tokens"], None)
            for block in several
            if (each := block["cost"].get(system)) is not None
        ]

    return [
        (f"{dataset}: {what}", {system: points(system, several, part) for system in _systems(several)})
        for dataset, several in _swept(blocks)
        for part, what in (("request", "at the request"), ("history", "to read the history, once a turn"))
    ]


def _swept(blocks: Sequence[Numbers]) -> list[tuple[str, list[Numbers]]]:
    by_dataset: dict[str, list[Numbers]] = {}
    for block in blocks:
        by_dataset.setdefault(block["dataset"], []).append(block)
    return [(dataset, several) for dataset, several in by_dataset.items() if len(several) > 1]


def _systems(blocks: Iterable[Numbers]) -> list[str]:
    return list(dict.fromkeys(system for block in blocks for system in block["scores"]))


def _title(block: Numbers) -> str:
    return f"{block['dataset']}, {block['noise_tokens']:,} inserted tokens"


def _draw(path: Path, panels: Sequence[Panel], x_label: str, y_label: str) -> None:
    matplotlib, figure_class = _matplotlib()
    with matplotlib.rc_context({"svg.hashsalt": "personalagent", "font.size": 10}):
        labelled: dict[str, int] = {}
        columns = min(len(panels), COLUMNS)
        rows = math.ceil(len(panels) / columns)
        figure = figure_class(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
        for place, (title, lines) in enumerate(panels, 1):
            axes = figure.add_subplot(rows, columns, place)
            for label, points in lines.items():
                _line(axes, label, points, labelled.setdefault(label, len(labelled)))
            axes.set(title=title, xlabel=x_label, ylabel=y_label)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
        shown = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(list(shown.values()), list(shown), loc="outside right upper", fontsize=8)
        figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})


def _line(axes: Any, label: str, points: Sequence[Point], number: int) -> None:
    known = [(x, y, interval) for x, y, interval in points if y is not None]
    xs, ys = [x for x, _, _ in known], [y for _, y, _ in known]
    colour, style = f"C{number % COLOURS}", "-" if number < COLOURS else "--"
    axes.plot(xs, ys, style, label=label, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=5)
    for x, _, interval in known:
        if interval is not None:
            axes.vlines(x, interval[0], interval[1], color=colour, alpha=0.4)


def _matplotlib() -> tuple[Any, Any]:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "expected matplotlib for the figures, got none; pip install 'personalagent[bench]', or leave them out with --no-figures"
        ) from error
    return matplotlib, Figure
