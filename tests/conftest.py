"""What tests of several folders share: the schema, the corpus, a clock, and short forms for facts and profiles.

It also makes ``tests`` importable: ``from tests.strategies import …``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from personalagent.config import Settings
from personalagent.datasets.corpus import Corpus, load_corpus
from personalagent.errors import ModelMissingError
from personalagent.llm.models import find_model
from personalagent.profile import OpKind, Polarity, Profile, ProfileDelta, SlotOp
from personalagent.schema import ProfileSchema, load_schema

ROOT = Path(__file__).parent.parent
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

ProfileOf = Callable[..., Profile]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def schema() -> ProfileSchema:
    """The packaged schema."""
    return load_schema()


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """The released corpus of this repository."""
    return load_corpus(ROOT / "data" / "corpus")


@pytest.fixture(scope="session")
def qwen() -> Path:
    """The weights of the default embedded model; the test is skipped where they were never pulled."""
    try:
        return find_model("qwen2.5-coder-0.5b-instruct", Settings.load().models_dir)
    except ModelMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def profile_of(schema: ProfileSchema) -> ProfileOf:
    """Build a profile from ``(group.slot, value)`` or ``(group.slot, value, polarity)``."""

    def build(*held: tuple[str, str] | tuple[str, str, Polarity]) -> Profile:
        operations = []
        for name, value, *rest in held:
            slot = schema.slot(name)
            polarity = rest[0] if rest else Polarity.NEUTRAL
            operations.append(SlotOp(OpKind.ADD, slot.path, value, AT, polarity, cardinality=slot.cardinality))
        return Profile().apply(ProfileDelta(tuple(operations)))

    return build


_outcomes = {"passed": 0}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests that passed."""
    _outcomes["passed"] += report.when == "call" and report.passed


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fail a run in which no test ran: pytest calls a run of skipped tests a success."""
    yield
    is_listing = session.config.option.collectonly
    if session.exitstatus == pytest.ExitCode.OK and not _outcomes["passed"] and not is_listing:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
