"""What the probabilities of a policy's tokens say: is there anything, how sure is each fact, how sure is each needed slot.

A model that gives no probabilities is believed: every function returns None or an empty mapping for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from personalagent.llm.base import Completion, TokenLogprob
from personalagent.parsing import SOMETHING, Fact, ParsedFacts, ParseOutcome, parse_compact

NEW_AT_LEAST = 0.97
"""Probability from which the trained policy's "there is something new" is believed; chosen on the dev split (docs/decisions/0002)."""


def certainty(completion: Completion) -> float | None:
    """Return the probability of the first token, by which the trained policy says whether there is anything."""
    return math.exp(completion.token_logprobs[0].logprob) if completion.token_logprobs else None


def caution() -> dict[str, float] | None:
    """Return the bias under which the policy writes its word for "something" only where it is sure enough of it.

    So it says "nothing" at once, and writes no facts that would be thrown away; None where every first word is believed.
    """
    return {SOMETHING: math.log((1 - NEW_AT_LEAST) / NEW_AT_LEAST)} if NEW_AT_LEAST else None


def is_doubtful(parsed: ParsedFacts, sure: float | None) -> bool:
    """Tell whether the policy, by its certainty, rather found something than not, but was not sure enough of it."""
    if sure is None:
        return False
    return sure < NEW_AT_LEAST if parsed.facts else parsed.outcome is ParseOutcome.EMPTY and sure < 0.5


def line_probabilities(completion: Completion) -> dict[str, float]:
    """Return the probability of each line of an output, given the lines before it."""
    lines: dict[str, float] = {}
    for text, tokens in _lines(completion):
        lines.setdefault(text, math.exp(sum(token.logprob for token in tokens)))
    return lines


def fact_confidences(completion: Completion, clauses: Sequence[str]) -> dict[Fact, float]:
    """Return how sure the policy is of each fact of a compact output about these clauses, 0 to 1.

    It is the probability of the slot given the clause, times the geometric mean of the probabilities of the value's tokens: a long value
    is no less likely to be right than a short one. Which clause is named says little and does not count.
    """
    confidences: dict[Fact, float] = {}
    for text, tokens in _lines(completion):
        for fact in parse_compact(text, clauses).facts:
            slot, value = _slot_and_value(tokens)
            mean = sum(value) / len(value) if value else 0.0
            confidences.setdefault(fact, math.exp(sum(slot) + mean))
    return confidences


def _slot_and_value(tokens: list[TokenLogprob]) -> tuple[list[float], list[float]]:
    """Split the log probabilities behind the clause's number at the first colon."""
    slot: list[float] = []
    value: list[float] = []
    written = ""
    for token in tokens:
        if written.strip() and not (written + token.token).strip().isdigit():
            (value if ":" in written else slot).append(token.logprob)
        written += token.token
    return slot, value


def _lines(completion: Completion) -> Iterator[tuple[str, list[TokenLogprob]]]:
    """Yield each line that is not blank with its tokens; a token that ends a line belongs to it."""
    text, tokens = "", list[TokenLogprob]()
    for token in completion.token_logprobs or ():
        head, *rest = token.token.split("\n")
        text, tokens = text + head, [*tokens, token]
        if rest:
            if text.strip():
                yield text.strip(), tokens
            text, tokens = rest[-1], []
    if text.strip():
        yield text.strip(), tokens
