"""``personalagent assess``: is what is known about a user enough for a request?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from personalagent.cli.doors import AsJson, UserId, open_agent, refuse_unknown_user, settings_of
from personalagent.cli.terminal import emit, say
from personalagent.datasets.replay import STDIN, decode
from personalagent.json_forms import assessment_json
from personalagent.sufficiency import Assessment


def assess(
    context: typer.Context,
    user_id: UserId,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="What the user asks for; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Say what a request needs, what of it is known, and what the agent would do."""
    text = decode(sys.stdin.buffer.read(), "standard input") if request == STDIN else request
    with open_agent(settings_of(context)) as (agent, run):
        refuse_unknown_user(agent.store, user_id)
        assessment = run(agent.assess(user_id, text))
    if as_json:
        emit(assessment_json(user_id, assessment))
    else:
        show_assessment(assessment)


def show_assessment(assessment: Assessment) -> None:
    """Print the decision, then its reasons."""
    say(f"decision: {assessment.decision.replace('_', ' ')}", style="bold")
    for reason in assessment.reasons:
        say(f"  {reason}", style="dim")
    if assessment.question:
        say(f"question: {assessment.question}", style="cyan")
