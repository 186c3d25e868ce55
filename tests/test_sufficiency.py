"""Needed slots, what of them is known, and the rules of asking."""

from __future__ import annotations

import math

import pytest

from personalagent.errors import LLMUnreachable
from personalagent.inference import Notation
from personalagent.llm.base import FinishReason, TokenLogprob
from personalagent.llm.scripted import Completion, ScriptedLLM
from personalagent.parsing import ParseOutcome
from personalagent.profile import Polarity, Profile
from personalagent.schema import AskPolicy, ProfileSchema
from personalagent.sufficiency import (
    MAX_KNOWN_NAMES,
    AskRules,
    Assessment,
    Decision,
    WhyNot,
    assess,
    build_needs_prompt,
    decide,
    is_risky_to_guess,
    question_for,
    relevant_values,
)
from tests.conftest import ProfileOf

CITY = "geography_environment.location.city"
ALLERGIES = "basic_demographics.health.allergies_intolerances"
GENRES = "interests_preferences.music.genres"
CUISINES = "consumption_lifestyle.diet.cuisines"


def decided(
    schema: ProfileSchema,
    *needs: str,
    profile: Profile | None = None,
    rules: AskRules | None = None,
    probabilities: tuple[float, ...] = (),
) -> Assessment:
    """Decide for a request that needs the named slots."""
    slots = [schema.slot(name) for name in needs]
    return decide("Any ideas?", slots, profile or Profile(), rules or AskRules(), probabilities=probabilities)


def name_with(schema: ProfileSchema, ask: AskPolicy, *, is_sensitive: bool = False) -> str:
    """Return the first slot of an ask policy."""
    return next(slot.path for slot in schema if slot.ask is ask and slot.is_sensitive == is_sensitive)


def test_a_request_that_needs_nothing_is_answered(schema: ProfileSchema) -> None:
    result = decided(schema)
    assert (result.decision, result.question, result.reasons) == (
        Decision.ANSWER,
        None,
        ("Any user would want the same answer.",),
    )


def test_a_request_whose_needs_are_known_is_answered(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    result = decided(schema, "location.city", profile=profile_of(("location.city", "Porto")))
    assert (result.decision, [value.value for value in result.known], result.missing) == (Decision.ANSWER, ["Porto"], ())


def test_a_missing_slot_is_asked_for_after_a_provisional_answer(schema: ProfileSchema) -> None:
    result = decided(schema, "music.genres")
    assert (result.decision, result.ask_for, result.missing) == (Decision.ANSWER_AND_ASK, GENRES, (GENRES,))
    assert result.question == question_for(schema.slots[GENRES])


def test_what_would_be_dangerous_to_guess_is_asked_before_the_answer(schema: ProfileSchema) -> None:
    assert is_risky_to_guess(schema.slots[ALLERGIES])
    assert decided(schema, "health.allergies_intolerances").decision is Decision.ASK
    assert not is_risky_to_guess(schema.slots[CITY])


def test_a_slot_that_the_policy_is_not_sure_of_is_not_asked_for(schema: ProfileSchema) -> None:
    rules = AskRules(ask_at_least=0.5)
    result = decided(schema, "music.genres", "diet.cuisines", rules=rules, probabilities=(0.4, 0.6))
    assert (result.ask_for, result.not_asked) == (None, ((GENRES, WhyNot.UNSURE), (CUISINES, WhyNot.UNSURE)))
    assert decided(schema, "music.genres", rules=rules).ask_for == GENRES, "a policy that gives no probabilities is believed"


async def test_the_trained_policys_probabilities_decide_whether_to_ask(schema: ProfileSchema) -> None:
    tokens = (TokenLogprob("music.genres", math.log(0.3)),)
    llm = ScriptedLLM([Completion("music.genres", token_logprobs=tokens)] * 2)
    sure, unsure = [
        await assess("Play something", Profile(), llm=llm, schema=schema, rules=AskRules(ask_at_least=limit))
        for limit in (0.2, 0.5)
    ]
    assert llm.calls[0].logprobs
    assert (sure.ask_for, unsure.ask_for) == (GENRES, None)
    assert sure.probabilities == pytest.approx((0.3,))


def test_one_question_at_a_time(schema: ProfileSchema) -> None:
    result = decided(schema, "music.genres", "diet.cuisines")
    assert (result.ask_for, result.not_asked) == (GENRES, ((CUISINES, WhyNot.NOT_FIRST),))


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (AskRules(declined=frozenset({GENRES})), WhyNot.DECLINED),
        (AskRules(asked=frozenset({GENRES})), WhyNot.ASKED),
        (AskRules(questions_left=0), WhyNot.BUDGET),
    ],
)
def test_a_slot_is_not_asked_for_when_the_session_forbids_it(schema: ProfileSchema, rules: AskRules, why: WhyNot) -> None:
    result = decided(schema, "music.genres", rules=rules)
    assert (result.decision, result.ask_for, result.not_asked) == (Decision.ANSWER, None, ((GENRES, why),))


def test_the_next_missing_slot_is_asked_for_when_the_first_was_asked_before(schema: ProfileSchema) -> None:
    result = decided(schema, "music.genres", "diet.cuisines", rules=AskRules(asked=frozenset({GENRES})))
    assert (result.ask_for, result.not_asked) == (CUISINES, ((GENRES, WhyNot.ASKED),))


def test_a_slot_that_is_only_volunteered_is_never_asked_for(schema: ProfileSchema) -> None:
    path = name_with(schema, AskPolicy.NEVER)
    result = decided(schema, path)
    assert (result.decision, result.not_asked) == (Decision.ANSWER, ((path, WhyNot.NEVER),))


def test_a_sensitive_slot_is_asked_for_with_consent_only(schema: ProfileSchema) -> None:
    slot = schema.slots[ALLERGIES]
    assert slot.is_sensitive
    refused = decided(schema, ALLERGIES, rules=AskRules(consent=frozenset()))
    assert (refused.decision, refused.not_asked) == (Decision.ANSWER, ((ALLERGIES, WhyNot.NO_CONSENT),))
    for consent in (None, frozenset({slot.category})):
        assert decided(schema, ALLERGIES, rules=AskRules(consent=consent)).ask_for == ALLERGIES


def test_a_slot_to_be_asked_only_if_needed_is_asked_for_only_when_it_comes_first(schema: ProfileSchema) -> None:
    path = name_with(schema, AskPolicy.IF_NEEDED)
    assert decided(schema, path).ask_for == path
    result = decided(schema, "music.genres", path, rules=AskRules(asked=frozenset({GENRES})))
    assert result.not_asked == ((GENRES, WhyNot.ASKED), (path, WhyNot.NOT_WORTH_IT))


def test_every_reason_not_to_ask_is_explained_in_words(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    never, if_needed = name_with(schema, AskPolicy.NEVER), name_with(schema, AskPolicy.IF_NEEDED)
    results = [
        decided(schema, never),
        decided(schema, GENRES, if_needed),
        decided(schema, GENRES, CUISINES),
        decided(schema, GENRES, rules=AskRules(questions_left=0)),
        decided(schema, GENRES, rules=AskRules(asked=frozenset({GENRES}))),
        decided(schema, GENRES, rules=AskRules(declined=frozenset({GENRES}))),
        decided(schema, ALLERGIES, rules=AskRules(consent=frozenset())),
        decided(schema, GENRES, rules=AskRules(is_muted=True)),
        decided(schema, GENRES, rules=AskRules(is_urgent=True)),
        decided(schema, GENRES, rules=AskRules(ask_at_least=0.6), probabilities=(0.5,)),
    ]
    assert {why for result in results for _, why in result.not_asked} == set(WhyNot)
    assert all(any(line.startswith("Not asking for ") for line in result.reasons) for result in results)


def test_the_reasoning_is_readable(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    result = decided(schema, CITY, GENRES, profile=profile_of(("location.city", "Porto")), rules=AskRules(questions_left=0))
    assert result.reasons == (
        "A good answer depends on city (location).",
        "A good answer depends on genres (music).",
        "Known: city (location) is 'Porto'.",
        "Not known: genres (music).",
        "Not asking for genres (music): enough was asked in this session.",
    )


async def test_the_policy_names_the_needs_and_code_looks_them_up(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    llm = ScriptedLLM(["diet.cuisines\nlocation.city"])
    result = await assess("Where to eat?", profile_of(("location.city", "Porto")), llm=llm, schema=schema)
    assert (result.needs, result.missing, result.outcome) == ((CUISINES, CITY), (CUISINES,), ParseOutcome.OK)
    prompt = llm.calls[0].messages[0].content.split("\n")
    assert (prompt[0], *prompt[2:]) == ("needs", "known: location.city", "request: Where to eat?")
    assert prompt[1].startswith("likely: ") and "diet.restrictions" in prompt[1], "what requests like it needed"
    assert "consumption_lifestyle.diet.restrictions" in result.likely


async def test_unknown_names_are_left_out_near_misses_mapped_and_repeats_dropped(schema: ProfileSchema) -> None:
    llm = ScriptedLLM(["starships.favourite\nlocation.citty\nlocation.city\nmusic.genre"])
    result = await assess("Where to?", Profile(), llm=llm, schema=schema)
    assert result.needs == (CITY, GENRES)


async def test_at_most_four_needs_count(schema: ProfileSchema) -> None:
    names = [slot.short for slot in schema][:6]
    result = await assess("Where to?", Profile(), llm=ScriptedLLM(["\n".join(names)]), schema=schema)
    assert [schema.slots[path].short for path in result.needs] == names[:4]


async def test_unreadable_needs_are_asked_for_once_more_then_the_request_is_answered(schema: ProfileSchema) -> None:
    llm = ScriptedLLM(["Well, let me see.", "Hm, hard to say."])
    result = await assess("Where to?", Profile(), llm=llm, schema=schema)
    assert (result.decision, result.outcome, len(result.completions)) == (Decision.ANSWER, ParseOutcome.UNREADABLE, 2)
    recovered = await assess("Where to?", Profile(), llm=ScriptedLLM(["Well, let me see.", "none"]), schema=schema)
    assert recovered.outcome is ParseOutcome.EMPTY


async def test_needs_that_were_cut_count_as_far_as_they_go(schema: ProfileSchema) -> None:
    llm = ScriptedLLM([Completion("location.city\nmusic.gen", finish_reason=FinishReason.LENGTH)])
    result = await assess("Where to?", Profile(), llm=llm, schema=schema)
    assert (result.needs, result.outcome) == ((CITY,), ParseOutcome.TRUNCATED)


async def test_an_endpoint_that_fails_raises(schema: ProfileSchema) -> None:
    with pytest.raises(LLMUnreachable):
        await assess("Where to?", Profile(), llm=ScriptedLLM([LLMUnreachable("down")]), schema=schema)


def test_the_prompt_shows_names_of_known_slots_never_their_values(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    profile = profile_of(("health.conditions", "asthma"), ("health.conditions", "migraine"))
    prompts = [build_needs_prompt("hi", profile, schema, notation).content for notation in ("compact", "general")]
    assert all(prompt.count("health.conditions") == 1 and "asthma" not in prompt for prompt in prompts)


@pytest.mark.parametrize("notation", ["compact", "general"])
def test_the_needs_prompt_does_not_grow_with_the_profile(
    schema: ProfileSchema, profile_of: ProfileOf, notation: Notation
) -> None:
    few = profile_of(*((slot.path, "a value") for slot in list(schema)[:MAX_KNOWN_NAMES]))
    full = profile_of(*((slot.path, "a value") for slot in schema))
    sizes = [len(build_needs_prompt("Any ideas?", profile, schema, notation).content) for profile in (few, full)]
    assert abs(sizes[1] - sizes[0]) < 200
    long = build_needs_prompt("word " * 200_000, full, schema, notation).content
    assert len(long) < sizes[1] + 3_110


def test_every_slot_that_may_be_asked_for_has_a_written_question(schema: ProfileSchema) -> None:
    askable = [slot for slot in schema if slot.ask is not AskPolicy.NEVER]
    questions = {slot.path: question_for(slot) for slot in askable}
    assert [path for path, question in questions.items() if "?" not in question] == []
    assert [path for path, question in questions.items() if question.startswith("May I ask about this, so")] == []


def test_an_answer_uses_the_known_needs_then_what_shares_words_with_the_request(
    schema: ProfileSchema, profile_of: ProfileOf
) -> None:
    profile = profile_of(
        ("location.city", "Porto"),
        ("music.genres", "fado", Polarity.LIKE),
        ("diet.restrictions", "coriander", Polarity.AVOID),
        ("communication.verbosity", "short"),
    )
    assessment = decide("A fado night out?", [schema.slots[CITY]], profile, AskRules())
    values = relevant_values(assessment, profile, schema)
    assert values[0].value == "Porto"
    assert {value.value for value in values} == {"Porto", "fado", "short"}
