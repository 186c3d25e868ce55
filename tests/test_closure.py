"""Asking and what comes back, through the agent on real SQLite: a policy that always names the same need must never ask wrongly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from personalagent import PersonalAgent, ScriptedLLM, Settings
from personalagent.profile import Polarity, Source
from personalagent.store import AskState
from personalagent.sufficiency import Decision
from tests.test_agent import NO_NEEDS, NOTHING, classified, policy

FOODS = "consumption_lifestyle.diet.foods"
NEEDS_FOODS = f"<needs>\n{FOODS}\n</needs>"
COAT = "scenario_specific.purchase.in_progress"


class Clock:
    """A time that the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def asking(tmp_path: Path, infer: str = NOTHING, needs: str = NEEDS_FOODS, **settings: object) -> PersonalAgent:
    """Return an agent whose policy finds the same need in everything."""
    return PersonalAgent(
        Settings.load(database_url=f"sqlite:///{tmp_path / 'agent.db'}", consent="all", **settings),
        policy=policy(infer=infer, needs=needs),
        responder=ScriptedLLM(lambda messages: f"About: {messages[-1].content}"),
        clock=Clock(),
    )


@pytest.mark.parametrize(
    ("said", "kept", "polarity"),
    [
        ("dumplings", "dumplings", Polarity.LIKE),
        ("Under 300", "Under 300", Polarity.LIKE),
        ("don't mind", "no preference", Polarity.NEUTRAL),
        ("no", "none known", Polarity.NEUTRAL),
    ],
)
async def test_a_short_reply_fills_the_slot_that_was_asked_for(tmp_path: Path, said: str, kept: str, polarity: Polarity) -> None:
    agent = asking(tmp_path)
    assert (await agent.chat("alice", "What shall I cook?")).question
    reply = await agent.chat("alice", said)
    (value,) = (await agent.profile("alice")).values(FOODS)
    assert (value.value, value.polarity, value.source, value.evidence[0].quote) == (kept, polarity, Source.ELICITED, said)
    assert reply.question is None
    assert [ask.state for ask in agent.store.asks("alice")] == [AskState.ANSWERED]
    assert agent.store.verify().is_ok


async def test_the_reply_to_a_question_is_answered_for_the_request_it_came_with(tmp_path: Path) -> None:
    agent = asking(tmp_path)
    await agent.chat("alice", "What shall I cook?")
    reply = await agent.chat("alice", "dumplings")
    assert reply.assessment is not None
    assert (reply.assessment.request, reply.assessment.decision) == ("What shall I cook?", Decision.ANSWER)
    assert [value.value for value in reply.used] == ["dumplings"]


async def test_the_policy_is_told_what_was_asked(tmp_path: Path) -> None:
    agent = asking(tmp_path)
    await agent.chat("alice", "What shall I cook?")
    await agent.chat("alice", "the ones my grandmother used to make with the pleats, you know")
    assert "The assistant had just asked about: diet.foods" in next(
        call.messages[-1].content for call in agent.policy.calls if "Message: the ones" in call.messages[-1].content
    )


@pytest.mark.parametrize("said", ["no thanks", "I'd rather not say", "none of your business", "skip"])
async def test_a_refusal_is_remembered_over_sessions_and_keeps_nothing(tmp_path: Path, said: str) -> None:
    agent = asking(tmp_path, infer=NOTHING)
    await agent.chat("alice", "What shall I cook?", session_id="monday")
    await agent.chat("alice", said, session_id="monday")
    assert not (await agent.profile("alice")).values(FOODS)
    later = await agent.chat("alice", "And what for lunch?", session_id="tuesday")
    assert later.question is None
    assert "you preferred not to say" in " ".join(later.assessment.reasons if later.assessment else ())


async def test_what_is_not_answered_is_not_asked_again_in_this_session(tmp_path: Path) -> None:
    agent = asking(tmp_path)
    await agent.chat("alice", "What shall I cook?", session_id="monday")
    await agent.chat("alice", "Forget it, my train is late and I need the number of the station", session_id="monday")
    assert [ask.state for ask in agent.store.asks("alice")] == [AskState.UNANSWERED]
    assert (await agent.chat("alice", "So what do I eat tonight?", session_id="monday")).question is None
    assert (await agent.chat("alice", "What do I eat tonight?", session_id="tuesday")).question is not None


async def test_stop_asking_is_honoured_remembered_and_can_be_taken_back(tmp_path: Path) -> None:
    agent = asking(tmp_path)
    await agent.chat("alice", "What shall I cook?", session_id="monday")
    await agent.chat("alice", "Please stop asking me things.", session_id="monday")
    muted = await agent.chat("alice", "What shall I cook on Friday?", session_id="tuesday")
    assert muted.question is None
    assert "you asked not to be asked things" in " ".join(muted.assessment.reasons if muted.assessment else ())
    other = await agent.chat("bob", "What shall I cook?")
    assert other.question is not None, "it is this user's wish only"
    await agent.chat("alice", "ok, you can ask me things again", session_id="tuesday")
    agent.policy = policy(needs=f"<needs>\n{COAT}\n</needs>")
    assert (await agent.chat("alice", "Help me choose.", session_id="wednesday")).question is not None


async def test_a_stale_value_of_a_slot_that_changes_fast_is_confirmed_not_assumed(tmp_path: Path) -> None:
    agent = asking(tmp_path, infer=classified(f"{COAT} | add | neutral | a winter coat | a winter coat"), needs=NO_NEEDS)
    await agent.chat("alice", "I'm after a winter coat")
    agent.policy = policy(needs=f"<needs>\n{COAT}\n</needs>")
    soon = await agent.assess("alice", "Which one should I get?")
    assert (soon.decision, soon.stale) == (Decision.ANSWER, ())
    agent._clock.now += timedelta(days=90)
    late = await agent.chat("alice", "Which one should I get?")
    assert late.assessment is not None
    assert late.assessment.decision is Decision.ANSWER_AND_ASK
    assert late.question == "You told me before: a winter coat (in progress (purchase)). Does that still hold?"
    await agent.chat("alice", "yes")
    (value,) = (await agent.profile("alice")).values(COAT)
    assert value.confirmed_at is not None
    assert (await agent.assess("alice", "Which one should I get?")).stale == ()


SMALL_TALK = [
    "hi",
    "Good morning!",
    "thanks",
    "Thank you so much!",
    "ok great",
    "lol",
    "bye",
    "how are you?",
    "👍",
    "perfect, thanks for the help",
]
EMERGENCIES = [
    "There's smoke in my kitchen what do I do",
    "my dad collapsed and he's not breathing",
    "I think I'm having a heart attack",
    "she swallowed bleach",
    "I want to die",
    "I can smell gas leak everywhere",
    "my son is choking",
    "his throat is closing after the nuts",
]


@pytest.mark.parametrize("said", SMALL_TALK + EMERGENCIES)
async def test_small_talk_and_emergencies_get_no_question_even_from_a_policy_that_names_needs(tmp_path: Path, said: str) -> None:
    agent = asking(tmp_path)
    reply = await agent.chat("alice", said)
    assert reply.question is None
    assert reply.text == f"About: {said}"


async def test_an_answer_and_the_end_of_its_question_are_kept_in_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after the commit must not leave the question open: the next turn would be read as its answer."""
    agent = asking(tmp_path)
    await agent.chat("alice", "What shall I cook?", session_id="monday")

    def never(*args: object) -> None:
        raise AssertionError("a question was closed outside the turn's transaction")

    monkeypatch.setattr(type(agent.store), "record_ask", never)
    await agent.learn("alice", "dumplings", session_id="monday")
    assert [ask.state for ask in agent.store.asks("alice")] == [AskState.ANSWERED]


async def test_after_two_refusals_nothing_more_is_asked_in_the_session(tmp_path: Path) -> None:
    agent = asking(tmp_path, questions_per_session=9)
    agent.policy = policy(needs="<needs>\nmusic.genres\ndiet.foods\nreading.genres\n</needs>")
    for question in ("Plan my evening?", "And the one after?"):
        assert (await agent.chat("alice", question, session_id="monday")).question
        await agent.chat("alice", "rather not say", session_id="monday")
    assert (await agent.chat("alice", "And Sunday?", session_id="monday")).question is None
    assert (await agent.chat("alice", "And Sunday?", session_id="tuesday")).question


async def test_after_an_emergency_nothing_is_asked_for_a_while(tmp_path: Path) -> None:
    agent = asking(tmp_path)
    await agent.chat("alice", "there's smoke coming out of the oven", session_id="monday")
    reply = await agent.chat("alice", "what do i do?", session_id="monday")
    assert reply.question is None
    assert reply.assessment is not None
    assert "Not asking for foods (diet): this is no time for questions." in reply.assessment.reasons
    assert (await agent.chat("alice", "What shall I cook?", session_id="tuesday")).question
