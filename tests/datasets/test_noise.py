"""Inserting irrelevant turns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from personalagent.datasets.example import Example
from personalagent.datasets.noise import NoisePool, NoiseProtocol, load_noise, noise_for, quarter_of_characters, with_noise
from personalagent.dialogue import Turn
from personalagent.errors import DataError

EXAMPLE = Example("e/1", "prefeval", "u", "t", ((Turn("hello", "hi"),), (Turn("I hate geese.", "Noted."),)), "Which pet?")


def write(folder: Path, dialogues: int = 8, turns: int = 3) -> str:
    """Write dialogues whose every turn is 40 characters, so 10 tokens, and two turns without a response."""
    records = [
        [
            message
            for turn in range(turns)
            for message in ({"role": "user", "content": f"{n}.{turn}".ljust(20, "u")}, {"role": "assistant", "content": "a" * 20})
        ]
        for n in range(dialogues)
    ]
    records[0] += [{"role": "user", "content": "unanswered"}, {"role": "user", "content": "unanswered"}]
    file = folder / "noise.json"
    file.write_text(
        json.dumps([{"conversation_id": str(n), "conversation": record} for n, record in enumerate(records)]), "utf-8"
    )
    return str(file)


@pytest.fixture
def pool(tmp_path: Path) -> NoisePool:
    """Eight dialogues of three turns, 240 tokens."""
    return load_noise(write(tmp_path))


def said(example: Example) -> list[str]:
    """Return how the inserted utterances begin."""
    return [turn.utterance.rstrip("u") for turn in example.sessions[-1][1:]]


def test_prefeval_inserts_the_same_first_turns_after_the_last_session(pool: NoisePool) -> None:
    noisy = with_noise(EXAMPLE, pool, 45)
    assert noisy.sessions[0] == EXAMPLE.sessions[0]
    assert noisy.sessions[1][0] == Turn("I hate geese.", "Noted.")
    assert said(noisy) == ["0.0", "0.1", "0.2", "1.0", "1.1"]
    assert said(with_noise(replace(EXAMPLE, example_id="e/2"), pool, 45, seed=5)) == said(noisy)
    assert replace(noisy, sessions=EXAMPLE.sessions) == EXAMPLE


@pytest.mark.parametrize(("budget", "turns"), [(0, 0), (1, 1), (10, 1), (11, 2), (240, 24)])
def test_the_fewest_turns_that_reach_the_budget_are_taken(pool: NoisePool, budget: int, turns: int) -> None:
    assert pool.tokens == 240
    for protocol in NoiseProtocol:
        assert len(noise_for(EXAMPLE, pool, budget, protocol=protocol)) == turns


def test_no_budget_leaves_the_example_as_it_is(pool: NoisePool) -> None:
    assert with_noise(EXAMPLE, pool, 0) is EXAMPLE


def test_the_seeded_draw_differs_by_example_and_seed_and_comes_out_the_same_again(pool: NoisePool) -> None:
    def drawn(example_id: str, seed: int) -> list[str]:
        return said(with_noise(replace(EXAMPLE, example_id=example_id), pool, 60, protocol=NoiseProtocol.SEEDED, seed=seed))

    assert drawn("e/1", 0) == drawn("e/1", 0)
    assert len({tuple(drawn(example_id, seed)) for example_id in ("e/1", "e/2", "e/3") for seed in (0, 1)}) > 3
    first = drawn("e/1", 0)
    assert [text.partition(".")[2] for text in first] == ["0", "1", "2", "0", "1", "2"]  # whole dialogues, in their order


def test_a_larger_seeded_budget_goes_on_where_the_smaller_ended(pool: NoisePool) -> None:
    small, large = (noise_for(EXAMPLE, pool, budget, protocol=NoiseProtocol.SEEDED) for budget in (50, 120))
    assert large[: len(small)] == small


def test_the_seeded_draw_leaves_out_the_examples_own_dialogue(pool: NoisePool) -> None:
    own = replace(EXAMPLE, sessions=((pool.dialogues[3][1].turn,),))
    drawn = noise_for(own, pool, 210, protocol=NoiseProtocol.SEEDED)
    assert {noise.turn for noise in drawn}.isdisjoint(noise.turn for noise in pool.dialogues[3])


def test_an_example_without_history_gets_a_session_of_noise(pool: NoisePool) -> None:
    assert len(with_noise(replace(EXAMPLE, sessions=()), pool, 25).sessions[0]) == 3


def test_tokens_are_counted_by_whatever_is_given(tmp_path: Path) -> None:
    assert quarter_of_characters("a" * 10) == 2.5
    words = load_noise(write(tmp_path), count=lambda text: len(text.split()))
    assert [len(noise_for(EXAMPLE, words, budget)) for budget in (2, 3, 48)] == [1, 2, 24]


@pytest.mark.parametrize(
    ("budget", "says"), [(-1, "0 tokens or more, got -1"), (241, "dialogues of 241 tokens to insert, got 240")]
)
def test_a_budget_that_cannot_be_filled_is_refused(pool: NoisePool, budget: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        noise_for(EXAMPLE, pool, budget)
