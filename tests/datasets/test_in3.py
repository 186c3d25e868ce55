"""IN3 by path, on invented requests; and the labels that this repository holds for the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personalagent.datasets.in3 import FILE, LABELS, load_in3, read_labels, task_key
from personalagent.errors import DataError
from personalagent.schema import ProfileSchema
from tests.conftest import ROOT

CITY, DIET = "geography_environment.location.city", "consumption_lifestyle.diet.pattern"


@pytest.fixture
def in3(tmp_path: Path) -> Path:
    """Four requests in the manner of IN3: one twice, with other white space, and one that nobody labelled."""
    tasks = ["Find me a dinner nearby.", "Add 2 and 2.", "Find me  a dinner nearby. ", "Paint the fence."]
    lines = [json.dumps({"category": "c", "task": task, "vague": True, "thought": "", "missing_details": []}) for task in tasks]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    keys = [task_key(task) for task in tasks[:2]]
    (tmp_path / LABELS).write_text(f"# ours\n{keys[0]}\t{CITY},{DIET}\n{keys[1]}\tnone\n")
    return tmp_path


def test_labels_are_joined_to_the_requests_by_their_words(in3: Path) -> None:
    for path in (in3, in3 / FILE):
        found = load_in3(path, in3 / LABELS)
        assert [(each.request, each.needs) for each in found] == [
            ("Find me a dinner nearby.", (CITY, DIET)),
            ("Add 2 and 2.", ()),
        ]
    assert len({each.request_id for each in found}) == 2


def test_a_missing_file_says_where_to_get_it_and_its_licence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train.jsonl of IN3, got .*OpenBMB/Tell_Me_More.*Apache-2.0"):
        load_in3(tmp_path, tmp_path / LABELS)


def test_another_file_is_told(in3: Path) -> None:
    (in3 / FILE).write_text('{"task": "Something else."}\n')
    with pytest.raises(DataError, match="got none of them"):
        load_in3(in3, in3 / LABELS)
    (in3 / FILE).write_text('{"question": "What?"}\n')
    with pytest.raises(DataError, match=r"train.jsonl:1: expected a record of IN3"):
        load_in3(in3, in3 / LABELS)


@pytest.mark.parametrize("line", ["abc", "abc\t", f"{task_key('Add 2 and 2.')}\tnone"])
def test_a_label_that_cannot_be_read_or_stands_twice_is_told(in3: Path, line: str) -> None:
    with (in3 / LABELS).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=r"in3-labels.tsv:4: expected a new key, a tab and slots or none"):
        load_in3(in3, in3 / LABELS)


def test_our_labels_name_slots_of_the_schema_and_hold_no_text(schema: ProfileSchema) -> None:
    labels = read_labels(ROOT / "data" / "corpus" / LABELS)
    assert len(labels) == 1_259
    assert sum(bool(slots) for slots in labels.values()) == 607
    assert {path for slots in labels.values() for path in slots} <= set(schema.slots)
    assert all(len(key) == 16 and len(slots) == len(set(slots)) <= 3 for key, slots in labels.items())
