"""``personalagent profile``: see, correct, erase and carry what is known about a user. No model is needed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from personalagent.cli.doors import AsJson, UserId, open_profiles, refuse_unknown_user, schema_of, settings_of
from personalagent.cli.terminal import emit, note, out, printable, say
from personalagent.cli.views import attitude, operation_line, plain_table, short, show_profile, value_line
from personalagent.datasets.replay import STDIN, decode
from personalagent.errors import DataError, UsageError
from personalagent.json_forms import diff_json, profile_json
from personalagent.portable import export_document, imported_operations, parse_export
from personalagent.profile import Polarity, ProfileDelta
from personalagent.schema import Slot
from personalagent.sessions import session_diff
from personalagent.store import dump_operations

app = typer.Typer(no_args_is_help=True, help="See, correct, erase and carry what is known about a user.")
SlotName = Annotated[str, typer.Argument(metavar="SLOT", help="category.group.slot, or group.slot.")]


@app.command()
def show(context: typer.Context, user_id: UserId, as_json: AsJson = False) -> None:
    """Show what is known about a user, with the words that prove it."""
    with open_profiles(settings_of(context)) as (agent, run):
        refuse_unknown_user(agent.store, user_id)
        profile = run(agent.profile(user_id))
        if as_json:
            emit(profile_json(user_id, profile))
        else:
            show_profile(profile, agent.schema, f"Profile of {user_id}")


@app.command()
def history(
    context: typer.Context,
    user_id: UserId,
    slot: Annotated[str | None, typer.Argument(metavar="SLOT", help="Only this slot.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every change of a profile, oldest first."""
    with open_profiles(settings_of(context)) as (agent, _):
        refuse_unknown_user(agent.store, user_id)
        path = agent.schema.slot(slot).path if slot else None
        operations = agent.store.operations(user_id, path)
    if as_json:
        emit(json.loads(dump_operations(operations)))
        return
    for op in operations:
        line = Text(f"{op.at:%Y-%m-%d %H:%M}  ", style="dim")
        say(line.append_text(operation_line(op)).append(f"  {op.source}", style="dim"))
    if not operations:
        say("nothing was ever recorded" + (f" for {path}" if path else ""))


@app.command()
def diff(
    context: typer.Context,
    user_id: UserId,
    session_id: Annotated[str | None, typer.Argument(metavar="SESSION", help="The session; the last one when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what one session changed: values it added, took away, or confirmed."""
    with open_profiles(settings_of(context)) as (agent, _):
        refuse_unknown_user(agent.store, user_id)
        if session_id is None:
            session_id = next(reversed(agent.store.session_ids(user_id)), None)
        if session_id is None:
            raise UsageError(f"expected a user who had a session, got {user_id!r}, whose profile was only edited or imported")
        found = session_diff(agent.store, user_id, session_id)
    if as_json:
        emit(diff_json(user_id, found))
        return
    say(f"session {printable(found.session_id)}: {len(found.turns)} turns", style="bold")
    changes = [("+", value) for value in found.added] + [("-", value) for value in found.removed]
    for sign, value in [*changes, *(("=", new) for _, new in found.changed)]:
        say(f"{sign} {printable(value_line(value))}", style={"+": "green", "-": "yellow"}.get(sign))
    if not changes and not found.changed:
        say("nothing changed")


@app.command()
def edit(
    context: typer.Context,
    user_id: UserId,
    slot: SlotName,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="What holds instead, or besides where the slot takes many values.")
    ],
    polarity: Annotated[Polarity, typer.Option(help="How the user stands towards it.")] = Polarity.NEUTRAL,
    as_json: AsJson = False,
) -> None:
    """Set a value by hand; creates the user where they are new."""
    with open_profiles(settings_of(context)) as (agent, run):
        profile = run(agent.edit(user_id, slot, value, polarity=polarity))
        path = agent.schema.slot(slot).path
    if as_json:
        emit(profile_json(user_id, profile))
        return
    for held in profile.values(path):
        say(f"{short(path)}: {held.value}{attitude(held.polarity)}")


@app.command()
def forget(
    context: typer.Context,
    user_id: UserId,
    slot: Annotated[str | None, typer.Argument(metavar="SLOT", help="The slot to empty.")] = None,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Only this value of it.")] = "",
    everything: Annotated[bool, typer.Option("--everything", help="Erase the user: profile, turns, sessions, consents.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether you are sure.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a value, a slot or a whole user, to the byte, as if it had never been said."""
    if (slot is None) is not everything:
        raise UsageError(
            "expected either a SLOT or --everything, got " + ("both" if everything else "neither") + "; give one of them"
        )
    with open_profiles(settings_of(context)) as (agent, run):
        refuse_unknown_user(agent.store, user_id)
        path = agent.schema.slot(slot).path if slot else ""
        what = (
            f"everything about {user_id}"
            if not path
            else f"{value!r} of {short(path)}"
            if value
            else f"every value of {short(path)}"
        )
        _confirm(f"Erase {what}?", is_sure=yes)
        if not path:
            agent.store.delete_user(user_id)
            _report(as_json, {"user_id": user_id, "is_deleted": True}, f"erased: {what}")
            return
        done = run(agent.forget(user_id, path, value))
    result = {"user_id": user_id, "slot": path, **asdict(done)}
    _report(as_json, result, f"erased: {what} ({done.operations} operations; text of {done.turns} turns)")
    if not done.operations:
        note("nothing was held there", style="yellow")
    if done.also_in:
        note(f"the same words are still a value of: {', '.join(done.also_in)}", style="yellow")
    if not done.is_scrubbed:
        note("another process reads the database; the bytes go when it ends, at the next start", style="yellow")


def _report(as_json: bool, result: dict[str, object], line: str) -> None:
    if as_json:
        emit(result)
    else:
        say(line)


def _confirm(question: str, *, is_sure: bool) -> None:
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise UsageError("expected --yes where nobody can be asked, got none; add it to erase for good")
    typer.confirm(question, abort=True, err=True)


@app.command()
def export(
    context: typer.Context,
    user_id: UserId,
    output: Annotated[Path | None, typer.Option(help="The file to write; standard output when left out.")] = None,
) -> None:
    """Write everything that is kept about a user as JSON; ``profile import`` reads the log of operations in it."""
    with open_profiles(settings_of(context)) as (agent, _):
        refuse_unknown_user(agent.store, user_id)
        document = export_document(agent.store, user_id, at=datetime.now(UTC))
        operations = agent.store.operations(user_id)
    if output is None:
        emit(document)
        return
    try:
        output.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise UsageError(f"expected a file that can be written, got {error.strerror}: {output}; choose another place") from error
    note(f"{len(operations)} operations to {output}")


@app.command("import")
def import_(
    context: typer.Context,
    user_id: UserId,
    file: Annotated[str, typer.Argument(metavar="FILE", help="An exported profile; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Add an exported profile to a user's; creates the user where they are new."""
    data = sys.stdin.buffer.read() if file == STDIN else _read(Path(file))
    operations = parse_export(decode(data, "standard input" if file == STDIN else file))
    with open_profiles(settings_of(context)) as (agent, run):
        imported = imported_operations(operations, agent.schema)
        agent.store.ensure_user(user_id)
        agent.store.edit(user_id, ProfileDelta(imported))
        profile = run(agent.profile(user_id))
        if as_json:
            emit(profile_json(user_id, profile))
        else:
            show_profile(profile, agent.schema, f"Profile of {user_id}")


def _read(file: Path) -> bytes:
    try:
        return file.expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"expected a readable file, got {error.strerror}: {file}; check the path") from error


@app.command()
def slots(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only a category or a group.")] = "",
    as_json: AsJson = False,
) -> None:
    """List what a profile can hold."""
    found = [slot for slot in schema_of(settings_of(context)) if _is_under(slot, prefix)]
    if not found:
        raise UsageError(f"expected a category, group or slot of the schema, got {prefix!r}; leave it out to list all of them")
    if as_json:
        emit([_slot_json(slot) for slot in found])
        return
    table = plain_table("slot", "holds", "kept", "asked", "about")
    for slot in found:
        kept = "with consent" if slot.is_sensitive else "yes"
        about = f"{slot.description} {'|'.join(slot.values)}".strip()
        table.add_row(
            *map(Text, (slot.path, f"{slot.cardinality} {slot.type}", kept, slot.ask.replace("_", " "), printable(about)))
        )
    out().print(table)


def _is_under(slot: Slot, prefix: str) -> bool:
    return not prefix or any(name == prefix or name.startswith(f"{prefix}.") for name in (slot.path, slot.short))


def _slot_json(slot: Slot) -> dict[str, object]:
    return {
        "slot": slot.path,
        "type": slot.type,
        "cardinality": slot.cardinality,
        "sensitivity": slot.sensitivity,
        "needs_consent": slot.is_sensitive,
        "volatility": slot.volatility,
        "ask": slot.ask,
        "description": slot.description,
        "example": slot.example,
        "values": list(slot.values),
    }
