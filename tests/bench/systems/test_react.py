"""ReAct: what the model may do, and what it is told where it does something else."""

from __future__ import annotations

import re

import pytest

from personalagent.bench.conversation import Decoding
from personalagent.bench.options import parse_letter
from personalagent.bench.systems.base import open_system
from personalagent.bench.systems.react import ACTIONS, MAX_STEPS, STOP, Action, Desk, parse_action
from personalagent.dialogue import Message
from personalagent.llm.scripted import ScriptedLLM
from personalagent.prompts import load_prompt
from tests.bench.systems.parts import SEASICK, example, parts

HISTORY = (
    Message("user", "I get seasick on any boat."),
    Message("assistant", "No boats for you."),
    Message("user", "My boat was sold; boats make me seasick."),
)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Thought: x\nAction: search_history[boat trips]", Action("search_history", "boat trips")),
        ("Action: lookup[]", Action("lookup", "")),
        ("Action:finish[a [b] c]", Action("finish", "a [b] c")),
        ("Thought: x\nAction: finish[One.\n\nTwo.]\n", Action("finish", "One.\n\nTwo.")),
        ("Action: note[a=b]\nThought: y\nAction: finish[z]", Action("note", "a=b")),
        ("Action: finish[z", None),
        ("I would take the train.", None),
        ("Action: take the train", None),
        ("", None),
    ],
)
def test_an_action_is_read_in_one_form_only(text: str, action: Action | None) -> None:
    assert parse_action(text) == action


def test_every_action_of_the_prompt_can_be_done() -> None:
    prompt = load_prompt("bench_react").fill(steps="7")
    assert tuple(re.findall(r"^(\w+)\[.*\]:", prompt, re.MULTILINE)) == ACTIONS
    steps = [f"Action: {step}" for step in prompt.split("\nAction: ")[2:]]
    assert [parse_action(step).name for step in steps] == ["search_history", "note", "finish"]  # type: ignore[union-attr]


def test_a_search_ranks_by_shared_words_then_by_age_and_lookup_goes_on() -> None:
    desk = Desk(HISTORY)
    assert desk.act(Action("search_history", "seasick boat")) == "(1 of 3) user: My boat was sold; boats make me seasick."
    assert desk.act(Action("lookup", "")) == "(2 of 3) user: I get seasick on any boat."
    assert desk.act(Action("lookup", "")) == "(3 of 3) assistant: No boats for you."
    assert desk.act(Action("lookup", "")).startswith("there is no further message")
    assert desk.act(Action("search_history", "piano")).startswith("nothing in the history")


def test_notes_are_kept_and_a_question_is_not_answered() -> None:
    desk = Desk(())
    assert desk.act(Action("note", "sea = sick")) == "noted: sea = sick"
    assert desk.act(Action("note", "pet=cat")) == "noted: sea = sick; pet = cat"
    assert "cannot reply" in desk.act(Action("ask", "Do you swim?"))
    assert desk.question == "Do you swim?"


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (None, "error: expected a line of the form Action: name[argument]"),
        (Action("serch_history", "x"), "Did you mean 'search_history'"),
        (Action("finish", ""), "error: expected finish[…]"),
        (Action("note", "seasick"), "error: expected note[what=value]"),
    ],
)
def test_what_cannot_be_done_is_an_observation(action: Action | None, says: str) -> None:
    assert says in Desk(()).act(action)


async def test_steps_follow_each_other_until_the_answer() -> None:
    llm = ScriptedLLM(
        [
            "Thought: boats?\nAction: search_history[boat]",
            "Hm, seasick.",
            "Action: ask[Can you swim?]",
            "Action: finish[Take the train.]",
        ]
    )
    reply = await open_system("react", parts()).answer(example(SEASICK), llm)
    assert (reply.text, reply.question) == ("Take the train.\n\nCan you swim?", "Can you swim?")
    assert [len(call.messages) for call in llm.calls] == [2, 4, 6, 8]
    assert all("seasick" not in message.content for message in llm.calls[0].messages)
    assert llm.calls[1].messages[-1].content == "Observation: (1 of 1) user: I get seasick on any boat."
    assert llm.calls[2].messages[-1].content.startswith("Observation: error: expected a line")
    assert llm.calls[0].stop == STOP
    assert len(reply.trace) == 4 and reply.trace[-1] == "step 4: finish"


async def test_when_the_steps_are_used_up_the_answer_alone_is_asked_for() -> None:
    llm = ScriptedLLM(["Action: lookup[]"] * MAX_STEPS + ["Take the train."])
    reply = await open_system("react", parts()).answer(example(SEASICK), llm)
    assert reply.text == "Take the train."
    assert llm.calls[-1].messages[-1].content.startswith("Observation: there is no further message")
    assert "Your steps are used up" in llm.calls[-1].messages[-1].content
    assert (llm.calls[-1].stop, len(llm.calls)) == ((), MAX_STEPS + 1)


async def test_where_there_are_options_the_letter_stands_alone() -> None:
    llm = ScriptedLLM(["Action: ask[Can you swim?]", "Action: finish[<choice>A</choice>]"])
    reply = await open_system("react", parts()).answer(example(SEASICK, options=("Train", "Boat")), llm)
    assert parse_letter(reply.text, 2) == 0
    assert (reply.text, reply.question) == ("<choice>A</choice>", "Can you swim?")


async def test_where_the_context_is_full_the_oldest_step_goes() -> None:
    llm = ScriptedLLM(["Thought: " + "long " * 200, "Thought: " + "more " * 200, "Action: finish[Done.]"])
    reply = await open_system("react", parts(decoding=Decoding(context_tokens=1_500))).answer(example(SEASICK), llm)
    assert [len(call.messages) for call in llm.calls] == [2, 4, 4]
    assert "context full: left out the oldest step" in reply.trace
