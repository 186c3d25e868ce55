"""Loading PrefEval, on a folder of its shape with text written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personalagent.datasets.prefeval import GROUPS, TOPICS, Form, Task, group_of, inter_turns_file, load_examples, load_prefeval
from personalagent.dialogue import Turn
from personalagent.errors import DataError

Records = list[dict[str, Any]]


def items(topic: str, count: int) -> Records:
    """Return preferences of a topic; the first two are the same preference."""
    return [
        {"preference": f"I avoid {topic} {max(n, 1)}.", "question": f"{topic} {n}?", "explanation": f"why {n}"}
        for n in range(count)
    ]


def write(folder: Path, where: str, records: object) -> None:
    """Write one file of the folder."""
    file = folder / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(records), "utf-8")


@pytest.fixture
def prefeval(tmp_path: Path) -> Path:
    """A folder with two of the twenty topics in every form, and strays."""
    choice = {"query": "pets?", "assistant_options": "1 or 2?", "user_selection": "2", "assistant_acknowledgment": "ok"}
    persona = {str(n): {"user": f"u{n}", "assistant": f"a{n}"} for n in (10, 0, 2, 1, 3, 4, 5, 6, 7, 8, 9)}
    for topic, count in (("pet_ownership", 12), ("travel_hotel", 3)):
        records = items(topic, count)
        write(tmp_path, f"explicit_preference/{topic}.json", records)
        write(tmp_path, f"implicit_preference/choice-based/{topic}.json", [{**each, "conversation": choice} for each in records])
        driven = [{**each, "persona": "a diver", "fix": 1, "conversation": persona} for each in records]
        write(tmp_path, f"implicit_preference/persona-driven/{topic}.json", driven)
        options = [f"right {topic}", "x", "y", "z"]
        write(tmp_path, f"mcq_options/{topic}.json", [{**each, "classification_task_options": options} for each in records])
    for stray in ("explicit_preference/travel_hotel copy.json", "explicit_preference/travel_hotel copy/travel_hotel.json"):
        write(tmp_path, stray, items("stray", 9))
    return tmp_path


def test_the_explicit_form_states_the_preference_in_one_unanswered_turn(prefeval: Path) -> None:
    examples = load_examples(prefeval)
    assert len(examples) == 15
    third = examples[2]
    assert (third.example_id, third.dataset, third.topic) == ("explicit/pet_ownership/2", "prefeval", "pet_ownership")
    assert third.sessions == ((Turn("I avoid pet_ownership 2."),),)
    assert (third.request, third.preference, third.explanation) == ("pet_ownership 2?", "I avoid pet_ownership 2.", "why 2")
    assert (third.options, third.right, third.persona, third.missing) == ((), None, None, None)


def test_questions_about_one_preference_are_one_unit_in_every_form(prefeval: Path) -> None:
    for form in Form:
        units = [each.unit for each in load_prefeval(prefeval, form) if each.topic == "travel_hotel"]
        assert units == ["travel_hotel/0", "travel_hotel/0", "travel_hotel/2"]


def test_the_choice_based_form_is_two_turns(prefeval: Path) -> None:
    assert load_examples(prefeval, "choice-based")[0].sessions == ((Turn("pets?", "1 or 2?"), Turn("2", "ok")),)


def test_the_persona_driven_form_counts_turns_from_zero_past_nine(prefeval: Path) -> None:
    example = load_examples(prefeval, "persona-driven")[0]
    assert example.sessions == (tuple(Turn(f"u{n}", f"a{n}") for n in range(11)),)
    assert example.persona == "a diver"


@pytest.mark.parametrize("form", list(Form))
def test_options_are_shuffled_by_seed_and_place_and_the_right_one_is_known(prefeval: Path, form: Form) -> None:
    examples = load_prefeval(prefeval, form, task=Task.MCQ, seed=7)
    assert all(each.right is not None and each.options[each.right] == f"right {each.topic}" for each in examples)
    assert all(sorted(each.options) == sorted({*each.options}) and len(each.options) == 4 for each in examples)
    assert len({each.right for each in examples}) > 1
    assert examples == load_prefeval(prefeval, form, task=Task.MCQ, seed=7)
    assert [each.options for each in examples] == [each.options for each in load_examples(prefeval, "explicit-mcq", seed=7)]
    assert [each.options for each in examples] != [each.options for each in load_prefeval(prefeval, form, task=Task.MCQ, seed=8)]


def test_a_folder_with_fewer_topics_has_the_same_orders(prefeval: Path) -> None:
    whole = load_examples(prefeval, "explicit-mcq")
    (prefeval / "explicit_preference" / "pet_ownership.json").unlink()
    assert load_examples(prefeval, "explicit-mcq") == whole[12:]


def test_the_whole_release_may_be_given(prefeval: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    clone = tmp_path_factory.mktemp("clone")
    (clone / "benchmark_dataset").symlink_to(prefeval)
    write(prefeval, "filtered_inter_turns.json", [])
    assert load_examples(clone) == load_examples(prefeval)
    assert inter_turns_file(clone).resolve() == inter_turns_file(prefeval)


def test_the_twenty_topics_make_the_seven_groups_of_table_1() -> None:
    assert list(GROUPS) == ["Education", "Entertainment", "Lifestyle", "Pet", "Work", "Shopping", "Travel"]
    assert [len(topics) for topics in GROUPS.values()] == [2, 4, 4, 1, 1, 4, 4]
    assert len(set(TOPICS)) == 20
    assert (group_of("shop_home"), group_of("professional_work_location_style"), group_of("career_finance")) == (
        "Shopping", "Work", "career_finance"
    )  # fmt: skip


def test_a_missing_file_says_what_to_get_where_and_under_which_licence(prefeval: Path, tmp_path: Path) -> None:
    source = r"github\.com/amazon-science/PrefEval.*CC BY-NC 4\.0"
    with pytest.raises(DataError, match=source):
        load_examples(tmp_path / "absent")
    with pytest.raises(DataError, match=source):
        inter_turns_file(prefeval)
    (prefeval / "mcq_options" / "travel_hotel.json").unlink()
    with pytest.raises(DataError, match=rf"mcq_options/travel_hotel\.json, got No such file.*{source}"):
        load_examples(prefeval, "explicit-mcq")


def spoil(change: Callable[[Records], object]) -> Callable[[Path, str], None]:
    """Return what changes the records of a file."""

    def spoiled(folder: Path, where: str) -> None:
        records = json.loads((folder / where).read_text("utf-8"))
        write(folder, where, change(records))

    return spoiled


@pytest.mark.parametrize(
    ("where", "change", "says"),
    [
        ("explicit_preference", lambda r: {"a": r}, "expected a JSON array of objects"),
        (
            "explicit_preference",
            lambda r: [{"question": each["question"]} for each in r],
            r"travel_hotel\.json\[0\]: expected the field 'preference'",
        ),
        ("explicit_preference", lambda r: [{**each, "conversation": 3} for each in r], "fields have other types"),
        ("mcq_options", lambda r: r[::-1], "the questions of its topic in the same order"),
        ("mcq_options", lambda r: [{**each, "classification_task_options": None} for each in r], "to list texts, got none"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(prefeval: Path, where: str, change: Callable[[Records], object], says: str) -> None:
    spoil(change)(prefeval, f"{where}/travel_hotel.json")
    with pytest.raises(DataError, match=says):
        load_examples(prefeval, "explicit-mcq")
