"""PrefEval (Zhao et al. 2025) by path: a preference, told in one of three forms, and a question whose answer must respect it.

The folder is ``benchmark_dataset`` of the release, whole or in part. Only files named as one of the twenty topics are read, so the stray
``travel_hotel copy`` is not. The forms and the options of a topic are aligned by place; the right option comes first in the files and is
shuffled here, from the seed and the place alone, so that a subset has the same order.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from personalagent.datasets.example import Example, known_variant
from personalagent.dialogue import Turn
from personalagent.errors import DataError

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Education": ("education_learning_styles", "education_resources"),
    "Entertainment": ("entertain_games", "entertain_music_book", "entertain_shows", "entertain_sports"),
    "Lifestyle": ("lifestyle_beauty", "lifestyle_dietary", "lifestyle_fit", "lifestyle_health"),
    "Pet": ("pet_ownership",),
    "Work": ("professional_work_location_style",),
    "Shopping": ("shop_fashion", "shop_home", "shop_motors", "shop_technology"),
    "Travel": ("travel_activities", "travel_hotel", "travel_restaurant", "travel_transportation"),
}
"""The seven columns of the paper's Table 1, and their topics."""
_GROUP_OF = {topic: group for group, topics in GROUPS.items() for topic in topics}
TOPICS = tuple(_GROUP_OF)
INTER_TURNS = "filtered_inter_turns.json"
MCQ_FOLDER = "mcq_options"
WHERE_TO_GET = (
    "clone https://github.com/amazon-science/PrefEval and give its benchmark_dataset folder; "
    "its licence is CC BY-NC 4.0: evaluate on it, never train on it, and never ship it"
)


class Form(StrEnum):
    """How the preference is told."""

    EXPLICIT = "explicit"
    CHOICE_BASED = "choice-based"
    PERSONA_DRIVEN = "persona-driven"

    @property
    def folder(self) -> str:
        """The folder of the form's topic files."""
        return "explicit_preference" if self is Form.EXPLICIT else f"implicit_preference/{self.value}"


class Task(StrEnum):
    """Whether the answer is written or one of four options."""

    GENERATION = "generation"
    MCQ = "mcq"


VARIANTS: Mapping[str, tuple[Form, Task]] = {
    f"{form}{'-mcq' if task is Task.MCQ else ''}": (form, task) for task in Task for form in Form
}


def group_of(topic: str) -> str:
    """Return the group that a topic counts towards in a macro average; a topic of another data set is its own."""
    return _GROUP_OF.get(topic, topic)


def load_examples(path: Path, variant: str = "", *, seed: int = 0) -> tuple[Example, ...]:
    """Load every example of a form (``explicit``, ``choice-based``, ``persona-driven``, each also with ``-mcq``).

    Raises:
        UsageError: the variant is not known.
        DataError: the folder holds no topic of the form, or a record cannot be used.
    """
    form, task = VARIANTS[known_variant(variant, VARIANTS, "prefeval")]
    return load_prefeval(path, form, task=task, seed=seed)


def load_prefeval(folder: Path, form: Form, *, task: Task = Task.GENERATION, seed: int = 0) -> tuple[Example, ...]:
    """Load the topics that are there, in the order of ``TOPICS``; raises as ``load_examples``."""
    folder = folder / "benchmark_dataset" if (folder / "benchmark_dataset").is_dir() else folder
    files = {topic: folder / form.folder / f"{topic}.json" for topic in TOPICS}
    found = {topic: file for topic, file in files.items() if file.is_file()}
    if not found:
        raise DataError(f"expected PrefEval's topics in {folder / form.folder}, got none of {len(TOPICS)}; {WHERE_TO_GET}")
    examples: list[Example] = []
    for topic, file in found.items():
        records = _read(file)
        options: Sequence[Mapping[str, Any]] = ()
        if task is Task.MCQ:
            options = _aligned(records, folder / MCQ_FOLDER / file.name)
        first_place: dict[str, int] = {}
        for place, record in enumerate(records):
            where = f"{file.name}[{place}]"
            unit = first_place.setdefault(str(record.get("preference")).strip().casefold(), place)
            example = _checked(where, record, form=form, topic=topic, place=place, unit=unit)
            examples.append(_with_options(example, options[place], where=where, seed=seed) if options else example)
    return tuple(examples)


def inter_turns_file(folder: Path) -> Path:
    """Return the file of the irrelevant dialogues that PrefEval inserts.

    Raises:
        DataError: it is not in the folder.
    """
    for file in (folder / INTER_TURNS, folder / "benchmark_dataset" / INTER_TURNS):
        if file.is_file():
            return file
    raise DataError(f"expected PrefEval's {INTER_TURNS} in {folder}, got none; {WHERE_TO_GET}")


def revealing_turns(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """Give the turns that reveal the preference, in any form; the explicit one is the preference itself, still unanswered."""
    conversation = record.get("conversation")
    if conversation is None:
        return (Turn(record["preference"]),)
    if "query" in conversation:
        return (
            Turn(conversation["query"], conversation["assistant_options"]),
            Turn(conversation["user_selection"], conversation["assistant_acknowledgment"]),
        )
    ordered = sorted(conversation.items(), key=lambda item: int(item[0].removeprefix("turn")))
    return tuple(Turn(turn["user"], turn["assistant"]) for _, turn in ordered)


def _read(file: Path) -> list[Mapping[str, Any]]:
    try:
        records = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"expected PrefEval's {file.parent.name}/{file.name}, got {error.strerror}; {WHERE_TO_GET}") from error
    except ValueError as error:
        raise DataError(f"expected JSON in UTF-8, got a file that does not parse: {file}; fetch it again") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"expected a JSON array of objects, got something else: {file}; fetch it again")
    return records


def _aligned(records: Sequence[Mapping[str, Any]], file: Path) -> list[Mapping[str, Any]]:
    """Read the options of a topic and make sure that they belong to its questions, one by one."""
    options = _read(file)
    if [record.get("question") for record in records] != [record.get("question") for record in options]:
        raise DataError(
            f"expected {file.parent.name}/{file.name} to hold the questions of its topic in the same order, got others; fetch both again"
        )
    return options


def _checked(where: str, record: Mapping[str, Any], *, form: Form, topic: str, place: int, unit: int) -> Example:
    try:
        return Example(
            example_id=f"{form}/{topic}/{place}",
            dataset="prefeval",
            unit=f"{topic}/{unit}",
            topic=topic,
            sessions=(revealing_turns(record),),
            request=str(record["question"]),
            preference=str(record["preference"]),
            explanation=record.get("explanation"),
            persona=record.get("persona"),
        )
    except KeyError as error:
        raise DataError(f"{where}: expected the field {error.args[0]!r}, got none; fetch the file again") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{where}: expected a PrefEval record, got one whose fields have other types; fetch the file again"
        ) from error


def _with_options(example: Example, record: Mapping[str, Any], *, where: str, seed: int) -> Example:
    options = record.get("classification_task_options")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(option, str) for option in options):
        raise DataError(f"{where}: expected classification_task_options to list texts, got none in {MCQ_FOLDER}; fetch it again")
    order = list(range(len(options)))
    place = example.example_id.partition("/")[2]
    random.Random(f"prefeval:{seed}:{place}").shuffle(order)  # noqa: S311 - an order, not secrets
    return replace(
        example, example_id=f"{example.example_id}/mcq", options=tuple(options[index] for index in order), right=order.index(0)
    )
