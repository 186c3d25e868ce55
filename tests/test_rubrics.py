"""Rubrics as data: what is packaged, how labels are read, and what is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from personalagent.errors import DataError
from personalagent.rubrics import Combine, load_rubric, nearest, parse_rubric, rubric_names

OWN = """
version: 1
task: Judge the reply.
fields: {reply: What was answered.}
combine: mean
criteria:
  - name: fit
    question: Does it fit?
    levels: {no: It does not., yes: It does.}
"""
FIVE = ("attribute_accuracy", "completeness", "no_hallucination", "personality_alignment", "overall_similarity")


def test_the_packaged_rubrics_are_those_of_the_paper_and_of_prefeval() -> None:
    shape = {name: [criterion.name for criterion in load_rubric(name).criteria] for name in rubric_names()}
    assert shape == {
        "alignment": ["alignment"],
        "prefeval_acknowledges": ["acknowledges"],
        "prefeval_hallucinates": ["hallucinates"],
        "prefeval_helpful": ["helpful"],
        "prefeval_violates": ["violates"],
        "profile_accuracy": [*FIVE, "consistency", "safety"],
        "reward": ["completeness", "no_hallucination", "informativeness", "consistency"],
    }
    assert {name: load_rubric(name).combine for name in shape if load_rubric(name).combine is Combine.ALL} == {"reward": "all"}


@pytest.mark.parametrize("name", rubric_names())
def test_every_level_says_what_it_means(name: str) -> None:
    rubric = load_rubric(name)
    assert len(rubric.sha256) == 64
    assert all(level.meaning for criterion in rubric.criteria for level in criterion.levels)
    assert list(rubric.json_schema()["properties"]) == [*rubric.texts, *(each.name for each in rubric.criteria)]  # type: ignore[call-overload]


def test_profile_accuracy_is_a_mean_of_seven_and_of_five_computed_here() -> None:
    rubric = load_rubric("profile_accuracy")
    scores = dict.fromkeys(FIVE, 0.5) | {"consistency": 1.0, "safety": 1.0, "overall_similarity": 0.0}
    assert rubric.score(scores) == 4.0 / 7  # 4 * 0.5 + 0 + 1 + 1
    assert rubric.variant_scores(scores) == {"profile_accuracy_5": 0.4}  # 4 * 0.5 / 5


def test_the_reward_is_one_only_where_all_four_hold() -> None:
    rubric = load_rubric("reward")
    names = [criterion.name for criterion in rubric.criteria]
    rewards = [rubric.score(dict(zip(names, values, strict=True))) for values in product((0.0, 1.0), repeat=4)]
    assert rewards == [0.0] * 15 + [1.0]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("0", 0.0),
        ("0.5", 0.5),
        ("0,5", 0.5),
        ("1.0", 1.0),
        ("1/1", 1.0),
        ("**0.5**", 0.5),
        ("0.5 (part of it is missing)", 0.5),
        ("0: the reply has 3 errors", 0.0),
        ("0.7", 0.5),
        ("0.8", 1.0),
        ("0.25", 0.0),
        ("0.75", 0.5),
        ("5", None),
        ("1/5", None),
        ("80%", None),
        ("-1", None),
        ("0 or 1", None),
        ("0, 0.5 or 1", None),
        ("0-1", None),
        ("0.5 - 1", None),
        ("yes", None),
        ("NaN", None),
        ("", None),
    ],
)
def test_a_graded_label_is_clamped_to_its_three_levels_or_not_read(text: str, score: float | None) -> None:
    assert load_rubric("profile_accuracy").criteria[0].read(text) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("yes", 1.0),
        ("No.", 0.0),
        ("`YES`", 1.0),
        ("no, it does not answer", 0.0),
        ("yes: it recommends prawns", 1.0),
        ("yes or no", None),
        ("yes/no", None),
        ("yes, no", None),
        ("yes and no", None),
        ("not sure", None),
        ("nothing", None),
        ("unknown", None),
        ("1", None),
        ("", None),
    ],
)
def test_a_yes_is_the_word_and_not_a_part_of_another(text: str, score: float | None) -> None:
    assert load_rubric("prefeval_violates").criteria[0].read(text) == score


@pytest.mark.parametrize(
    ("text", "score"), [("0", 0), ("73", 73), ("73/100", 73), ("72.5", 72.5), ("100", 100), ("101", None), ("7/10", None)]
)
def test_an_alignment_level_is_any_number_up_to_100(text: str, score: float | None) -> None:
    assert load_rubric("alignment").criteria[0].read(text) == score


def test_of_two_levels_equally_near_the_lower_one_counts() -> None:
    assert [nearest(value, (0, 0.5, 1)) for value in (0.25, 0.26, 0.75, 0.76)] == [0, 0.5, 0.5, 1]


def test_ones_own_rubric_is_loaded_by_path_and_yes_needs_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN, "utf-8")
    rubric = load_rubric(str(path))
    assert (rubric.name, rubric.criteria[0].choices, rubric.criteria[0].read("yes")) == ("mine", "no or yes", 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("task: Judge the reply.", ""), "add task"),
        (("combine: mean", "combine: median"), "expected combine to be mean or all, got 'median'"),
        (("{no: It does not., yes: It does.}", "{yes: It does.}"), "expected levels yes and no, or two numbers or more, got yes"),
        (("{no: It does not., yes: It does.}", "{maybe: x, 1: y}"), "got maybe, 1"),
        (("name: fit", "name: The fit"), "rename it"),
        (("version: 1", "version: 1\nweights: {}"), "remove weights"),
        (("combine: mean", "combine: mean\nvariants: {a: [fat]}"), "got 'fat'"),
        (("combine: mean", "combine: mean\ntexts: {fit: x}"), "got 'fit' twice"),
        (("fields:", "fields: ["), "text that does not parse"),
        (("task", "- task"), "does not parse"),
    ],
)
def test_a_rubric_that_is_not_well_formed_says_what_to_mend(change: tuple[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_rubric(OWN.replace(*change), "mine")


def test_an_unknown_rubric_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'reward'"):
        load_rubric("rewards")
    with pytest.raises(DataError, match="FileNotFoundError"):
        load_rubric(str(tmp_path / "absent.yaml"))
