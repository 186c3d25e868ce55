"""What ``import personalagent`` gives, and how little it loads."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import personalagent
from tests.conftest import ROOT

HEAVY = ("torch", "transformers", "sqlalchemy", "alembic", "openai", "xllamacpp", "httpx", "pydantic", "yaml", "rich", "typer")


@pytest.mark.parametrize("name", personalagent.__all__)
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    value = getattr(personalagent, name)
    assert isinstance(value, str) or (inspect.getdoc(value) or "").strip()


@pytest.mark.parametrize("name", [name for name in personalagent.__all__ if name != "__version__"])
def test_the_public_members_of_a_public_name_say_what_they_do(name: str) -> None:
    value = getattr(personalagent, name)
    members = vars(value).items() if inspect.isclass(value) and value.__module__.startswith("personalagent") else ()
    silent = [key for key, member in members if not key.startswith("_") and callable(member) and not inspect.getdoc(member)]
    assert silent == []


def test_names_are_listed_in_order_once() -> None:
    assert sorted(personalagent.__all__) == personalagent.__all__
    assert len(set(personalagent.__all__)) == len(personalagent.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'PersonalAgnet'"):
        _ = personalagent.PersonalAgnet


def test_the_version_is_that_of_the_project() -> None:
    declared = next(line for line in (ROOT / "pyproject.toml").read_text("utf-8").splitlines() if line.startswith("version"))
    assert declared == f'version = "{personalagent.__version__}"'
    try:
        assert version("personalagent") == personalagent.__version__
    except ModuleNotFoundError:  # run from the source tree
        assert Path(str(personalagent.__file__)).is_relative_to(ROOT / "src")


def loaded_after(code: str) -> list[str]:
    """Return which heavy packages a fresh interpreter has loaded after some code."""
    script = f"import sys; {code}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import personalagent") == []


def test_the_pure_middle_needs_neither_store_nor_model() -> None:
    heavy = loaded_after("import personalagent.inference, personalagent.sufficiency, personalagent.response")
    assert {"torch", "transformers", "sqlalchemy", "alembic", "openai", "xllamacpp", "typer"} & set(heavy) == set()
