"""The closed set of slots: the packaged one, a user's own file, masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from personalagent.errors import SchemaError
from personalagent.schema import AskPolicy, Cardinality, ProfileSchema, Sensitivity, SlotType, Volatility, load_schema

SLOT = """
        - {id: bow, type: text, cardinality: one, sensitivity: public, volatility: slow, ask: ok, description: The bow they shoot}
"""


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a user's schema file."""

    def written(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_the_packaged_schema_has_11_categories_75_groups_and_274_slots(schema: ProfileSchema) -> None:
    assert len(schema.categories) == 11
    assert sum(len(category.groups) for category in schema.categories) == 75
    assert len(schema) == len(list(schema)) == len(schema.by_short) == 274


def test_every_slot_says_what_it_holds(schema: ProfileSchema) -> None:
    for slot in schema:
        assert slot.description and slot.path == f"{slot.group}.{slot.path.rpartition('.')[2]}"
        assert (slot.type is SlotType.ENUM) == bool(slot.values)
    age = schema.slot("basic_demographics.identity.age")
    assert (age.type, age.cardinality, age.volatility) == (SlotType.INT, Cardinality.ONE, Volatility.SLOW)
    assert (age.sensitivity, age.short, age.category) == (Sensitivity.PERSONAL, "identity.age", "basic_demographics")


def test_health_is_kept_only_with_consent(schema: ProfileSchema) -> None:
    assert schema.slot("health.allergies_intolerances").is_sensitive
    assert not schema.slot("identity.age").is_sensitive


def test_a_slot_is_found_by_path_and_by_its_short_name(schema: ProfileSchema) -> None:
    assert schema.slot("identity.age") is schema.slot("basic_demographics.identity.age")
    assert schema.find("no.such.slot") is None


def test_an_unknown_slot_names_the_nearest_ones(schema: ProfileSchema) -> None:
    with pytest.raises(SchemaError, match=r"got 'identity\.aeg'; did you mean .*identity\.age"):
        schema.slot("identity.aeg")


@pytest.mark.parametrize("count", [3, 6, 9, 11])
def test_a_mask_keeps_the_first_categories(schema: ProfileSchema, count: int) -> None:
    masked = load_schema(categories=count)
    assert masked.categories == schema.categories[:count]
    assert list(masked.slots) == [path for path in schema.slots if path.split(".")[0] in {c.id for c in masked.categories}]


@pytest.mark.parametrize("count", [0, -1, 12])
def test_a_mask_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(SchemaError, match=rf"expected 1 to 11 categories, got {count}"):
        load_schema(categories=count)


def test_a_users_file_adds_a_category_a_group_and_a_slot(write: Write) -> None:
    path = write(
        f"categories:\n  - id: archery\n    groups:\n      - id: gear\n        slots:{SLOT}"
        f"  - id: basic_demographics\n    groups:\n      - id: archers\n        slots:{SLOT}"
        f"      - id: identity\n        slots:{SLOT}"
    )
    schema = load_schema(path)
    assert len(schema) == 277 and len(schema.categories) == 12
    assert schema.categories[-1].id == "archery"
    bow = schema.slot("identity.bow")
    assert (bow.path, bow.ask, bow.values) == ("basic_demographics.identity.bow", AskPolicy.OK, ())


def test_a_users_file_hides_a_category_a_group_and_a_slot(schema: ProfileSchema, write: Write) -> None:
    last = schema.categories[-1].id
    hidden = load_schema(write(f"hide: [{last}, basic_demographics.health, basic_demographics.identity.age]\n"))
    assert hidden.find("identity.age") is None and hidden.find("identity.pronouns")
    assert not [slot for slot in hidden if slot.category == last or slot.group == "basic_demographics.health"]
    assert [c.id for c in hidden.categories] == [c.id for c in schema.categories[:-1]]


def test_an_empty_users_file_changes_nothing(schema: ProfileSchema, write: Write) -> None:
    assert load_schema(write("")) == schema
    assert load_schema(write("categories:\nhide:\n")) == schema


def one_slot(text: str) -> str:
    """A file with one slot, in a new group."""
    return f"categories:\n  - id: archery\n    groups:\n      - id: gear\n        slots:\n          - {text}\n"


FULL = "id: bow, type: text, cardinality: one, sensitivity: public, volatility: slow, ask: ok, description: d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("categories: [", "got a file that does not parse"),
        ("when: 2026-13-45\n", "got a file that does not parse"),
        ("- a\n- b\n", "the file: expected a mapping"),
        ("categorys: []\n", "the file: expected a known field, got 'categorys'; did you mean 'categories'"),
        ("categories: archery\n", "the file: expected the field 'categories' to be a list, got 'archery'"),
        ("hide: archery\n", "the file: expected the field 'hide' to be a list"),
        ("hide: [archery]\n", "hide: expected a category, group or slot of the schema, got 'archery'"),
        ("categories: [archery]\n", "categories: expected a mapping"),
        ("categories:\n  - title: Archery\n", "categories: expected the field 'id', got none"),
        ("categories:\n  - id: archery\n", "archery: expected the field 'groups', got none"),
        ("categories:\n  - id: My Archery\n    groups: []\n", "expected the field 'id' to be lower-case words"),
        ("categories:\n  - id: archery\n    groups:\n      - id: gear\n", "archery.gear: expected the field 'slots'"),
        (one_slot("{id: bow}"), "archery.gear.bow: expected the field 'type', got none"),
        (one_slot(f"{{{FULL.replace('text', 'txt')}}}"), "archery.gear.bow: expected type to be one of text, .*got 'txt'"),
        (one_slot(f"{{{FULL.replace('ask: ok', 'ask: no')}}}"), "archery.gear.bow: expected ask to be one of ok, .*got False"),
        (one_slot(f"{{{FULL.replace('text', 'enum')}}}"), "archery.gear.bow: expected the field 'values', got none"),
        (one_slot(f"{{{FULL.replace('text', 'enum')}, values: [yes, no]}}"), "bow: expected the labels in 'values' .*got True"),
        (one_slot(f"{{{FULL.replace('text', 'enum')}, values: recurve}}"), "bow: expected the field 'values' to be a list"),
        (one_slot(f"{{{FULL}, colour: red}}"), "archery.gear.bow: expected a known field, got 'colour'"),
        (one_slot(f"{{{FULL}, path: archery.bow}}"), "archery.gear.bow: expected the field 'path' .*got 'archery.bow'"),
        (one_slot(f"{{{FULL}}}\n          - {{{FULL}}}"), "archery.gear.bow: expected a new slot, got a clash on the field 'id'"),
        (
            one_slot(f"{{{FULL}}}").replace("archery", "basic_demographics").replace("gear", "identity").replace("bow", "age"),
            "basic_demographics.identity.age: expected a new slot, got a clash on the field 'id'",
        ),
        (
            one_slot(f"{{{FULL}}}").replace("gear", "identity").replace("bow", "age"),
            "basic_demographics.identity.age and archery.identity.age: expected 'group.slot' to be unique",
        ),
    ],
)
def test_an_error_names_the_file_the_path_and_the_field(write: Write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(SchemaError, match=message) as raised:
        load_schema(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"none\.yaml: expected a readable schema file"):
        load_schema(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"hide: [caf\xe9]\n")
    with pytest.raises(SchemaError, match=r"latin\.yaml: expected YAML in UTF-8"):
        load_schema(tmp_path / "latin.yaml")
