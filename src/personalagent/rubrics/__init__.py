"""The rubrics, a YAML file each: what a judge looks at, by which criteria, and what each level of a criterion means.

```yaml
version: 1
task: Judge whether the reply fits the user.
fields: {persona: Who the user is., reply: What the assistant answered.}
texts: {reason: One sentence that names what decides it.}   # written before the levels; optional
combine: mean                                               # or all: 1 where every criterion is at its top, else 0
criteria:
  - name: fit
    question: Does the reply fit the persona?
    levels: {0: It ignores the persona., 0.5: In part., 1: It fits.}   # numbers, or yes and no; range: true allows all between
variants: {}                                                # name -> criteria, for means over fewer of them; optional
```
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from personalagent.errors import DataError
from personalagent.registry import did_you_mean

WORDS = {"yes": 1.0, "no": 0.0}
"""Labels that are not numbers, and their scores."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NUMBER = re.compile(r"(?P<value>\d{1,4}(?:[.,]\d{1,6})?)(?:\s*/\s*(?P<of>\d{1,4}))?(?P<rest>.*)", re.DOTALL)
_WORD = re.compile(r"(?P<word>yes|no)\b(?P<rest>.*)", re.DOTALL | re.IGNORECASE)
_REMARK = re.compile(r"\s*(?:[.%!]?|[-–—:;,.(].*)", re.DOTALL)
"""What may stand behind a label: nothing, or a mark and a remark."""
_SECOND_LABEL = re.compile(r"[\s\-–—:;,.(]*(?:(?:and|or|to)\s+)?(?:\d|yes\b|no\b)", re.IGNORECASE)


class Combine(StrEnum):
    """How the criteria's scores become the rubric's score."""

    MEAN = "mean"
    ALL = "all"
    """1 where every criterion has its highest level, else 0."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a criterion and what it means."""

    label: str
    score: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Criterion:
    """One named check."""

    name: str
    question: str
    levels: tuple[Level, ...]
    """From the lowest score to the highest."""
    is_range: bool = False
    """Whether every number between the lowest and the highest level counts; the levels are its anchors."""

    @property
    def is_words(self) -> bool:
        """Whether the labels are yes and no."""
        return self.levels[0].label in WORDS

    @property
    def choices(self) -> str:
        """The labels as a prompt names them."""
        labels = [level.label for level in self.levels]
        return (
            f"a whole number from {labels[0]} to {labels[-1]}" if self.is_range else f"{', '.join(labels[:-1])} or {labels[-1]}"
        )

    def read(self, text: str) -> float | None:
        """Return the score of a label as a judge or a person wrote it, or None where it cannot be told.

        A number between two levels becomes the nearer one, in the middle the lower one: 0.7 is 0.5, 0.75 is 0.5, 0.8 is 1. A number
        outside the scale was meant on another scale, and "yes and no", "0 or 1" or "not sure" is no answer: None.
        """
        stripped = text.strip().strip("\"'`*_[]<> ")
        if self.is_words:
            found = _WORD.fullmatch(stripped)
            return WORDS[found["word"].lower()] if found and _is_remark(found["rest"]) else None
        found = _NUMBER.fullmatch(stripped)
        if found is None or not _is_remark(found["rest"]):
            return None
        low, high = self.levels[0].score, self.levels[-1].score
        value = float(found["value"].replace(",", "."))
        is_on_scale = low <= value <= high and (found["of"] is None or float(found["of"]) == high)
        if not is_on_scale:
            return None
        return value if self.is_range else nearest(value, (level.score for level in self.levels))

    def json_type(self) -> dict[str, object]:
        """Return the JSON schema of this criterion's label."""
        if self.is_words:
            return {"type": "string", "enum": [level.label for level in self.levels]}
        low, high = self.levels[0].score, self.levels[-1].score
        if self.is_range:
            return {"type": "integer", "minimum": int(low), "maximum": int(high)}
        return {"type": "number", "enum": [_plain(level.score) for level in self.levels]}


@dataclass(frozen=True, slots=True)
class Rubric:
    """What a judge is told to do, as data."""

    name: str
    version: str
    task: str
    fields: Mapping[str, str]
    """What is judged: name -> what it is."""
    criteria: tuple[Criterion, ...]
    combine: Combine = Combine.MEAN
    texts: Mapping[str, str] = field(default_factory=dict)
    """What the judge writes before the levels: name -> what it should say."""
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other scores of the same verdict: name -> the criteria that count."""
    sha256: str = ""

    def score(self, scores: Mapping[str, float]) -> float:
        """Return the score over all criteria, computed here and never taken from the judge."""
        return self.combined(self.criteria, scores)

    def variant_scores(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Return the score of every variant."""
        return {
            variant: self.combined([criterion for criterion in self.criteria if criterion.name in names], scores)
            for variant, names in self.variants.items()
        }

    def json_schema(self) -> dict[str, object]:
        """Return the JSON schema of an answer: first the texts, then a label for every criterion."""
        properties: dict[str, object] = {name: {"type": "string"} for name in self.texts}
        properties |= {criterion.name: criterion.json_type() for criterion in self.criteria}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    def combined(self, criteria: Iterable[Criterion], scores: Mapping[str, float]) -> float:
        """Return the score over some of the criteria."""
        chosen = list(criteria)
        if self.combine is Combine.ALL:
            return float(all(scores[each.name] == each.levels[-1].score for each in chosen))
        return math.fsum(scores[each.name] for each in chosen) / len(chosen)


def nearest(value: float, levels: Iterable[float]) -> float:
    """Return the level that is nearest to a value, of two equally near the lower one."""
    return min(levels, key=lambda level: (abs(level - value), level))


def rubric_names() -> tuple[str, ...]:
    """Return the names of the packaged rubrics."""
    return tuple(
        sorted(entry.name.removesuffix(".yaml") for entry in files(__package__).iterdir() if entry.name.endswith(".yaml"))
    )


@cache
def load_rubric(name: str) -> Rubric:
    """Load a packaged rubric by its name, or one of the caller's own by the path of its YAML file.

    Raises:
        DataError: there is no such rubric, or the file is none.
    """
    if name in rubric_names():
        return parse_rubric((files(__package__) / f"{name}.yaml").read_text("utf-8"), name)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = rubric_names()
        raise DataError(
            f"expected a rubric ({', '.join(known)}) or the path of a .yaml file, got {name!r}.{did_you_mean(name, known)}"
        )
    try:
        return parse_rubric(path.read_text("utf-8"), path.stem)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a readable rubric in UTF-8, got {type(error).__name__}: {path}; check the path") from error


def parse_rubric(text: str, name: str) -> Rubric:
    """Read a rubric from YAML.

    Raises:
        DataError: it does not parse, a key is missing or unknown, or a criterion is not well formed.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"rubric {name}: expected YAML, got text that does not parse; mend it") from error
    keys = {"version", "task", "fields", "criteria", "combine"}
    fields = _mapping(data, f"rubric {name}", needed=keys, known=keys | {"texts", "variants"})
    if fields["combine"] not in list(Combine):
        raise DataError(f"rubric {name}: expected combine to be mean or all, got {fields['combine']!r}; choose one")
    if not isinstance(fields["criteria"], list) or not fields["criteria"]:
        raise DataError(f"rubric {name}: expected criteria to be a list, got {fields['criteria']!r}; write at least one")
    criteria = tuple(_criterion(entry, f"rubric {name}") for entry in fields["criteria"])
    shown, texts = (_texts(fields.get(key) or {}, f"rubric {name}: {key}") for key in ("fields", "texts"))
    _refuse_twice([*texts, *(criterion.name for criterion in criteria)], name)
    variants = {str(key): tuple(map(str, value)) for key, value in (fields.get("variants") or {}).items()}
    for wanted in {each for value in variants.values() for each in value} - {criterion.name for criterion in criteria}:
        raise DataError(f"rubric {name}: expected variants to name its criteria, got {wanted!r}; correct it")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    task, combine = " ".join(str(fields["task"]).split()), Combine(fields["combine"])
    return Rubric(name, str(fields["version"]), task, shown, criteria, combine, texts, variants, sha256)


def _criterion(entry: Any, where: str) -> Criterion:
    needed = {"name", "question", "levels"}
    fields = _mapping(entry, f"{where}: a criterion", needed=needed, known=needed | {"range"})
    where = f"{where}: {fields['name']}"
    labels = {_label(key): " ".join(str(value).split()) for key, value in _mapping(fields["levels"], f"{where}: levels").items()}
    if len(labels) < 2 or not (set(labels) == set(WORDS) or all(_NUMBER.fullmatch(label) for label in labels)):
        raise DataError(f"{where}: expected levels yes and no, or two numbers or more, got {', '.join(labels)}; correct them")
    if not _NAME.fullmatch(str(fields["name"])):
        raise DataError(f"{where}: expected a name of small letters, digits and _, got {fields['name']!r}; rename it")
    levels = (Level(label, WORDS[label] if label in WORDS else float(label), meaning) for label, meaning in labels.items())
    ordered = tuple(sorted(levels, key=lambda level: level.score))
    return Criterion(str(fields["name"]), " ".join(str(fields["question"]).split()), ordered, fields.get("range") is True)


def _label(key: Any) -> str:
    """Return a label as text; YAML reads an unquoted ``yes`` as true and ``0`` as a number."""
    return {True: "yes", False: "no"}[key] if isinstance(key, bool) else str(key)


def _mapping(value: Any, where: str, *, needed: Iterable[str] = (), known: Iterable[str] = ()) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a mapping, got {type(value).__name__}; see the rubrics of personalagent")
    missing, unknown = set(needed) - set(value), set(value) - set(known) if known else set()
    if missing or unknown:
        raise DataError(
            f"{where}: expected the keys {', '.join(sorted(known))}, got {', '.join(map(str, value))}; "
            f"{'add ' + ', '.join(sorted(missing)) if missing else 'remove ' + ', '.join(map(str, unknown))}"
        )
    return value


def _texts(value: Any, where: str) -> dict[str, str]:
    found = {str(key): " ".join(str(text).split()) for key, text in _mapping(value, where).items()}
    for key in found:
        if not _NAME.fullmatch(key):
            raise DataError(f"{where}: expected names of small letters, digits and _, got {key!r}; rename it")
    return found


def _refuse_twice(names: list[str], rubric: str) -> None:
    for each in names:
        if names.count(each) > 1:
            raise DataError(f"rubric {rubric}: expected every name once, got {each!r} twice; rename one")


def _is_remark(rest: str) -> bool:
    return _REMARK.fullmatch(rest) is not None and _SECOND_LABEL.match(rest) is None


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value
