"""``personalagent demo``: a real dialogue, a request that the profile can answer and one it cannot."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import typer

from personalagent.agent import PersonalAgent, Reply
from personalagent.cli.assess import show_assessment
from personalagent.cli.chat import reply_json
from personalagent.cli.doors import AsJson, Run, open_agent, settings_of
from personalagent.cli.model import fetch_missing
from personalagent.cli.replay import keeping_nothing, play, show_costs, show_turn
from personalagent.cli.terminal import emit, say
from personalagent.cli.views import profile_json, show_profile, turn_json, value_line
from personalagent.datasets.replay import parse_dialogues

USER = "demo"


def demo(context: typer.Context, as_json: AsJson = False) -> None:
    """Replay a packaged dialogue, then put two requests to the agent; fetches the model where it is missing."""
    settings = settings_of(context, consent="all")
    fetch_missing(settings)
    text = (files("personalagent") / "demo" / "dialogue.json").read_text("utf-8")
    with keeping_nothing() as store, open_agent(settings, store=store) as (agent, run):
        _play(agent, run, text, as_json=as_json)


def _play(agent: PersonalAgent, run: Run[Any], text: str, *, as_json: bool) -> None:
    (dialogue,) = parse_dialogues(text, "demo/dialogue.json")
    if not as_json:
        say("What she said, and what the agent learned from it, in her own words:", style="bold")
    turns = play(
        agent,
        run,
        dialogue,
        USER,
        lambda said, learned: emit(turn_json(learned), indent=None) if as_json else show_turn(said, learned),
    )
    if not as_json:
        show_costs(turns)
    for request in json.loads(text)["requests"]:
        reply: Reply = run(agent.chat(USER, request["request"], session_id="requests"))
        if as_json:
            emit(reply_json(reply), indent=None)
        else:
            _show(request["request"], reply)
    profile = run(agent.profile(USER))
    if as_json:
        emit(profile_json(USER, profile), indent=None)
    else:
        say()
        show_profile(profile, agent.schema, "The profile")


def _show(request: str, reply: Reply) -> None:
    say()
    say(f"› {request}", style="bold")
    say(reply.text)
    for value in reply.used:
        say(f"  used: {value_line(value)}", style="dim")
    if reply.assessment is not None:
        show_assessment(reply.assessment)
