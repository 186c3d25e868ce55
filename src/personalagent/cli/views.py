"""How profiles, operations, refusals and assessments look, as JSON and on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from personalagent.agent import Learned
from personalagent.cli.terminal import out, printable, say
from personalagent.inference import Inference, Refusal
from personalagent.profile import OpKind, Polarity, Profile, SlotOp, SlotValue
from personalagent.schema import ProfileSchema
from personalagent.sufficiency import Assessment

_SIGNS = {OpKind.ADD: "+", OpKind.UPDATE: "~", OpKind.RETRACT: "-", OpKind.CONFIRM: "=", OpKind.FORGET: "x"}


def operation_json(op: SlotOp) -> dict[str, object]:
    """Return what an operation changes and the words that prove it."""
    quote = op.evidence.quote if op.evidence else None
    return {"slot": op.path, "value": op.value, "polarity": op.polarity, "op": op.op, "quote": quote}


def refusal_json(refusal: Refusal) -> dict[str, object]:
    """Return why a fact was refused, and the fact as the policy wrote it."""
    fact = refusal.fact
    return {
        "reason": refusal.reason,
        "slot": fact.path,
        "value": fact.value,
        "polarity": fact.polarity,
        "op": fact.op,
        "quote": fact.quote,
    }


def turn_json(learned: Learned) -> dict[str, object]:
    """Return what one turn taught; ``outcome`` is ``unreachable`` where the policy gave no answer."""
    inference = learned.inference
    where: dict[str, object] = {"turn_index": learned.turn_index, "session_id": learned.session_id}
    if inference is None:
        return where | {"operations": [], "refusals": [], "outcome": "unreachable"}
    return where | {
        "operations": [operation_json(op) for op in inference.delta.operations],
        "refusals": [refusal_json(refusal) for refusal in inference.refusals],
        "outcome": inference.outcome,
        **cost_json(inference),
    }


def cost_json(inference: Inference) -> dict[str, object]:
    """Return time and tokens of the policy's calls; None where the endpoint did not count."""
    usages = [completion.usage for completion in inference.completions]
    return {
        "ms": round(1_000 * sum(completion.elapsed_s for completion in inference.completions), 1),
        "prompt_tokens": _total(usage.prompt_tokens for usage in usages),
        "completion_tokens": _total(usage.completion_tokens for usage in usages),
    }


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def value_json(value: SlotValue) -> dict[str, object]:
    """Return a slot value with everything that is known about it."""
    return {
        "slot": value.path,
        "value": value.value,
        "polarity": value.polarity,
        "source": value.source,
        "observed_at": value.observed_at,
        "confirmed_at": value.confirmed_at,
        "valid_to": value.valid_to,
        "evidence": [{"quote": e.quote, "session_id": e.session_id, "turn_index": e.turn_index} for e in value.evidence],
    }


def profile_json(user_id: str, profile: Profile) -> dict[str, object]:
    """Return the open values of a profile, and those that were closed."""
    return {
        "user_id": user_id,
        "profile": [value_json(value) for value in profile],
        "history": [value_json(value) for value in profile.history],
    }


def assessment_json(user_id: str, assessment: Assessment) -> dict[str, object]:
    """Return an assessment with its reasons."""
    return {
        "user_id": user_id,
        "request": assessment.request,
        "needs": list(assessment.needs),
        "probabilities": list(assessment.probabilities),
        "known": [value_json(value) for value in assessment.known],
        "stale": [value_json(value) for value in assessment.stale],
        "missing": list(assessment.missing),
        "decision": assessment.decision,
        "ask_for": assessment.ask_for,
        "question": assessment.question,
        "not_asked": [{"slot": path, "reason": why} for path, why in assessment.not_asked],
        "reasons": list(assessment.reasons),
        "outcome": assessment.outcome,
    }


def short(path: str) -> str:
    """Return ``group.slot`` of a full path."""
    return path.partition(".")[2] or path


def operation_line(op: SlotOp) -> Text:
    """Write an operation on one line: sign, slot, value, attitude, quote."""
    line = Text(f"{_SIGNS[op.op]} {short(op.path)}", style="green" if op.op is not OpKind.RETRACT else "yellow")
    line.append(f"  {printable(op.value)}{attitude(op.polarity)}", style="default")
    if op.evidence and op.evidence.quote:
        line.append(f"  “{printable(op.evidence.quote)}”", style="dim")
    return line


def value_line(value: SlotValue) -> str:
    """Write a slot value with the quote that proves it last."""
    quote = f"  “{value.evidence[-1].quote}”" if value.evidence else ""
    return f"{short(value.path)}: {value.value}{attitude(value.polarity)}{quote}"


def attitude(polarity: Polarity) -> str:
    """Write the polarity where there is one."""
    return "" if polarity is Polarity.NEUTRAL else f" ({polarity})"


def refusal_line(refusals: Sequence[Refusal]) -> str:
    """Count the refusals by reason: ``not kept: 2 not new, 1 quote not found``."""
    counts = Counter(str(refusal.reason).replace("_", " ") for refusal in refusals)
    return "not kept: " + ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))


def plain_table(first: str, *rest: str, title: str | None = None) -> Table:
    """Return an empty table whose first column is never broken; the others are folded where the terminal is narrow."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in rest:
        table.add_column(name, overflow="fold")
    return table


def show_profile(profile: Profile, schema: ProfileSchema, title: str) -> None:
    """Print a profile as a table, in the order of the schema; slots that the schema no longer has come last."""
    table = plain_table("slot", "value", "what was said", title=title)
    order = {path: place for place, path in enumerate(schema.slots)}
    category = None
    for value in sorted(profile, key=lambda value: order.get(value.path, len(order))):
        own = value.path.partition(".")[0]
        if own != category:
            category = own
            table.add_row(Text(own.replace("_", " "), style="bold"), "", "")
        quote = value.evidence[-1].quote if value.evidence else f"({value.source})"
        table.add_row(
            Text(f"  {short(value.path)}"),
            Text(printable(value.value) + attitude(value.polarity)),
            Text(printable(quote), style="dim"),
        )
    if len(profile):
        out().print(table)
    else:
        say(f"{title}: nothing is known yet")
