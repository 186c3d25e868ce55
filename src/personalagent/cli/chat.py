"""``personalagent chat``: a conversation at the terminal, or one turn per line of standard input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from personalagent.agent import PersonalAgent
from personalagent.cli.doors import AsJson, Run, open_agent, settings_of
from personalagent.cli.model import fetch_missing
from personalagent.cli.terminal import emit, note, say, waiting
from personalagent.cli.views import (
    attitude,
    operation_line,
    refusal_line,
    short,
    show_profile,
    value_line,
)
from personalagent.datasets.replay import decode
from personalagent.errors import PersonalAgentError, UsageError
from personalagent.inference import RefusalReason
from personalagent.json_forms import operation_json, value_json
from personalagent.parsing import Fact, ParseOutcome
from personalagent.reply import Reply
from personalagent.store import AskState

HELP = """\
/profile              what is known about you, with your own words
/why                  why the last reply is what it is
/forget SLOT [VALUE]  erase a value, or everything a slot holds, as if you had never said it
/skip                 do not ask me that again
/quit                 end (Ctrl-D too)"""


def chat(
    context: typer.Context,
    user_id: Annotated[str, typer.Option("--user", help="Whose profile is learned and used.")] = "me",
    session_id: Annotated[str | None, typer.Option("--session", help="Go on with this session instead of a new one.")] = None,
    consent: Annotated[
        str | None, typer.Option(help="Sensitive facts to keep: ask, all, none, or categories with commas.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Talk with the agent; it shows what it learns, and why it asks."""
    settings = settings_of(context, consent=consent)
    if is_interactive():
        fetch_missing(settings)
    with open_agent(settings) as (agent, run):
        conversation = Conversation(agent, run, user_id, session_id, as_json=as_json)
        if is_interactive():
            conversation.interactive()
        else:
            conversation.piped()


@dataclass
class Conversation:
    """One run of ``chat``."""

    agent: PersonalAgent
    run: Run[Any]
    user_id: str
    session_id: str | None
    as_json: bool
    last: Reply | None = None

    def piped(self) -> None:
        """Take a turn from every line of standard input that is not blank."""
        count = 0
        for number, line in enumerate(sys.stdin.buffer, 1):
            text = decode(line, f"standard input, line {number}").strip()
            if text:
                self.turn(text)
                count += 1
        if not count:
            raise UsageError(
                "expected a message on standard input, one per line, got none; write something, or run chat in a terminal"
            )

    def interactive(self) -> None:
        """Read turns and commands from the terminal until the user ends it."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() its line editing
        note(
            f"You are {self.user_id!r}. Policy: {self.agent.policy.name}. Replies: {self.agent.responder.name}. /help lists commands."
        )
        self._catch_up()
        for line in _lines():
            try:
                if not line.startswith("/"):
                    self.turn(line)
                elif self.command(line) is False:
                    return
            except KeyboardInterrupt:
                note("interrupted; what you said is kept", style="yellow")
            except PersonalAgentError as error:
                note(f"error: {error}", style="red")

    def turn(self, text: str) -> None:
        """Send one utterance and show the reply, what it taught, and why a question is asked."""
        with waiting():
            self.last = reply = self.run(self.agent.chat(self.user_id, text, session_id=self.session_id))
        self.session_id = reply.session_id
        if self.as_json:
            emit(reply_json(reply), indent=None)
            return
        say(reply.text)
        show_learned(reply)
        self._offer_consent(reply)

    def command(self, line: str) -> bool | None:
        """Do a slash command; False ends the conversation."""
        name, _, rest = line[1:].partition(" ")
        if name in ("quit", "exit", "q"):
            return False
        if name == "profile":
            show_profile(self.run(self.agent.profile(self.user_id)), self.agent.schema, self.user_id)
        elif name == "why":
            self._explain()
        elif name == "forget":
            self._forget(rest)
        elif name == "skip":
            self._skip()
        else:
            say(HELP)
        return None

    def _explain(self) -> None:
        if self.last is None or self.last.assessment is None:
            say(
                "There is no reply to explain yet."
                if self.last is None
                else "The policy could not be reached for the last reply."
            )
            return
        for reason in self.last.assessment.reasons:
            say(f"  {reason}")
        for value in self.last.used:
            say(f"  Used: {value_line(value)}")

    def _forget(self, rest: str) -> None:
        path, _, value = rest.strip().partition(" ")
        if not path:
            raise UsageError("expected /forget SLOT [VALUE], got no slot; /profile shows the slots")
        forgotten = self.run(self.agent.forget(self.user_id, path, value.strip()))
        say(f"  erased: {forgotten.operations} operation(s), and what you said in {forgotten.turns} turn(s)")
        if forgotten.also_in:
            say(f"  the same words are still in: {', '.join(map(short, forgotten.also_in))}")

    def _skip(self) -> None:
        asked = self.last.assessment.ask_for if self.last and self.last.assessment else None
        if self.last is None or asked is None:
            raise UsageError("expected a question to skip, got none in the last reply; just go on")
        self.agent.store.record_ask(self.user_id, self.last.session_id, asked, AskState.DECLINED)
        say(f"  {short(asked)} will not be asked again")

    def _offer_consent(self, reply: Reply) -> None:
        """Ask before a sensitive fact is kept; without a terminal, say how to allow it."""
        answered = self.agent.store.consents(self.user_id)
        for category, facts in sorted(by_category(self.agent, reply).items()):
            if category in answered or self.agent.settings.consent != ("ask",):
                continue
            for fact in facts:
                say(f"  ? {short(fact.path)}  {fact.value}{attitude(fact.polarity)}  “{fact.quote}”", style="yellow")
            title = category.replace("_", " ")
            if not is_interactive():
                note(f"  not kept: sensitive; allow it with --consent {category}")
                continue
            answer = input(f"  This is sensitive. Keep such facts ({title})? [y]es, [n]o and do not ask again, Enter for later: ")
            if answer.strip().casefold() in ("y", "yes"):
                self.run(self.agent.grant(self.user_id, category, reply))
                say("  kept", style="dim")
            elif answer.strip().casefold() in ("n", "no"):
                self.run(self.agent.deny(self.user_id, category))
                say("  not kept, and you will not be asked again", style="dim")

    def _catch_up(self) -> None:
        if self.agent.store.pending_turns(self.user_id):
            with waiting():
                done = [learned for learned in self.run(self.agent.catch_up(self.user_id)) if learned.inference is not None]
            note(f"{len(done)} earlier turn(s) that had waited for the policy are inferred now.")


def is_interactive() -> bool:
    """Tell whether somebody sits at the terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def _lines() -> Iterator[str]:
    """Yield what the user types, blank lines left out, until Ctrl-D or Ctrl-C."""
    while True:
        try:
            line = input("› ").strip()
        except (EOFError, KeyboardInterrupt):
            say()
            return
        except UnicodeDecodeError as error:
            note(f"error: expected UTF-8, got byte {error.object[error.start]:#x}; set the terminal to UTF-8", style="red")
            continue
        if line:
            yield line


def by_category(agent: PersonalAgent, reply: Reply) -> dict[str, list[Fact]]:
    """Return the withheld facts by the category whose consent they wait for."""
    grouped: dict[str, list[Fact]] = {}
    for fact in reply.withheld:
        if slot := agent.schema.find(fact.path):
            grouped.setdefault(slot.category, []).append(fact)
    return grouped


def show_learned(reply: Reply) -> None:
    """Print, dimmed, what the turn taught with the quotes that prove it, what was refused, and why a question is asked."""
    inference = reply.inference
    if inference is None or inference.outcome is ParseOutcome.UNREADABLE:
        what = "could not be reached" if inference is None else "wrote nothing readable"
        note(f"  the policy {what}; what you said is kept and will be inferred later", style="yellow")
        return
    for op in inference.delta.operations:
        line = operation_line(op)
        line.stylize("dim")
        line.pad_left(2)
        say(line)
    refused = [refusal for refusal in inference.refusals if refusal.reason is not RefusalReason.NO_CONSENT]
    if refused:
        say(f"  {refusal_line(refused)}", style="dim")
    if reply.assessment is not None and reply.assessment.ask_for:
        say(f"  asks because a good answer depends on {short(reply.assessment.ask_for)}, which is not known", style="dim")


def reply_json(reply: Reply) -> dict[str, object]:
    """Return a reply with what it used and what the turn taught."""
    assessment, inference = reply.assessment, reply.inference
    return {
        "session_id": reply.session_id,
        "turn_index": reply.turn_index,
        "text": reply.text,
        "question": reply.question,
        "decision": assessment.decision if assessment else None,
        "reasons": list(assessment.reasons) if assessment else [],
        "used": [value_json(value) for value in reply.used],
        "operations": [operation_json(op) for op in inference.delta.operations] if inference else [],
        "withheld": [{"slot": f.path, "value": f.value, "quote": f.quote} for f in reply.withheld],
        "outcome": inference.outcome if inference else "unreachable",
    }
