"""What a benchmark asks: examples, whatever data set they come from, and the data sets by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from personalagent.dialogue import Turn
from personalagent.errors import UsageError
from personalagent.registry import Registry, did_you_mean

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class Example:
    """One request to be answered, with all that was said before it."""

    example_id: str
    """Unique in its data set, and the same whatever noise is inserted and whatever the seed."""
    dataset: str
    unit: str
    """The persona or preference: what intervals resample and splits keep together."""
    topic: str
    sessions: tuple[tuple[Turn, ...], ...]
    """The history, oldest first, inserted turns included; the request is the next turn of the last session."""
    request: str
    options: tuple[str, ...] = ()
    """The answers to choose from, already shuffled; empty where the answer is written."""
    right: int | None = None
    """The index of the right option."""
    preference: str | None = None
    """What the answer must respect, as text for a judge; systems never see it."""
    explanation: str | None = None
    persona: str | None = None
    """Who the user is, as text for a judge; systems never see it."""
    missing: tuple[str, ...] | None = None
    """Slots that decide the answer and that the history has not revealed; None where the data set does not say."""
    k: int | None = None
    """Which turn of its dialogue the request is, from 1, for AL(k); None where the data set has one request a dialogue."""


class Loader(Protocol):
    """What a data set's name stands for."""

    def __call__(self, path: Path, variant: str, *, seed: int) -> tuple[Example, ...]:
        """Load the examples under a path in a stable order; the empty variant is the usual one."""


DATA_SETS: Registry[Loader] = Registry(
    "data set",
    {
        "aloe": "personalagent.datasets.aloe:load_examples",
        "corpus": "personalagent.datasets.released:load_corpus_examples",
        "prefeval": "personalagent.datasets.prefeval:load_examples",
        "unseen": "personalagent.datasets.released:load_unseen_examples",
    },
)


def load_examples(spec: str, path: Path, *, seed: int = 0) -> tuple[Example, ...]:
    """Load the examples that a spec names: `prefeval`, `prefeval:persona-driven-mcq`, `aloe:random-split`, `unseen:dev`, `corpus:test`, …

    The seed shuffles options and draws random splits; the same seed gives the same examples.

    Raises:
        UsageError: the data set or its variant is not known.
        DataError: a file is missing or a record cannot be used; the message says where to get the data and under which licence.
    """
    name, _, variant = spec.partition(":")
    if name in DATA_SETS.targets or did_you_mean(name, DATA_SETS.targets):
        return DATA_SETS.load(name)(path, variant, seed=seed)
    return DATA_SETS.load(spec)(path, "", seed=seed)


def known_variant(variant: str, known: Iterable[Name], dataset: str) -> Name:
    """Return the variant, or the first known one for the empty name.

    Raises:
        UsageError: it is not known; the message suggests the nearest.
    """
    names = {str(name): name for name in known}
    if variant and variant not in names:
        raise UsageError(f"expected a variant of {dataset} ({', '.join(names)}), got {variant!r}.{did_you_mean(variant, names)}")
    return names[variant or next(iter(names))]
