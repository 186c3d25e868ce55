"""``personalagent demo``: a real dialogue, a request that the profile can answer and one it cannot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import typer

from personalagent.agent import PersonalAgent
from personalagent.cli.assess import show_assessment
from personalagent.cli.chat import reply_json
from personalagent.cli.doors import AsJson, Run, open_agent, settings_of
from personalagent.cli.model import fetch_missing
from personalagent.cli.replay import keeping_nothing, play, show_costs, show_turn
from personalagent.cli.terminal import emit, say, waiting
from personalagent.cli.views import show_profile, turn_json, value_line
from personalagent.datasets.replay import ReplayDialogue, parse_dialogues
from personalagent.json_forms import profile_json
from personalagent.reply import Learned, Reply

USER = "demo"


def demo(context: typer.Context, as_json: AsJson = False) -> None:
    """Replay a packaged dialogue, then put two requests to the agent; fetches the model where it is missing."""
    settings = settings_of(context, consent="all")
    fetch_missing(settings)
    packaged = json.loads((files("personalagent") / "demo" / "dialogue.json").read_text("utf-8"))
    (dialogue,) = parse_dialogues(json.dumps(packaged["dialogue"]), "demo/dialogue.json")
    with keeping_nothing() as store, open_agent(settings, store=store) as (agent, run):
        _play(agent, run, dialogue, packaged["requests"], as_json=as_json)


def _play(agent: PersonalAgent, run: Run[Any], dialogue: ReplayDialogue, requests: Sequence[str], *, as_json: bool) -> None:
    if not as_json:
        say("What somebody said, turn by turn, and what the agent learned from it:", style="bold")

    def shown(utterance: str, learned: Learned) -> None:
        if as_json:
            emit(turn_json(learned), indent=None)
        else:
            show_turn(utterance, learned)

    turns = play(agent, run, dialogue, USER, shown, busy=waiting)
    if not as_json:
        show_costs(turns)
    for number, request in enumerate(requests, 1):
        if not as_json:
            say(f"\n› {request}", style="bold")
        with waiting():
            reply: Reply = run(agent.chat(USER, request, session_id=f"request-{number}"))
        if as_json:
            emit(reply_json(reply), indent=None)
        else:
            _show(reply)
    profile = run(agent.profile(USER))
    if as_json:
        emit(profile_json(USER, profile), indent=None)
    else:
        say()
        show_profile(profile, agent.schema, "The profile")


def _show(reply: Reply) -> None:
    say(reply.text)
    for value in reply.used:
        say(f"  used: {value_line(value)}", style="dim")
    if reply.assessment is not None:
        show_assessment(reply.assessment)
