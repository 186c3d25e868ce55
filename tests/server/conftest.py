"""A model's endpoint, and a server in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.endpoint import Endpoint, running_endpoint
from tests.server.serving import Served, serving


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A model's endpoint that does as it is told."""
    with running_endpoint() as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, endpoint: Endpoint) -> Iterator[Served]:
    """A server that answers first and learns afterwards."""
    with serving(tmp_path, endpoint) as running:
        yield running
