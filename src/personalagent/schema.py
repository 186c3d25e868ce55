"""The closed set of slots a profile may hold: categories, groups and slots, loaded from YAML.

The packaged schema has 11 categories, 75 groups and 274 slots, in the order of the paper's appendix A. A user's own
file can add categories, groups and slots, and hide others; ``first_categories`` keeps the first n (the ablation of C.6).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from personalagent.errors import SchemaError


class Cardinality(StrEnum):
    """How many open values a slot holds."""

    ONE = "one"
    MANY = "many"


class SlotType(StrEnum):
    """What a slot's values look like."""

    TEXT = "text"
    INT = "int"
    NUMBER = "number"
    DATE = "date"
    ENUM = "enum"
    SCALE = "scale"
    PREF = "pref"
    PERSON = "person"


class Sensitivity(StrEnum):
    """How much harm a value could do in the wrong hands; ``art9`` and its kin are the GDPR's articles."""

    PUBLIC = "public"
    PERSONAL = "personal"
    CONFIDENTIAL = "confidential"
    THIRD_PARTY = "third_party"
    MINOR = "minor"
    ART9 = "art9"
    ART9_INFERABLE = "art9_inferable"
    ART10 = "art10"


class Volatility(StrEnum):
    """How long a value is likely to hold: for good, months to years, hours to weeks."""

    STATIC = "static"
    SLOW = "slow"
    FAST = "fast"


class AskPolicy(StrEnum):
    """Whether the agent may ask the user for the slot."""

    OK = "ok"
    IF_NEEDED = "if_needed"
    NEVER = "never"


NEEDS_CONSENT = frozenset({Sensitivity.ART9, Sensitivity.ART10, Sensitivity.MINOR})
"""Sensitivities that are kept only with the user's consent for the category."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing that can be known about a user."""

    path: str
    """``category.group.slot``."""
    type: SlotType
    cardinality: Cardinality
    sensitivity: Sensitivity
    volatility: Volatility
    ask: AskPolicy
    description: str
    example: str = ""
    values: tuple[str, ...] = ()
    """The labels of an enum, else empty."""

    @property
    def short(self) -> str:
        """``group.slot``, unique in a schema: the form the trained policy reads and writes."""
        return self.path.partition(".")[2]

    @property
    def category(self) -> str:
        """The id of the category."""
        return self.path.partition(".")[0]

    @property
    def group(self) -> str:
        """``category.group``."""
        return self.path.rpartition(".")[0]

    @property
    def is_sensitive(self) -> bool:
        """Whether a value may be kept only with consent."""
        return self.sensitivity in NEEDS_CONSENT


@dataclass(frozen=True, slots=True)
class Group:
    """Slots of one subject."""

    id: str
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """One of the major parts of a profile."""

    id: str
    title: str
    description: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class ProfileSchema:
    """Categories in order, and every slot by its path."""

    categories: tuple[Category, ...]
    slots: Mapping[str, Slot] = field(init=False, repr=False, compare=False)
    by_short: Mapping[str, Slot] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        slots = [slot for category in self.categories for group in category.groups for slot in group.slots]
        object.__setattr__(self, "slots", {slot.path: slot for slot in slots})
        object.__setattr__(self, "by_short", {slot.short: slot for slot in slots})

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots.values())

    def __len__(self) -> int:
        return len(self.slots)

    def slot(self, name: str) -> Slot:
        """Return a slot by full path or by ``group.slot``.

        Raises:
            SchemaError: the schema has no such slot; the message names the nearest ones.
        """
        found = self.find(name)
        if found is None:
            near = get_close_matches(name, [*self.slots, *self.by_short], n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "list the slots with: personalagent profile slots"
            raise SchemaError(f"expected a slot of the schema, got {name!r}; {hint}")
        return found

    def find(self, name: str) -> Slot | None:
        """Return a slot by full path or ``group.slot``; None where the schema has none."""
        return self.slots.get(name) or self.by_short.get(name)

    def first_categories(self, count: int) -> ProfileSchema:
        """Keep the first ``count`` categories.

        Raises:
            SchemaError: count is not between 1 and the number of categories.
        """
        if not 1 <= count <= len(self.categories):
            raise SchemaError(f"expected 1 to {len(self.categories)} categories, got {count}; choose a mask in that range")
        return ProfileSchema(self.categories[:count])


def load_schema(user_file: Path | None = None, *, categories: int | None = None) -> ProfileSchema:
    """Load the packaged schema, extend it by the user's own file, keep the first ``categories``.

    Raises:
        SchemaError: the file is missing, is not YAML, clashes with the schema, or a field is missing or unknown.
    """
    packaged = files("personalagent") / "schema" / "profile_schema.yaml"
    schema = ProfileSchema(
        tuple(_category(entry, "profile_schema.yaml") for entry in _read(packaged.read_text("utf-8"))["categories"])
    )
    if user_file is not None:
        schema = _extend(schema, user_file)
    return schema if categories is None else schema.first_categories(categories)


E = TypeVar("E", bound=StrEnum)
_REQUIRED = ("type", "cardinality", "sensitivity", "volatility", "ask", "description")
_SLOT_FIELDS = {"id", "path", *_REQUIRED, "example", "values", "art9", "maps_to"}
_ID = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def _read(text: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)  # noqa: S506 - the C build of SafeLoader


def _category(entry: object, where: str) -> Category:
    name = _id(entry, where, "categories")
    fields = _mapping(entry, where, name, {"id", "title", "description", "slot_count", "groups"})
    groups = tuple(_group(group, name, where) for group in _list(fields, "groups", where, name))
    return Category(name, str(fields.get("title", name)), str(fields.get("description", "")), groups)


def _group(entry: object, category: str, where: str) -> Group:
    name = _id(entry, where, category)
    fields = _mapping(entry, where, f"{category}.{name}", {"id", "title", "description", "slots"})
    slots = _list(fields, "slots", where, f"{category}.{name}")
    return Group(name, tuple(_slot(slot, f"{category}.{name}", where) for slot in slots))


def _slot(entry: object, parent: str, where: str) -> Slot:
    path = f"{parent}.{_id(entry, where, parent)}"
    fields = _mapping(entry, where, path, _SLOT_FIELDS)
    for name in _REQUIRED:
        _field(fields, name, where, path)
    if fields.get("path", path) != path:
        raise SchemaError(
            f"{where}: {path}: expected the field 'path' to say where the slot stands, got {fields['path']!r}; mend it"
        )
    slot_type = _enum(SlotType, fields, "type", where, path)
    return Slot(
        path=path,
        type=slot_type,
        cardinality=_enum(Cardinality, fields, "cardinality", where, path),
        sensitivity=_enum(Sensitivity, fields, "sensitivity", where, path),
        volatility=_enum(Volatility, fields, "volatility", where, path),
        ask=_enum(AskPolicy, fields, "ask", where, path),
        description=str(fields["description"]),
        example=str(fields.get("example", "")),
        values=_labels(fields, where, path, is_needed=slot_type is SlotType.ENUM),
    )


def _labels(fields: Mapping[str, Any], where: str, path: str, *, is_needed: bool) -> tuple[str, ...]:
    if not is_needed and fields.get("values") is None:
        return ()
    labels = _list(fields, "values", where, path)
    for label in labels:
        if not isinstance(label, str):
            raise SchemaError(f"{where}: {path}: expected the labels in 'values' to be text, got {label!r}; put it in quotes")
    return tuple(labels)


def _mapping(entry: object, where: str, path: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise SchemaError(f"{where}: {path}: expected a mapping with the field 'id', got {entry!r}; write 'id: …' entries")
    for name in entry:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise SchemaError(f"{where}: {path}: expected a known field, got {name!r}; {hint}")
    return entry


def _id(entry: object, where: str, parent: str) -> str:
    found = _field(entry, "id", where, parent)
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise SchemaError(
            f"{where}: {parent}: expected the field 'id' to be lower-case words joined by '_', got {found!r}; rename it"
        )
    return found


def _list(fields: Mapping[str, Any], name: str, where: str, path: str) -> list[Any]:
    found = _field(fields, name, where, path)
    if not isinstance(found, list) or not found:
        raise SchemaError(f"{where}: {path}: expected the field {name!r} to be a list, got {found!r}; write one '- …' per entry")
    return found


def _field(entry: object, name: str, where: str, path: str) -> Any:
    if not isinstance(entry, Mapping):
        raise SchemaError(f"{where}: {path}: expected a mapping with the field {name!r}, got {entry!r}; write 'id: …' entries")
    if entry.get(name) in (None, ""):
        raise SchemaError(f"{where}: {path}: expected the field {name!r}, got none; add it")
    return entry[name]


def _enum(kind: type[E], entry: Mapping[str, Any], name: str, where: str, path: str) -> E:
    try:
        return kind(str(entry[name]))
    except ValueError:
        allowed = ", ".join(kind)
        raise SchemaError(f"{where}: {path}: expected {name} to be one of {allowed}, got {entry[name]!r}; choose one") from None


def _extend(schema: ProfileSchema, user_file: Path) -> ProfileSchema:
    where = str(user_file)
    try:
        data = _read(user_file.read_text("utf-8"))
    except OSError as error:
        raise SchemaError(f"{where}: expected a readable schema file, got {error.strerror}; check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: expected YAML in UTF-8, got a file that does not parse: {error}; mend it") from error
    fields = _mapping({} if data is None else data, where, "the file", {"categories", "hide"})
    merged = {category.id: category for category in schema.categories}
    for entry in _list(fields, "categories", where, "the file") if fields.get("categories") is not None else ():
        added = _category(entry, where)
        merged[added.id] = _merge(merged.get(added.id, replace(added, groups=())), added, where)
    extended = ProfileSchema(tuple(merged.values()))
    _refuse_clashes(extended, where)
    hidden = _list(fields, "hide", where, "the file") if fields.get("hide") is not None else ()
    return _hide(extended, tuple(map(str, hidden)), where)


def _refuse_clashes(schema: ProfileSchema, where: str) -> None:
    slots = [slot for category in schema.categories for group in category.groups for slot in group.slots]
    for short, count in Counter(slot.short for slot in slots).items():
        if count > 1:
            paths = " and ".join(slot.path for slot in slots if slot.short == short)
            raise SchemaError(f"{where}: {paths}: expected 'group.slot' to be unique, got it twice; rename the group or the slot")


def _merge(old: Category, added: Category, where: str) -> Category:
    groups = {group.id: group for group in old.groups}
    for group in added.groups:
        for slot in group.slots:
            present = groups.get(group.id, Group(group.id, ()))
            if any(known.path == slot.path for known in present.slots):
                raise SchemaError(f"{where}: {slot.path}: expected a new slot, got a clash on the field 'id'; rename it")
            groups[group.id] = replace(present, slots=(*present.slots, slot))
    return replace(old, groups=tuple(groups.values()))


def _hide(schema: ProfileSchema, hidden: tuple[str, ...], where: str) -> ProfileSchema:
    for prefix in hidden:
        if not any(_is_under(path, prefix) for path in schema.slots):
            raise SchemaError(f"{where}: hide: expected a category, group or slot of the schema, got {prefix!r}; check the path")

    def visible(group: Group) -> Group:
        return replace(group, slots=tuple(s for s in group.slots if not any(_is_under(s.path, prefix) for prefix in hidden)))

    categories = (replace(c, groups=tuple(g for g in map(visible, c.groups) if g.slots)) for c in schema.categories)
    return ProfileSchema(tuple(category for category in categories if category.groups))


def _is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")
