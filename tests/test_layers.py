"""The rows of ARCHITECTURE.md: a module imports only what stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "personalagent"
ROWS = """
errors
config registry dialogue schema clauses
profile
llm store prompts rubrics parsing
confidence inference elicitation shortlist sufficiency response
agent reply judge datasets edits sessions portable json_forms
train bench integrations
server
cli
"""
ROW = {noun: number for number, line in enumerate(ROWS.strip().splitlines()) for noun in line.split()}
HEAVY = {
    "torch": {"train"},
    "transformers": {"train"},
    "peft": {"train"},
    "trl": {"train"},
    "gguf": {"train"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "openai": {"llm"},
    "xllamacpp": {"llm"},
    "fastapi": {"server"},
    "aiohttp": {"server"},
    "uvicorn": {"server"},
    "limits": {"server"},
    "opentelemetry": {"server"},
    "prometheus_client": {"server"},
    "mcp": {"server"},
    "ray": {"train"},
    "verl": {"train"},
    "typer": {"cli"},
    "matplotlib": {"bench"},
    "faker": {"datasets"},
    "mem0": {"bench"},
    "langmem": {"bench"},
    "langchain_core": {"bench"},
    "langgraph": {"bench"},
    "langsmith": {"bench"},
}
"""Packages that only some modules may import, for the rest must stay light."""


def modules() -> list[Path]:
    """Return every module of the package but its front."""
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py" and "versions" not in path.parts)


def name_of(path: Path) -> str:
    """Return the dotted name of a module inside the package."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in it that happens."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """Return the modules of this package that a module imports."""
    names = {name_of(other) for other in modules()}
    inside = {name.removeprefix("personalagent.") for name in imported(path) if name.startswith("personalagent.")}
    return (inside & names) - {name_of(path)}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_its_own_row_and_those_above(path: Path) -> None:
    own = ROW[name_of(path).partition(".")[0]]
    below = sorted(name for name in own_imports(path) if ROW[name.partition(".")[0]] > own)
    assert below == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Imports inside functions and for type checkers count too. A package's front may hand out what its modules define."""
    graph = {name_of(path): own_imports(path) for path in modules() if path.name != "__init__.py"}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for other in sorted(graph.get(name, ())):
            visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_heavy_package_is_imported_only_where_it_is_needed(path: Path) -> None:
    home = name_of(path).partition(".")[0]
    heavy = {name.partition(".")[0] for name in imported(path)} & set(HEAVY)
    assert sorted(package for package in heavy if home not in HEAVY[package]) == []
