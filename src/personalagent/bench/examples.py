"""The examples that a benchmark runs; they are defined beside the data sets, which may not import this row."""

from __future__ import annotations

from personalagent.datasets.example import DATA_SETS, Example, Loader, load_examples

__all__ = ["DATA_SETS", "Example", "Loader", "load_examples"]
