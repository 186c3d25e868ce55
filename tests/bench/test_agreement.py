"""Cohen's kappa against values worked out by hand, and what is compared with what."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from personalagent.bench.agreement import Pairs, kappa, observed, quadratic_kappa, summarise_agreement
from personalagent.bench.verdict_files import VerdictRow, judge_row, load_verdicts, of_rubric, write_lines
from personalagent.errors import DataError, UsageError
from personalagent.llm.scripted import ScriptedLLM
from personalagent.rubrics import load_rubric

VIOLATES, ACCURACY, ALIGNMENT, REWARD = map(load_rubric, ("prefeval_violates", "profile_accuracy", "alignment", "reward"))
CRITERIA = [criterion.name for criterion in ACCURACY.criteria]


def table(levels: tuple[float, ...], *rows: tuple[int, ...]) -> Pairs:
    """Return the pairs of a table: a row for each level of the first judge, a column for each of the second."""
    return Counter({(one, other): n for one, row in zip(levels, rows, strict=True) for other, n in zip(levels, row, strict=True)})


def test_two_levels_by_hand() -> None:
    # P_o = 35/50 = 0.7; first says yes 25/50, second 30/50: P_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = 0.2 / 0.5
    pairs = table((1, 0), (20, 5), (10, 15))
    assert observed(pairs) == 0.7
    assert kappa(pairs) == pytest.approx(0.4, abs=1e-12)
    assert quadratic_kappa(pairs) == pytest.approx(0.4, abs=1e-12), "two levels are equally far apart however they are weighted"


def test_three_levels_by_hand() -> None:
    # rows sum to 10, 10, 10; columns to 9, 11, 10; n = 30
    # P_o = (8 + 7 + 8) / 30 = 23/30; P_e = (10*9 + 10*11 + 10*10) / 900 = 300/900 = 1/3; kappa = (23/30 - 1/3) / (2/3) = 0.65
    # quadratic, in steps: observed 1*(2 + 1 + 2) + 4*(0 + 2) = sum below / 30
    #   off by one: 2 (0,.5) + 1 (.5,0) + 2 (.5,1) + 2 (1,.5) = 7;  off by two: 0 (0,1) + 0 (1,0) = 0;  7 / 30
    #   expected: off by one 10*11 + 10*9 + 10*10 + 10*11 = 410; off by two 10*10 + 10*9 = 190; (410 + 4*190) / 900 = 1170/900 = 1.3
    #   1 - (7/30) / 1.3 = 1 - 7/39 = 32/39
    pairs = table((0, 0.5, 1), (8, 2, 0), (1, 7, 2), (0, 2, 8))
    assert kappa(pairs) == pytest.approx(0.65, abs=1e-12)
    assert quadratic_kappa(pairs) == pytest.approx(32 / 39, abs=1e-12)


def test_total_disagreement_and_chance() -> None:
    assert kappa(table((0, 1), (0, 5), (5, 0))) == -1.0
    assert kappa(table((0, 1), (4, 4), (4, 4))) == 0.0
    assert (kappa(table((0, 1), (5, 0), (0, 5))), quadratic_kappa(table((0, 1), (5, 0), (0, 5)))) == (1.0, 1.0)


def test_judges_that_say_one_thing_only_are_not_measured() -> None:
    assert (kappa(Counter({(1.0, 1.0): 9})), quadratic_kappa(Counter({(1.0, 1.0): 9}))) == (None, None)
    assert (observed(Counter()), kappa(Counter())) == (None, None)
    assert kappa(Counter({(1.0, 0.0): 9})) == 0.0, "always unlike, and by chance as often"


def row(
    number: int, *, unit: str = "", rubric: str = "prefeval_violates", sha256: str | None = None, **scores: float
) -> VerdictRow:
    """Return a row of a file of verdicts."""
    return VerdictRow(f"e{number}", "base", rubric, unit or f"e{number}", {}, scores, sha256)


def test_rows_are_paired_by_example_system_and_rubric_and_the_unscored_left_out() -> None:
    first = [row(1, violates=1), row(2, violates=0), row(3, violates=1), row(4), row(5, violates=1)]
    second = [row(5), row(3, violates=0), row(2, violates=0), row(1, violates=1), row(4, violates=1), row(9, violates=1)]
    summary = summarise_agreement(first, second, VIOLATES)
    assert {name: value for name, value in summary.items() if name != "agreement"} == {
        "rubric": "prefeval_violates",
        "compared": 5,
        "units": 5,
        "only_first": 0,
        "only_second": 1,
        "unscored_first": 1,
        "unscored_second": 1,
    }
    # pairs (1,1) (0,0) (1,0): P_o = 2/3, P_e = (2*1 + 1*2)/9 = 4/9; kappa = (2/9) / (5/9)
    violates = summary["agreement"]["violates"]
    assert (violates["pairs"], violates["observed"]) == (3, pytest.approx(2 / 3))
    assert violates["kappa"] == pytest.approx(0.4)


def test_criteria_are_pooled_and_means_are_put_on_five_levels() -> None:
    ones, halves = dict.fromkeys(CRITERIA, 1.0), dict.fromkeys(CRITERIA, 0.5)
    first = [row(1, rubric="profile_accuracy", **ones), row(2, rubric="profile_accuracy", **halves)]
    # 6 of 7 right is 0.857, nearest to 0.75 of 0, 0.25, 0.5, 0.75, 1
    mixed = ones | {"completeness": 0.0}
    second = [row(1, rubric="profile_accuracy", **mixed), row(2, rubric="profile_accuracy", **halves)]
    agreement = summarise_agreement(first, second, ACCURACY)["agreement"]
    assert list(agreement) == [*CRITERIA, "all criteria", "score", "profile_accuracy_5"]
    assert {name: figures["pairs"] for name, figures in agreement.items()} == dict.fromkeys(agreement, 2) | {"all criteria": 14}
    assert agreement["all criteria"]["observed"] == 13 / 14
    # (1, 0.75) and (0.5, 0.5): P_o = 1/2, P_e = (1*0 + 1*1 + 0*1)/4 = 1/4; kappa = 1/3
    assert agreement["score"]["kappa"] == pytest.approx(1 / 3)
    assert agreement["safety"]["kappa"] == 1.0


def test_alignment_levels_are_compared_by_their_nearest_anchor() -> None:
    first = [row(n, rubric="alignment", alignment=level) for n, level in enumerate((0, 30, 52, 80, 95))]
    second = [row(n, rubric="alignment", alignment=level) for n, level in enumerate((10, 25, 50, 85, 40))]
    # anchors 0 25 50 75 100 and 0 25 50 75 50: P_o = 4/5; P_e = (1 + 1 + 2 + 1 + 0)/25 = 1/5; kappa = 3/4
    figures = summarise_agreement(first, second, ALIGNMENT)["agreement"]["alignment"]
    assert (figures["observed"], figures["kappa"]) == (0.8, pytest.approx(0.75))
    # quadratic in steps of 25: observed (100,50) = 4/5; first 0 1 2 3 4, second 0 1 2 3 2
    # expected: first 0: 0+1+4+9+4 = 18; 1: 1+0+1+4+1 = 7; 2: 4+1+0+1+0 = 6; 3: 9+4+1+0+1 = 15; 4: 16+9+4+1+4 = 34; 80/25 = 3.2
    assert figures["quadratic_kappa"] == pytest.approx(1 - 0.8 / 3.2)


def test_a_reward_is_compared_as_one_or_nothing() -> None:
    names = [criterion.name for criterion in REWARD.criteria]
    first = [row(n, rubric="reward", **dict.fromkeys(names, 1.0)) for n in range(2)]
    second = [first[0], row(1, rubric="reward", **dict.fromkeys(names, 1.0) | {"consistency": 0.0})]
    agreement = summarise_agreement(first, second, REWARD)["agreement"]
    assert (agreement["score"]["observed"], agreement["all criteria"]["observed"]) == (0.5, 7 / 8)


def test_a_person_who_left_criteria_out_counts_where_they_did_not() -> None:
    first = [row(n, rubric="profile_accuracy", **dict.fromkeys(CRITERIA, 1.0)) for n in range(2)]
    second = [row(0, rubric="profile_accuracy", safety=1.0), row(1, rubric="profile_accuracy")]
    summary = summarise_agreement(first, second, ACCURACY)
    assert [summary["agreement"][name]["pairs"] for name in ("safety", "completeness", "all criteria", "score")] == [1, 0, 1, 0]


def test_the_interval_resamples_whole_units() -> None:
    def both(unit_of: str) -> tuple[list[VerdictRow], list[VerdictRow]]:
        units = [unit_of.format(n=n, half=n % 10) for n in range(200)]
        first = [row(n, unit=units[n], violates=n % 2) for n in range(200)]
        return first, [row(n, unit=units[n], violates=(n % 2) if n % 10 else 1) for n in range(200)]

    alone, together = (summarise_agreement(*both(unit), VIOLATES)["agreement"]["violates"] for unit in ("u{n}", "u{half}"))
    # yes/yes 100, no/no 80, no/yes 20: P_o = 0.9, P_e = (100*120 + 100*80)/40000 = 0.5; kappa = 0.8
    assert alone["kappa"] == together["kappa"] == pytest.approx(0.8)
    assert alone["kappa_95"][0] < 0.8 < alone["kappa_95"][1]
    assert together["kappa_95"][1] - together["kappa_95"][0] > 2 * (alone["kappa_95"][1] - alone["kappa_95"][0])
    assert summarise_agreement(*both("u{n}"), VIOLATES)["agreement"]["violates"] == alone, "the same seed, the same interval"


def test_verdicts_by_unlike_versions_are_not_compared() -> None:
    same = [row(1, violates=1, sha256=VIOLATES.sha256)]
    assert summarise_agreement(same, [row(1, violates=1)], VIOLATES)["compared"] == 1
    with pytest.raises(UsageError, match="judge again with one version"):
        summarise_agreement(same, [row(1, violates=1, sha256="0" * 64)], VIOLATES)


def test_nothing_in_common_is_no_agreement_of_zero() -> None:
    with pytest.raises(UsageError, match="got 1 and 1 with none in common"):
        summarise_agreement([row(1, violates=1)], [row(2, violates=1)], VIOLATES)


async def test_a_judged_row_is_read_back(tmp_path: Path) -> None:
    fields = {"preference": "a", "question": "b", "reply": "c"}
    rows = [
        VerdictRow("e1", "base", "prefeval_violates", "p1", fields),
        VerdictRow("e2", "base", "prefeval_violates", "p1", fields),
    ]
    llm = ScriptedLLM(['{"reason": "r", "violates": "no"}', "", "", ""])
    lines = [await judge_row(each, llm=llm) for each in rows]
    assert lines[1]["verdict"] is None and "got unreadable" in lines[1]["error"]
    write_lines(tmp_path / "v.jsonl", lines)
    back = load_verdicts(tmp_path / "v.jsonl")
    assert [each.scores for each in back] == [{"violates": 0.0}, {}]
    assert (back[0].unit, back[0].fields, back[0].rubric_sha256) == ("p1", fields, VIOLATES.sha256)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"example_id": "e1"}, "expected example_id, system, rubric and unit as texts"),
        ({"example_id": "e1", "rubric": "reward", "fields": {"gold": 1}}, "fields as a mapping of texts"),
        ({"example_id": "e1", "rubric": "reward", "verdict": {"scores": {"a": "1"}}}, "expected scores to be numbers"),
        ({"example_id": "e1", "rubric": "reward", "verdict": {"scores": {"a": True}}}, "expected scores to be numbers"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(record: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text(json.dumps(record), "utf-8")
    with pytest.raises(DataError, match=rf"v\.jsonl:1: {message}|v\.jsonl:1: .*{message}"):
        load_verdicts(tmp_path / "v.jsonl")


def test_the_same_twice_is_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "v.jsonl", [{"example_id": "e1", "rubric": "reward"}] * 2)
    with pytest.raises(DataError, match=r"v\.jsonl:2: .* twice"):
        load_verdicts(tmp_path / "v.jsonl")


def test_of_several_rubrics_one_must_be_named() -> None:
    rows = [row(1), row(1, rubric="reward")]
    assert of_rubric(rows, "reward")[1] == [rows[1]]
    with pytest.raises(UsageError, match=r"\(prefeval_violates, reward\), got None"):
        of_rubric(rows, None)
    with pytest.raises(UsageError, match="Did you mean 'reward'"):
        of_rubric(rows, "rewards")
