"""``personalagent replay``: infer a profile from dialogues that were already said."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from personalagent.agent import PersonalAgent
from personalagent.cli.doors import AsJson, Run, open_agent, settings_of
from personalagent.cli.terminal import Advance, counting, emit, out, printable, say, waiting
from personalagent.cli.views import operation_line, refusal_line, show_profile, turn_json
from personalagent.datasets.replay import ReplayDialogue, load_dialogues
from personalagent.errors import DataError, LLMUnreachable
from personalagent.json_forms import profile_json
from personalagent.registry import did_you_mean
from personalagent.reply import Learned
from personalagent.store import Store

Shown = Callable[[str, Learned], None]
"""Called after every turn with what was said and what it taught."""
Busy = Callable[[], AbstractContextManager[object]]


def replay(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Dialogues: ours, ALOE, PrefEval or messages; - reads standard input.")
    ],
    user_id: Annotated[str | None, typer.Option("--user", help="Learn into this user's profile; else nothing is kept.")] = None,
    consent: Annotated[str, typer.Option(help="Sensitive facts to keep: all, none, or categories with commas.")] = "all",
    limit: Annotated[int | None, typer.Option(min=1, help="Replay only the first so many dialogues.")] = None,
    dialogue: Annotated[str | None, typer.Option(help="Replay only the dialogue with this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Infer a profile turn by turn from recorded dialogues."""
    settings = settings_of(context, consent=consent)
    dialogues = _chosen(load_dialogues(file), dialogue)[:limit]
    with keeping_nothing(user_id is not None) as store, open_agent(settings, store=store) as (agent, run):
        if as_json or not out().is_terminal:
            with counting("turns", sum(each.turn_count for each in dialogues)) as advance:
                for each in dialogues:
                    _one(agent, run, each, user_id or each.dialogue_id, as_json=as_json, advance=advance)
        else:
            for each in dialogues:
                _one(agent, run, each, user_id or each.dialogue_id, as_json=False)


def _chosen(dialogues: tuple[ReplayDialogue, ...], dialogue_id: str | None) -> tuple[ReplayDialogue, ...]:
    if dialogue_id is None:
        return dialogues
    found = tuple(each for each in dialogues if each.dialogue_id == dialogue_id)
    if not found:
        ids = [each.dialogue_id for each in dialogues]
        raise DataError(
            f"expected the id of a dialogue in the file ({ids[0]} to {ids[-1]}), got {dialogue_id!r}.{did_you_mean(dialogue_id, ids)}"
        )
    return found


@contextmanager
def keeping_nothing(has_user: bool = False) -> Iterator[Store | None]:
    """Give a store that is removed afterwards; None, for the one of the settings, where a user is named."""
    if has_user:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="personalagent-") as folder:
        yield Store.open(f"sqlite:///{(Path(folder) / 'replay.db').as_posix()}")


def _one(
    agent: PersonalAgent, run: Run[Any], dialogue: ReplayDialogue, user_id: str, *, as_json: bool, advance: Advance | None = None
) -> None:
    def shown(utterance: str, learned: Learned) -> None:
        if advance is not None:
            advance()
        if as_json:
            emit(turn_json(learned), indent=None)
        else:
            show_turn(utterance, learned)

    turns = play(agent, run, dialogue, user_id, shown, busy=waiting if advance is None else nullcontext)
    profile = run(agent.profile(user_id))
    if as_json:
        emit(profile_json(user_id, profile), indent=None)
        return
    say()
    show_profile(profile, agent.schema, f"Profile of {user_id}")
    show_costs(turns)


def play(
    agent: PersonalAgent, run: Run[Any], dialogue: ReplayDialogue, user_id: str, shown: Shown, *, busy: Busy = nullcontext
) -> list[Learned]:
    """Let the agent learn every turn of a dialogue, in order; ``busy`` is entered while a turn is inferred.

    Raises:
        LLMUnreachable: the policy gave no answer; what was said until then is stored.
    """
    done: list[Learned] = []
    for session in dialogue.sessions:
        for turn in session.turns:
            with busy():
                learned: Learned = run(agent.learn(user_id, turn.utterance, session_id=session.session_id))
            if turn.response is not None:
                agent.store.set_response(user_id, learned.session_id, learned.turn_index, turn.response)
            shown(turn.utterance, learned)
            if learned.error is not None:
                raise LLMUnreachable(
                    f"expected the policy {agent.policy.name!r} to answer turn {learned.turn_index} of {session.session_id}, got no answer "
                    f"({learned.error}); look at `personalagent doctor`, then replay again (a --user's turns are kept and inferred at "
                    "the next chat)"
                ) from learned.error
            done.append(learned)
    return done


def show_turn(utterance: str, learned: Learned) -> None:
    """Print what was said and, below it, what it taught; a session's first turn under its id."""
    if learned.turn_index == 0:
        say(f"\nsession {learned.session_id}", style="dim")
    head = Text(f"{learned.turn_index + 1:>2}  ", style="bold")
    text = " ".join(printable(utterance).split())
    head.append(text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)", style="default")
    say(head)
    inference = learned.inference
    if inference is None:
        return
    for op in inference.delta.operations:
        line = operation_line(op)
        line.pad_left(6)
        say(line)
    if not inference.delta.operations:
        say(f"      nothing new ({inference.outcome})", style="dim")
    if inference.refusals:
        say(f"      {refusal_line(inference.refusals)}", style="dim")


def show_costs(turns: list[Learned]) -> None:
    """Print how many facts were kept, how many refused, and what a turn cost."""
    inferences = [turn.inference for turn in turns if turn.inference is not None]
    kept = sum(len(each.delta.operations) for each in inferences)
    refused = sum(len(each.refusals) for each in inferences)
    seconds = sorted(sum(c.elapsed_s for c in each.completions) for each in inferences)
    median = seconds[len(seconds) // 2] if seconds else 0.0
    say(f"{len(turns)} turns, {kept} facts kept, {refused} refused; {median:.1f} s a turn (median)", style="dim")
