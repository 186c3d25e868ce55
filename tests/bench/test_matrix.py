"""Every system on every data set, and every table from the rows; the numbers are worked out in ``tests.bench.suite``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from personalagent.bench.figures import draw_figures
from personalagent.bench.report_suite import as_html, as_markdown, tables_of
from personalagent.bench.suite_numbers import Suite, load_suite, suite_numbers
from tests.bench.suite import DATA_SETS, NOISE, SYSTEMS, run_suite

Blocks = Mapping[tuple[str, int], Mapping[str, Any]]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Run the whole matrix once."""
    root = tmp_path_factory.mktemp("runs")

    async def run() -> None:
        for dataset in DATA_SETS:
            await run_suite(dataset, root / dataset.replace(":", "-"))

    asyncio.run(run())
    return load_suite(sorted(root.iterdir()))


@pytest.fixture(scope="module")
def numbers(suite: Suite) -> dict[str, Any]:
    return suite_numbers(suite)


@pytest.fixture(scope="module")
def blocks(numbers: dict[str, Any]) -> Blocks:
    return {(block["dataset"], block["noise_tokens"]): block for block in numbers["blocks"]}


def test_every_row_is_there(numbers: dict[str, Any], blocks: Blocks) -> None:
    assert numbers["rows"] == numbers["rows_expected"] == len(DATA_SETS) * len(SYSTEMS) * len(NOISE) * 5
    assert set(blocks) == {(dataset, noise) for dataset in DATA_SETS for noise in NOISE}
    for block in blocks.values():
        assert list(block["scores"]) == list(SYSTEMS)


@pytest.mark.parametrize("dataset", ["prefeval:explicit-mcq", "prefeval:explicit"])
@pytest.mark.parametrize("noise", NOISE)
def test_table_1_is_the_mean_of_topic_groups(blocks: Blocks, dataset: str, noise: int) -> None:
    """Travel is examples 1 and 2, Pet 3, Shopping 4 and 5."""
    scores = blocks[dataset, noise]["scores"]
    base, agent, reminder, react = (scores[name] for name in ("base", "personal-agent", "reminder", "react"))
    assert base["groups"] == {"Travel": 100.0, "Pet": 0.0, "Shopping": 0.0}
    assert base["average"] == pytest.approx(100 / 3)
    assert (base["rows"], base["scored"], base["unscored"], base["failed"]) == (5, 4, 1, 0)
    assert agent["groups"] == {"Travel": 100.0, "Pet": 100.0, "Shopping": 50.0}
    assert agent["average"] == pytest.approx(250 / 3)
    # over examples 1 to 4, which both have a score for: 100 - 33.3
    assert agent["minus_base"]["difference"] == pytest.approx(200 / 3)
    assert (agent["minus_base"]["examples"], agent["minus_base"]["left_out"]) == (4, 1)
    assert (reminder["scored"], reminder["unscored"], reminder["failed"]) == (3, 1, 1)
    assert reminder["groups"]["Travel"] == 100.0
    assert react["groups"] == {"Travel": 100.0, "Pet": 100.0, "Shopping": 0.0}
    assert scores["membank"]["groups"] == react["groups"]
    for same in ("cot", "rag", "self-critic"):
        assert scores[same]["groups"] == base["groups"]


def test_table_2_is_al_k(blocks: Blocks) -> None:
    alignment = blocks["aloe:all", 0]["alignment"]
    base, agent = alignment["base"], alignment["personal-agent"]
    assert list(base["levels"]) == [75, 75, 25, 25, None] and base["mean"] == 50 and base["unscored"] == 1
    assert list(agent["levels"]) == [75, 75, 75, 75, 25] and agent["mean"] == 65
    # sum (k - 3)(AL - 65) = -20 - 10 + 0 + 10 - 80 = -100 over 10; squares: 4·100 + 1,600 = 2,000, of the line 1,000
    assert (agent["rate"], agent["r2"]) == (pytest.approx(-10), pytest.approx(0.5))
    assert agent["area"] == pytest.approx((3 * 75 + 50) / 4)
    assert blocks["prefeval:explicit", 0]["alignment"] == {}


def test_table_5_is_the_agent_by_its_categories(blocks: Blocks) -> None:
    masks = blocks["prefeval:explicit", 10]["masks"]
    assert list(masks) == ["3", "6", "9", "11"]
    assert {name: each["average"] for name, each in masks.items()} == {name: pytest.approx(250 / 3) for name in masks}


def test_an_error_of_prefeval_is_named(blocks: Blocks) -> None:
    errors = blocks["prefeval:explicit", 0]["errors"]
    assert errors["base"] == {"unaware": 2} and errors["personal-agent"] == {"unaware": 1}


def test_asking_is_counted_where_the_data_set_says_what_is_missing(blocks: Blocks) -> None:
    """It asks at 1, 3 and 5; at 1, 2 and 3 it should. The first three categories do not hold the slot."""
    asking = blocks["unseen:test", 0]["asking"]
    agent = asking["personal-agent"]
    assert agent["ask_recall"] == pytest.approx(2 / 3) and agent["over_ask"] == 0.5
    assert agent["ask_f1"] == pytest.approx(2 * 2 / (3 + 3)) and (agent["due"], agent["not_due"]) == (3, 2)
    assert asking["personal-agent:3"]["ask_recall"] == asking["base"]["ask_f1"] == 0
    assert asking["reminder"]["due"] == 2, "the reply that failed is left out"
    assert blocks["aloe:all", 0]["asking"] == {}


def test_calls_and_tokens_are_those_of_the_endpoint(blocks: Blocks) -> None:
    """Ten tokens a message: system, two of history, request; the noise adds two. The policy reads a turn for a hundred."""
    plain, noisy = (blocks["prefeval:explicit", noise]["cost"] for noise in NOISE)
    assert plain["base"]["request"]["prompt_tokens"] == 40 and noisy["base"]["request"]["prompt_tokens"] == 60
    assert plain["self-critic"]["request"]["calls"] == 3
    assert plain["personal-agent"]["history"]["prompt_tokens"] == 100
    assert noisy["personal-agent"]["history"]["prompt_tokens"] == 200
    assert plain["base"]["history"]["calls"] == 0 and plain["base"]["calls_without_usage"] == 0
    assert plain["reminder"]["answered"] == 4
    times = blocks["prefeval:explicit", 0]["times"]
    assert times["rag"]["embedding_s"] == 1.5, "two messages and the request, half a second each"
    assert times["base"]["request_s"] < 0.5 and times["base"]["embedding_s"] == 0


def test_the_report_has_every_table_and_figure(suite: Suite, numbers: dict[str, Any], tmp_path: Path) -> None:
    agreement = {"same": {"rubric": "alignment", "agreement": {"alignment": KAPPA}}}
    tables = tables_of(numbers, agreement)
    titles = " ".join(table.title for table in tables)
    assert all(f"Table {n}." in titles for n in (1, 2, 3, 5))
    figures = draw_figures(numbers, tmp_path)
    assert list(figures) == ["alignment", "masks", "noise", "tokens"]
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    draw_figures(numbers, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    page = as_html(suite, numbers, tables, figures, tmp_path)
    assert page.count("data:image/svg+xml;base64,") == 4 and 'src="http' not in page and "minus Base" in page
    text = as_markdown(suite, numbers, tables, figures)
    assert "| base | 0.0 | 0.0 | 100.0 | 33.3 |" in text and "| personal-agent | 100.0 | 50.0 | 100.0 | 83.3 |" in text
    assert "+66.7" in text and "0.500" in text and "Responder: responder; policy: policy; judge: judge" in text
    assert "unscored" in text and "NOT FINISHED" not in text


KAPPA = {
    "pairs": 4,
    "observed": 0.75,
    "kappa": 0.5,
    "kappa_95": [0.1, 0.9],
    "quadratic_kappa": 0.6,
    "quadratic_kappa_95": None,
}


def test_every_row_of_every_table_has_a_cell_for_each_column(numbers: dict[str, Any]) -> None:
    tables = tables_of(numbers)
    assert len(tables) > 5
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.header)}, table.title
