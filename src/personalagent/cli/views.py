"""How profiles, operations and refusals look on a terminal, and what a turn taught as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from personalagent.cli.terminal import out, printable, say
from personalagent.inference import Inference, Refusal
from personalagent.json_forms import operation_json
from personalagent.profile import OpKind, Polarity, Profile, SlotOp, SlotValue
from personalagent.reply import Learned
from personalagent.schema import ProfileSchema

_SIGNS = {OpKind.ADD: "+", OpKind.UPDATE: "~", OpKind.RETRACT: "-", OpKind.CONFIRM: "=", OpKind.FORGET: "x"}


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
