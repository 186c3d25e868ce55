"""What asking brings: a simulated user answers the question from the persona, and the profile is looked at afterwards.

The whole path of serving is played: the request, the question, the reply, what was read in it, the profile on disk. Exact and
judge-free: a case is resolved when a slot that decides its answer then holds the persona's own value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from personalagent.agent import PersonalAgent
from personalagent.bench.metrics import SAME_VALUE, bootstrap
from personalagent.datasets.base import PersonaSlot, Split
from personalagent.datasets.corpus import Corpus
from personalagent.datasets.simulated_user import SimulatedKind, SimulatedUser
from personalagent.errors import LLMError
from personalagent.profile import OpKind, Profile, ProfileDelta, SlotOp, Source, value_overlap
from personalagent.schema import ProfileSchema
from personalagent.train.samples import START, final_profile

NOW = START + timedelta(days=1)
"""When the requests are made: nothing that was learned has gone stale."""


@dataclass(frozen=True, slots=True)
class ClosureCase:
    """A dialogue's request, what is known before it, and the persona that answers."""

    case_id: str
    unit: str
    request: str
    profile: Profile
    missing: tuple[str, ...]
    persona: tuple[PersonaSlot, ...]


@dataclass(frozen=True, slots=True)
class ClosureRow:
    """What came of a request, and of the question if one was asked."""

    case_id: str
    unit: str
    request: str
    missing: tuple[str, ...]
    """Gold."""
    asked_for: str | None = None
    question: str | None = None
    reply: str | None = None
    kind: SimulatedKind | None = None
    is_filled: bool = False
    """Whether the slot that was asked for holds a value after the reply."""
    is_right: bool = False
    """Whether that value is the persona's, by token F1 of at least 0.5."""
    is_resolved: bool = False
    """Whether a slot that decides the answer and was missing now holds the persona's value."""
    error: str | None = None
    """Why the case could not be played; it is counted and not scored."""


def closure_cases(corpus: Corpus, schema: ProfileSchema, split: Split) -> list[ClosureCase]:
    """List a split's requests of dialogues; request twins have no persona that could answer."""
    return [
        ClosureCase(
            f"{dialogue.dialogue_id}/{number}",
            dialogue.dialogue_id,
            request.request,
            final_profile(dialogue, schema),
            request.missing,
            dialogue.persona,
        )
        for dialogue in corpus.dialogues_of(split)
        for number, request in enumerate(dialogue.requests, 1)
    ]


async def play_case(case: ClosureCase, agent: PersonalAgent, *, decline_rate: float = 0.0, seed: int = 0) -> ClosureRow:
    """Make the request as a user of its own, answer the question if one comes, and look at the profile.

    ``agent`` should tell ``NOW`` as the time, or values that change fast count as stale.
    """
    row = ClosureRow(case.case_id, case.unit, case.request, case.missing)
    try:
        agent.store.ensure_user(case.case_id)
        agent.store.edit(case.case_id, ProfileDelta(tuple(_imports(case.profile, agent.schema))))
        reply = await agent.chat(case.case_id, case.request)
        asked = reply.assessment.ask_for if reply.assessment else None
        if asked is None or reply.question is None:
            return row
        user = SimulatedUser(case.persona, agent.schema, decline_rate=decline_rate, seed=seed)
        said = await user.answer(reply.question, asked)
        await agent.learn(case.case_id, said.text)
        profile = await agent.profile(case.case_id)
    except LLMError as error:
        return replace(row, error=type(error).__name__)
    return replace(
        row,
        asked_for=asked,
        question=reply.question,
        reply=said.text,
        kind=said.kind,
        is_filled=bool(profile.values(asked)),
        is_right=_holds(profile, asked, case.persona),
        is_resolved=any(_holds(profile, path, case.persona) for path in case.missing),
    )


def _imports(profile: Profile, schema: ProfileSchema) -> Iterable[SlotOp]:
    for value in profile:
        slot = schema.slots.get(value.path)
        if slot is not None:
            yield SlotOp(OpKind.ADD, value.path, value.value, START, value.polarity, Source.IMPORTED, slot.cardinality)


def _holds(profile: Profile, path: str, persona: Sequence[PersonaSlot]) -> bool:
    wanted = [each.value for each in persona if each.path == path]
    return any(value_overlap(value.value, each) >= SAME_VALUE for value in profile.values(path) for each in wanted)


def summarise_closure(rows: Sequence[ClosureRow]) -> dict[str, Any]:
    """Return shares with 95 % intervals over personas; None where there is nothing to measure.

    ``worth_asking``: of the questions, those the persona had an answer to. ``filled`` and ``right``: of the answers that told
    something, those after which the slot holds a value, and the persona's. ``resolved``: of the insufficient requests, those
    whose deciding slot is known in the end; nothing that was not asked can be.
    """
    played = [row for row in rows if row.error is None]
    units: dict[str, list[ClosureRow]] = {}
    for row in played:
        units.setdefault(row.unit, []).append(row)
    told = lambda row: row.kind is SimulatedKind.TOLD  # noqa: E731 - read three times below
    shares: dict[str, tuple[Callable[[ClosureRow], bool], Callable[[ClosureRow], bool]]] = {
        "worth_asking": (told, lambda row: row.asked_for is not None),
        "filled": (lambda row: row.is_filled, told),
        "right": (lambda row: row.is_right, told),
        "resolved": (lambda row: row.is_resolved, lambda row: bool(row.missing)),
    }
    figures: dict[str, Any] = {"requests": len(rows), "failed": len(rows) - len(played)}
    for name, (is_hit, counts) in shares.items():
        value = _share(played, is_hit, counts)
        interval = bootstrap(list(units.values()), lambda drawn, h=is_hit, c=counts: _share([r for u in drawn for r in u], h, c))  # type: ignore[misc]
        figures[name] = None if value is None else round(value, 3)
        figures[f"{name}_95"] = interval and [round(bound, 3) for bound in interval]
    figures["questions"] = sum(row.asked_for is not None for row in played)
    figures["questions_per_dialogue"] = round(figures["questions"] / len(units), 2) if units else None
    figures["replies"] = dict(Counter(row.kind.value for row in played if row.kind))
    return figures


def _share(
    rows: Sequence[ClosureRow], is_hit: Callable[[ClosureRow], bool], counts: Callable[[ClosureRow], bool]
) -> float | None:
    chosen = [is_hit(row) for row in rows if counts(row)]
    return sum(chosen) / len(chosen) if chosen else None
