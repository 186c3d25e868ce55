"""A real SQLite file for every test; a real Postgres too where TEST_POSTGRES_URL names an empty database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine

from personalagent.store import Store
from tests.strategies import NOON


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'agent.db'}"
    found = os.environ.get("TEST_POSTGRES_URL")
    if not found:
        pytest.skip("TEST_POSTGRES_URL names no database")
    engine = create_engine(found)
    tables = MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store whose clock stands still."""
    with Store.open(url, clock=lambda: NOON) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite, for what is true of files only; the file is ``tmp_path / "agent.db"``."""
    with Store.open(f"sqlite:///{tmp_path / 'agent.db'}", clock=lambda: NOON) as opened:
        yield opened
