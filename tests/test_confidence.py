"""What the probabilities of tokens say about an output, by hand."""

from __future__ import annotations

import math

import pytest

from personalagent.confidence import NEW_AT_LEAST, certainty, fact_confidences, line_probabilities
from personalagent.inference import KEEP_AT_LEAST, RefusalReason, infer
from personalagent.llm.base import Completion, TokenLogprob
from personalagent.llm.scripted import ScriptedLLM
from personalagent.parsing import Fact, ParseOutcome
from personalagent.profile import Polarity, Profile
from personalagent.schema import ProfileSchema
from tests.conftest import AT


def written(*tokens: tuple[str, float]) -> Completion:
    """Return an output of tokens with these probabilities."""
    return Completion(
        "".join(token for token, _ in tokens), token_logprobs=tuple(TokenLogprob(token, math.log(p)) for token, p in tokens)
    )


JAZZ = (
    ("1", 0.1),
    (" music", 0.5),
    (".genres", 0.8),
    (" like", 1.0),
    (":", 1.0),
    (" ja", 0.9),
    ("zz", 0.9),
)
PORTO = (("2", 0.9), (" location.city", 0.2), (":", 1.0), (" Porto", 0.1), ("\n", 1.0))


def test_the_first_token_says_how_sure_it_is_that_there_is_anything() -> None:
    assert certainty(written(("new", 0.7), ("\n", 1.0))) == pytest.approx(0.7)
    assert certainty(Completion("new")) is None


def test_the_probability_of_a_line_is_that_of_its_tokens() -> None:
    lines = line_probabilities(written(("music", 0.5), (".genres", 0.8), ("\n", 1.0), ("diet.cuisines", 0.25)))
    assert {line: round(p, 6) for line, p in lines.items()} == {"music.genres": 0.4, "diet.cuisines": 0.25}
    assert line_probabilities(Completion("music.genres")) == {}


def test_a_facts_confidence_is_that_of_its_slot_and_value_not_of_its_clause() -> None:
    said = ("I love jazz,", "in Porto")
    sure = fact_confidences(written(("new", 0.9), ("\n", 1.0), *PORTO, *JAZZ), said)
    assert sure == {
        Fact("location.city", "Porto", "in Porto"): pytest.approx(0.2 * 0.1**0.5),
        Fact("music.genres", "jazz", "I love jazz,", polarity=Polarity.LIKE): pytest.approx(0.4 * 0.9),
    }
    assert fact_confidences(Completion("2 location.city: Porto"), said) == {}


async def inferred(schema: ProfileSchema, completion: Completion):  # type: ignore[no-untyped-def]
    """Infer a turn from one output."""
    llm = ScriptedLLM([completion])
    said = "I love jazz very much, in lovely old Porto"
    return await infer(said, Profile(), llm=llm, schema=schema, at=AT, session_id="s", turn_index=0)


async def test_a_fact_the_policy_doubts_is_refused_and_counted(schema: ProfileSchema) -> None:
    assert 0.2 * 0.1**0.5 < KEEP_AT_LEAST < 0.4 * 0.9
    result = await inferred(schema, written(("new", 0.99), ("\n", 1.0), *PORTO, *JAZZ))
    assert [op.value for op in result.delta.operations] == ["jazz"]
    assert result.refused == {RefusalReason.DOUBTFUL: 1}


async def test_a_policy_not_sure_that_there_is_anything_is_not_believed(schema: ProfileSchema) -> None:
    result = await inferred(schema, written(("new", NEW_AT_LEAST - 0.05), ("\n", 1.0), *JAZZ))
    assert (result.outcome, result.delta.operations) == (ParseOutcome.DOUBTFUL, ())
    assert result.certainty == pytest.approx(NEW_AT_LEAST - 0.05)


async def test_a_policy_that_says_nothing_only_because_of_the_bias_is_doubtful(schema: ProfileSchema) -> None:
    result = await inferred(schema, written(("none", 0.3)))
    assert (result.outcome, result.certainty) == (ParseOutcome.DOUBTFUL, pytest.approx(0.3))
    assert (await inferred(schema, written(("none", 0.9)))).outcome is ParseOutcome.EMPTY


async def test_the_trained_policy_is_biased_by_as_much_as_it_must_be_sure(schema: ProfileSchema) -> None:
    llm = ScriptedLLM(["none"] * 3)
    for notation in ("compact", "general"):
        await infer("Hi", Profile(), llm=llm, schema=schema, at=AT, session_id="s", turn_index=0, notation=notation)
    bias = llm.calls[0].logit_bias
    assert bias is not None
    odds = NEW_AT_LEAST / (1 - NEW_AT_LEAST) * math.exp(bias["new"])
    assert odds == pytest.approx(1), "at the threshold both words are as likely"
    assert llm.calls[1].logit_bias is None


async def test_a_policy_without_probabilities_is_believed(schema: ProfileSchema) -> None:
    result = await inferred(schema, Completion("new\n2 location.city: Porto"))
    assert [op.value for op in result.delta.operations] == ["Porto"]
