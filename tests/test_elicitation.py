"""What a reply to a question says about the slot that was asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from personalagent.elicitation import AnswerKind, needs_nothing, read_answer, resumes_asking, settle, stops_asking
from personalagent.inference import Gate
from personalagent.profile import Evidence, OpKind, Polarity, ProfileDelta, SlotOp, Source
from personalagent.schema import ProfileSchema
from tests.conftest import AT, ProfileOf

PRICE = "dining.price_level"
FOODS = "diet.foods"
ALLERGIES = "health.allergies_intolerances"
CHILDREN = "children.count"
LATER = AT + timedelta(minutes=5)


def gate(schema: ProfileSchema, profile_of: ProfileOf, said: str, *held: tuple[str, str]) -> Gate:
    """Return the gate of a turn that says something, on a profile that holds something."""
    return Gate(said, profile_of(*held), schema, "s", 3, LATER)


@pytest.mark.parametrize(
    ("reply", "kind", "value"),
    [
        ("mild", AnswerKind.VALUE, "mild"),
        ("Under 300.", AnswerKind.VALUE, "Under 300"),
        ("um, probably jazz", AnswerKind.VALUE, "jazz"),
        ("I'm a nurse", AnswerKind.VALUE, "a nurse"),
        ("don't mind", AnswerKind.INDIFFERENT, "no preference"),
        ("I don’t really mind, thanks", AnswerKind.INDIFFERENT, "no preference"),
        ("whatever you like!", AnswerKind.INDIFFERENT, "no preference"),
        ("No preference really", AnswerKind.INDIFFERENT, "no preference"),
        ("up to you", AnswerKind.INDIFFERENT, "no preference"),
        ("no", AnswerKind.NOTHING, "none known"),
        ("Nope, none.", AnswerKind.NOTHING, "none known"),
        ("not that I know of", AnswerKind.NOTHING, "none known"),
        ("Yes.", AnswerKind.YES, ""),
        ("yeah, still the same", AnswerKind.YES, ""),
        ("no idea", AnswerKind.UNSURE, ""),
        ("idk", AnswerKind.UNSURE, ""),
        ("not sure yet", AnswerKind.UNSURE, ""),
        ("no thanks", AnswerKind.DECLINED, ""),
        ("I'd rather not say", AnswerKind.DECLINED, ""),
        ("That's private.", AnswerKind.DECLINED, ""),
        ("none of your business", AnswerKind.DECLINED, ""),
        ("skip", AnswerKind.DECLINED, ""),
        ("stop asking me things", AnswerKind.DECLINED, ""),
        ("Why do you want to know?", AnswerKind.OTHER, ""),
        ("What's the capital of Peru", AnswerKind.OTHER, ""),
        ("Forget dinner, my sister has just called and we're driving to the hospital", AnswerKind.OTHER, ""),
        ("...", AnswerKind.OTHER, ""),
    ],
)
def test_a_reply_is_read_as_what_it_is(schema: ProfileSchema, reply: str, kind: AnswerKind, value: str) -> None:
    answer = read_answer(reply, schema.slot(ALLERGIES))
    assert (answer.kind, answer.value) == (kind, value)


def test_no_children_is_a_number_and_no_label_is_made_up(schema: ProfileSchema) -> None:
    assert read_answer("none", schema.slot(CHILDREN)).value == "0"
    assert read_answer("don't mind", schema.slot(CHILDREN)).value == ""
    price = schema.slot(PRICE)
    assert read_answer("no", price).value in ("", *price.values)


@pytest.mark.parametrize(
    "said",
    [
        "stop asking me things",
        "Please stop with the questions.",
        "ok, enough questions",
        "Just answer! Don't ask me anything.",
        "No more questions please",
    ],
)
def test_a_user_who_wants_no_questions_is_understood(said: str) -> None:
    assert stops_asking(said)


@pytest.mark.parametrize(
    "said",
    [
        "How do I get my mum to stop asking me about marriage?",
        "I have no more questions",
        "don't ask me why but I love mild curry",
        "How can I stop asking people for money?",
        "My boss keeps asking questions",
        "Write five quiz questions",
    ],
)
def test_talk_about_questions_is_no_such_wish(said: str) -> None:
    assert not stops_asking(said)


def test_the_wish_can_be_taken_back() -> None:
    assert resumes_asking("ok you can ask me things again")
    assert not resumes_asking("can I ask you something again?")


def test_a_short_reply_fills_the_slot_in_the_users_words(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    slot = schema.slot(FOODS)
    (op,) = settle(read_answer("Dumplings!", slot), slot, (), gate(schema, profile_of, "Dumplings!"))
    assert (op.op, op.path, op.value, op.polarity, op.source) == (
        OpKind.ADD,
        slot.path,
        "Dumplings",
        Polarity.LIKE,
        Source.ELICITED,
    )
    assert op.evidence == Evidence("Dumplings!", "s", 3)


def test_what_the_policy_found_for_the_slot_is_elicited_and_the_rest_is_kept(
    schema: ProfileSchema, profile_of: ProfileOf
) -> None:
    slot, city = schema.slot(FOODS), schema.slot("location.city")
    found = tuple(SlotOp(OpKind.ADD, each.path, "x", LATER) for each in (slot, city))
    ops = settle(
        read_answer("dumplings, and I'm in Leeds", slot), slot, found, gate(schema, profile_of, "dumplings, and I'm in Leeds")
    )
    assert [(op.path, op.source) for op in ops] == [(slot.path, Source.ELICITED), (city.path, Source.STATED)]


def test_a_bare_reply_answers_what_was_asked_wherever_the_policy_files_it(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    slot = schema.slot(FOODS)
    elsewhere = (SlotOp(OpKind.ADD, "geography_environment.location.city", "Turkey", LATER),)
    (op,) = settle(read_answer("turkey", slot), slot, elsewhere, gate(schema, profile_of, "turkey"))
    assert (op.path, op.value) == (slot.path, "turkey")
    said = "my mother lives in Turkey"
    assert settle(read_answer(said, slot), slot, elsewhere, gate(schema, profile_of, said)) == elsewhere


def test_yes_confirms_and_no_retracts_what_may_be_out_of_date(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    slot = schema.slot("purchase.in_progress")
    for said, kind in (("yes", OpKind.CONFIRM), ("no", OpKind.RETRACT)):
        at = gate(schema, profile_of, said, ("purchase.in_progress", "a winter coat"))
        (op,) = settle(read_answer(said, slot), slot, (), at)
        assert (op.op, op.path) == (kind, slot.path)
        after = at.profile.apply(ProfileDelta((op,)))
        values = after.values(slot.path)
        assert [value.confirmed_at for value in values] == ([LATER] if kind is OpKind.CONFIRM else [])


def test_a_slot_that_is_declined_stays_empty_whatever_the_policy_found(schema: ProfileSchema, profile_of: ProfileOf) -> None:
    slot = schema.slot(FOODS)
    found = (SlotOp(OpKind.ADD, slot.path, "rather not say", LATER),)
    assert settle(read_answer("rather not say", slot), slot, found, gate(schema, profile_of, "rather not say")) == ()


@pytest.mark.parametrize(
    "said",
    [
        "hi",
        "Hello there!",
        "good morning, how are you?",
        "thanks so much for your help :)",
        "ok great, thank you",
        "lol",
        "Perfect. Good night!",
        "never mind",
        "👍",
        "There's smoke in my kitchen, what do I do",
        "my dad just collapsed and he's not breathing",
        "I want to die",
        "I can smell gas leak",
    ],
)
def test_small_talk_and_emergencies_need_nothing(said: str) -> None:
    assert needs_nothing(said)


@pytest.mark.parametrize(
    "said",
    [
        "thanks, what should I cook tonight?",
        "Hi, plan my weekend",
        "Good restaurants near me?",
        "yes please book a table",
        "Is smoking a brisket hard?",
    ],
)
def test_a_request_is_neither(said: str) -> None:
    assert not needs_nothing(said)
