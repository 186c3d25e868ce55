"""The simulated user says what its persona holds, and nothing else."""

from __future__ import annotations

import pytest

from personalagent.datasets.base import PersonaSlot
from personalagent.datasets.simulated_user import SimulatedKind, SimulatedUser
from personalagent.elicitation import AnswerKind, read_answer
from personalagent.errors import SchemaError
from personalagent.llm.scripted import ScriptedLLM
from personalagent.schema import ProfileSchema

PERSONA = (
    PersonaSlot("consumption_lifestyle.diet.foods", "dumplings", "like"),
    PersonaSlot("consumption_lifestyle.diet.foods", "coriander", "avoid"),
    PersonaSlot("basic_demographics.health.conditions", "asthma", "neutral"),
)


async def test_it_tells_every_value_of_the_slot_and_no_other(schema: ProfileSchema) -> None:
    reply = await SimulatedUser(PERSONA, schema).answer("What do you like to eat?", "diet.foods")
    assert (reply.text, reply.kind, reply.values) == ("dumplings, no coriander", SimulatedKind.TOLD, PERSONA[:2])


async def test_what_the_persona_lacks_is_no_preference_and_is_read_as_such(schema: ProfileSchema) -> None:
    reply = await SimulatedUser(PERSONA, schema).answer("Which music?", "music.genres")
    assert (reply.kind, reply.values) == (SimulatedKind.HAS_NONE, ())
    assert read_answer(reply.text, schema.slot("music.genres")).kind is AnswerKind.INDIFFERENT


@pytest.mark.parametrize(("rate", "kind"), [(0.0, SimulatedKind.TOLD), (1.0, SimulatedKind.DECLINED)])
async def test_sensitive_slots_are_declined_at_the_given_rate(schema: ProfileSchema, rate: float, kind: SimulatedKind) -> None:
    user = SimulatedUser(PERSONA, schema, decline_rate=rate)
    reply = await user.answer("Any conditions?", "health.conditions")
    assert reply.kind is kind
    assert (await user.answer("Which foods?", "diet.foods")).kind is SimulatedKind.TOLD
    if kind is SimulatedKind.DECLINED:
        assert read_answer(reply.text, schema.slot("health.conditions")).kind is AnswerKind.DECLINED


async def test_about_the_rate_of_seeds_declines_and_a_seed_always_does_the_same(schema: ProfileSchema) -> None:
    async def declined(seed: int) -> bool:
        user = SimulatedUser(PERSONA, schema, decline_rate=0.3, seed=seed)
        return (await user.answer("Any conditions?", "health.conditions")).kind is SimulatedKind.DECLINED

    first = [await declined(seed) for seed in range(200)]
    assert 40 <= sum(first) <= 80
    assert first == [await declined(seed) for seed in range(200)]


async def test_a_model_puts_it_into_words_and_sees_nothing_else_of_the_persona(schema: ProfileSchema) -> None:
    llm = ScriptedLLM(["Dumplings, but\nkeep the coriander away."])
    reply = await SimulatedUser(PERSONA, schema, llm=llm).answer("What do you like to eat?", "diet.foods")
    assert reply.text == "Dumplings, but keep the coriander away."
    assert "asthma" not in llm.calls[0].messages[0].content


async def test_a_slot_that_the_schema_lacks_and_a_rate_that_is_none_are_refused(schema: ProfileSchema) -> None:
    with pytest.raises(SchemaError, match="starships"):
        await SimulatedUser(PERSONA, schema).answer("?", "starships.favourite")
    with pytest.raises(ValueError, match="expected a decline_rate from 0 to 1, got 2"):
        SimulatedUser(PERSONA, schema, decline_rate=2)
