"""How long files and functions may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILE_LINES, FUNCTION_LINES = 400, 60
READING_PATH = ("dialogue", "schema", "profile", "inference", "sufficiency", "response", "agent")


def sources() -> list[Path]:
    """Return every Python file of the package, the tests and the examples."""
    return sorted(path for folder in ("src", "tests", "examples") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    lengths = {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    limit = FILE_LINES if "src" in path.parts else FILE_LINES + 100
    assert text.count("\n") <= limit
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}
