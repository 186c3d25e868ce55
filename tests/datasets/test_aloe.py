"""Loading ALOE, on dialogues written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from personalagent.datasets.aloe import (
    Inferred,
    load_dialogues,
    load_examples,
    paper_random_split,
    read_personas,
    split_by_profile,
)
from personalagent.dialogue import Turn
from personalagent.errors import DataError, UsageError


def turn(user: str, inferred: str = "None", **changes: Any) -> dict[str, Any]:
    """Return a turn in ALOE's form."""
    replies = {"preferred": f"good {user}", "rejected": f"bad {user}"}
    return {"user": user, "assistant": replies, "chosen": "preferred", "inferred_profile": inferred,
            "inferred_personality": "None", **changes}  # fmt: skip


def write(folder: Path, *records: dict[str, Any]) -> Path:
    """Write a file of dialogues."""
    file = folder / "conversations.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), "utf-8")
    return file


def record(*turns: dict[str, Any], profile: str = "She bakes rye bread.") -> dict[str, Any]:
    """Return a dialogue; the persona is quoted as the raw line of its file."""
    return {"profile": f'"{profile}"\n', "personality": '"She is blunt."\n', "conversations": list(turns)}


def test_what_a_turn_adds_is_the_difference_to_the_turn_before(tmp_path: Path) -> None:
    turns = (
        turn("a"),
        turn("b", "She bakes."),
        turn("c", "She bakes! She has a goose."),
        turn("d", "None"),
        turn("e", "She has a goose named Kofi. She bakes."),
    )
    (dialogue,) = load_dialogues(write(tmp_path, record(*turns)))
    assert [each.profile for each in dialogue.turns] == [
        Inferred(),
        Inferred(("She bakes.",), ("She bakes.",)),
        Inferred(("She bakes!", "She has a goose."), ("She has a goose.",)),
        Inferred(("She bakes!", "She has a goose.")),
        Inferred(("She has a goose named Kofi.", "She bakes."), ("She has a goose named Kofi.",), ("She has a goose.",)),
    ]
    assert {each.personality for each in dialogue.turns} == {Inferred()}


def test_rejected_is_a_text_or_a_list_of_texts(tmp_path: Path) -> None:
    one = turn("a", assistant={"preferred": "p", "rejected": "r"}, chosen="rejected")
    two = turn("b", assistant={"preferred": "p", "rejected": ["r", "s"]}, chosen="rejected")
    (dialogue,) = load_dialogues(write(tmp_path, record(one, two)))
    assert [(each.response, each.preferred, each.rejected) for each in dialogue.turns] == [
        ("r", "p", ("r",)),
        ("r", "p", ("r", "s")),
    ]


def test_a_persona_is_unquoted_and_two_on_a_line_are_two(tmp_path: Path) -> None:
    file = tmp_path / "profile.jsonl"
    file.write_text('"She fishes."\n"He is 37.""He is 46."\n\n"It\\u2019s fine."\n', "utf-8")
    assert read_personas(file) == ("She fishes.", "He is 37.", "He is 46.", "It’s fine.")
    glued = {**record(turn("a")), "profile": '"He is 37.""He is 46."\n'}
    alone = {**record(turn("a")), "profile": '"He is 37."'}
    first, second = load_dialogues(write(tmp_path, glued, alone))
    assert (first.profile, first.personality) == ("He is 37. He is 46.", "She is blunt.")
    assert first.profile_id == second.profile_id


def test_every_turn_is_an_example_after_the_replies_that_carried_on(tmp_path: Path) -> None:
    file = write(tmp_path, record(turn("a", chosen="rejected"), turn("b"), turn("c")))
    first, second, third = load_examples(file, "all")
    assert (first.sessions, first.request, first.k, first.example_id) == ((), "a", 1, "aloe-1/1")
    assert second.sessions == ((Turn("a", "bad a"),),)
    assert (third.sessions, third.k) == (((Turn("a", "bad a"), Turn("b", "good b")),), 3)
    assert third.persona == "She bakes rye bread.\nShe is blunt."
    assert {each.unit for each in (first, second, third)} == {load_dialogues(file)[0].profile_id}


def test_no_profile_of_the_test_split_is_in_training_and_the_papers_split_is_apart(tmp_path: Path) -> None:
    write(tmp_path, *(record(turn("a"), profile=f"He is {number % 40}.") for number in range(400)))
    dialogues = load_dialogues(tmp_path)
    profiles: dict[str, set[str]] = {}
    for each in dialogues:
        profiles.setdefault(split_by_profile(each.profile_id), set()).add(each.profile_id)
    assert sum(map(len, profiles.values())) == 40
    assert {each.unit for each in load_examples(tmp_path)} == profiles["test"]
    random = paper_random_split(dialogues, seed=3)
    test = [each for each in dialogues if random[each.dialogue_id] == "test"]
    assert len(test) == 40
    trained = {each.profile_id for each in dialogues if random[each.dialogue_id] == "train"}
    assert {each.profile_id for each in test} <= trained  # the leak that makes it a second choice
    assert [each.example_id for each in load_examples(tmp_path, "random-split", seed=3)] == [
        f"{each.dialogue_id}/1" for each in test
    ]
    assert random != paper_random_split(dialogues, seed=4)


def test_a_missing_file_says_what_to_get_where_and_under_which_licence(tmp_path: Path) -> None:
    for absent in (tmp_path, tmp_path / "other.jsonl"):
        with pytest.raises(DataError, match=r"conversations\.jsonl.*github\.com/ShujinWu-0814/ALOE.*no licence"):
            load_dialogues(absent)
    with pytest.raises(DataError, match="persona file of ALOE"):
        read_personas(tmp_path / "profile.jsonl")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"profile": ""}, "fields have other types"),
        ({"profile": '"open'}, "expected JSON strings"),
        ({"conversations": [{"assistant": {}}]}, "expected the field 'user'"),
        ({"conversations": [turn("")]}, "fields have other types"),
        ({"conversations": [turn("a", assistant={"preferred": "p", "rejected": [1]})]}, "fields have other types"),
        ({"conversations": 3}, "fields have other types"),
    ],
)
def test_a_record_that_is_not_aloes_is_refused_with_its_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says) as refused:
        load_dialogues(write(tmp_path, {**record(turn("a")), **changes}))
    assert str(refused.value).startswith("conversations.jsonl:1: ")


def test_an_unknown_variant_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'random-split'"):
        load_examples(tmp_path, "random")
