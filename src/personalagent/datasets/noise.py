"""Irrelevant turns between what reveals a preference and the request, up to a budget of tokens (0 to 26k in the paper's figure 5).

Two protocols. ``prefeval`` inserts, into every example, the same first turns of one file in file order (the first 2k messages of
``filtered_inter_turns.json``). ``seeded`` draws whole dialogues of any file in an order that depends on the seed and the example, and leaves
out those that share an utterance with it. Both take the fewest turns whose tokens reach the budget, and append them to the last session.

Tokens are counted by a callable over the text of the two messages; what a chat template adds is not counted. The default is a quarter of the
characters. With it PrefEval's file gives the paper's 3, 9, 13, 29, 36, 62 and 71 pairs for 1k, 3k, 5k, 10k, 13k, 21k and 26k tokens.
Against the tokenizer of Qwen2.5 it lies between 9 % below and 13 % above on the prefixes of that file. For exact counts give a tokenizer's:
``count=lambda text: len(tokenizer.encode(text).ids)``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

from personalagent.datasets.example import Example
from personalagent.datasets.replay import ReplayDialogue, load_dialogues
from personalagent.dialogue import Turn
from personalagent.errors import DataError

TokenCounter = Callable[[str], float]
"""How many tokens a text has."""


def quarter_of_characters(text: str) -> float:
    """Count a token for every four characters."""
    return len(text) / 4


class NoiseProtocol(StrEnum):
    """Which turns are inserted."""

    PREFEVAL = "prefeval"
    SEEDED = "seeded"


@dataclass(frozen=True, slots=True)
class NoiseTurn:
    """A turn that may be inserted, and its tokens."""

    turn: Turn
    tokens: float


@dataclass(frozen=True, slots=True)
class NoisePool:
    """Dialogues to take noise from, turns without a response left out, each turn counted once."""

    dialogues: tuple[tuple[NoiseTurn, ...], ...]

    @property
    def tokens(self) -> float:
        """The largest budget that the pool can fill."""
        return sum(each.tokens for each in chain.from_iterable(self.dialogues))


def load_noise(source: str, *, count: TokenCounter = quarter_of_characters) -> NoisePool:
    """Load the dialogues of a file in any form that ``datasets.replay`` reads.

    Raises:
        DataError: the file cannot be read.
    """
    return pool_of(load_dialogues(source), count=count)


def pool_of(dialogues: Iterable[ReplayDialogue], *, count: TokenCounter = quarter_of_characters) -> NoisePool:
    """Count the tokens of every answered turn."""
    return NoisePool(
        tuple(
            tuple(
                NoiseTurn(turn, count(turn.utterance) + count(turn.response))
                for session in dialogue.sessions
                for turn in session.turns
                if turn.response is not None
            )
            for dialogue in dialogues
        )
    )


def noise_for(
    example: Example, pool: NoisePool, budget_tokens: int, *, protocol: NoiseProtocol = NoiseProtocol.PREFEVAL, seed: int = 0
) -> tuple[NoiseTurn, ...]:
    """Return the fewest turns that reach the budget; none for a budget of 0.

    Raises:
        DataError: the budget is negative, or the pool is too small for it.
    """
    if budget_tokens < 0:
        raise DataError(f"expected a budget of 0 tokens or more, got {budget_tokens}; name another")
    dialogues = list(pool.dialogues)
    if protocol is NoiseProtocol.SEEDED:
        said = {example.request, *(turn.utterance for session in example.sessions for turn in session)}
        dialogues = [each for each in dialogues if said.isdisjoint(noise.turn.utterance for noise in each)]
        random.Random(f"noise:{seed}:{example.dataset}:{example.example_id}").shuffle(dialogues)  # noqa: S311 - a draw, not secrets
    taken: list[NoiseTurn] = []
    tokens = 0.0
    for noise in chain.from_iterable(dialogues):
        if tokens >= budget_tokens:
            break
        taken.append(noise)
        tokens += noise.tokens
    if tokens < budget_tokens:
        raise DataError(
            f"expected dialogues of {budget_tokens} tokens to insert, got {tokens:.0f}; give a larger file or a smaller budget"
        )
    return tuple(taken)


def with_noise(
    example: Example, pool: NoisePool, budget_tokens: int, *, protocol: NoiseProtocol = NoiseProtocol.PREFEVAL, seed: int = 0
) -> Example:
    """Return the example with noise before its request, under the same id; raises as ``noise_for``."""
    noise = tuple(each.turn for each in noise_for(example, pool, budget_tokens, protocol=protocol, seed=seed))
    if not noise:
        return example
    *earlier, last = example.sessions or ((),)
    return replace(example, sessions=(*earlier, (*last, *noise)))
