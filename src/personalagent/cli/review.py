"""``personalagent profile training`` and ``profile review``: what may be trained on. No model is needed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from personalagent.cli.doors import AsJson, UserId, open_profiles, refuse_unknown_user, settings_of
from personalagent.cli.terminal import emit, note, printable, say
from personalagent.cli.views import operation_line
from personalagent.errors import UsageError
from personalagent.sessions import session_diff, session_summary
from personalagent.store import Store


def training(
    context: typer.Context,
    user_id: UserId,
    give: Annotated[bool, typer.Option("--give", help="Consent: what was said in reviewed sessions may be trained on.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the consent back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show whether a user consented to training on what they said, give the consent, or take it back."""
    if give and withdraw:
        raise UsageError("expected --give or --withdraw, got both; choose one")
    with open_profiles(settings_of(context)) as (agent, _):
        refuse_unknown_user(agent.store, user_id)
        if give or withdraw:
            agent.store.set_training_consent(user_id, is_granted=give)
        since = agent.store.training_consent(user_id)
    if as_json:
        emit({"user_id": user_id, "is_granted": since is not None, "at": since and since.isoformat(timespec="seconds")})
    else:
        say(f"{user_id}: " + (f"training allowed since {since:%Y-%m-%d %H:%M} UTC" if since else "training not allowed"))
    if withdraw:
        note("what `data from-store` wrote before is not changed: delete it, and adapters trained on it", style="yellow")


def review(
    context: typer.Context,
    user_id: UserId,
    session_id: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="Show this session; all of them when left out.")
    ] = None,
    done: Annotated[
        bool, typer.Option("--done", help="What was learned in it is right now, as far as it was neither edited nor forgotten.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go over what a session taught, and mark it as reviewed."""
    if done and session_id is None:
        raise UsageError("expected the SESSION that was reviewed with --done, got none; name it")
    with open_profiles(settings_of(context)) as (agent, _):
        store = agent.store
        refuse_unknown_user(store, user_id)
        known = store.session_ids(user_id)
        if session_id is not None and session_id not in known:
            raise UsageError(f"expected a session of {user_id!r}, got {session_id!r}; list them with: profile review {user_id}")
        if done and session_id is not None:
            store.mark_reviewed(user_id, session_id)
        sessions = [_session_json(store, user_id, each) for each in known if session_id in (None, each)]
        if as_json:
            emit(sessions)
        elif session_id is None:
            for each in sessions:
                say(f"{each['session_id']}: {each['turns']} turns, {each['not_reviewed']} not reviewed")
        else:
            for taught in session_diff(store, user_id, session_id).turns:
                say(Text(printable(taught.turn.utterance), style="bold"))
                for op in taught.operations:
                    say(Text("  ").append_text(operation_line(op)))
            say(f"{sessions[0]['not_reviewed']} turns not reviewed")


def _session_json(store: Store, user_id: str, session_id: str) -> dict[str, object]:
    summary = session_summary(store, user_id, session_id)
    reviewed_at = summary.reviewed_at and summary.reviewed_at.isoformat(timespec="seconds")
    return {
        "session_id": session_id,
        "turns": summary.turns,
        "not_reviewed": summary.not_reviewed,
        "reviewed_at": reviewed_at,
    }
