"""Is what is known enough for this request? Needed slots, known, missing, and the decision.

The policy names the slots a good answer needs (paper section 3.4); code, not a model, looks them up in the profile and decides
(``decide``), so a decision can be explained and tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files

import yaml

from personalagent.confidence import line_probabilities
from personalagent.dialogue import Message
from personalagent.elicitation import needs_nothing
from personalagent.inference import MAX_UTTERANCE_TOKENS, Notation, catalogue, clip, most_relevant, nearest_slot, words_of
from personalagent.llm.base import LLM, Completion
from personalagent.parsing import ParsedNeeds, ParseOutcome, parse_needs
from personalagent.profile import Profile, SlotValue
from personalagent.prompts import load_prompt
from personalagent.schema import AskPolicy, ProfileSchema, Slot, Volatility
from personalagent.shortlist import likely_slots

MAX_KNOWN_NAMES = 16
"""Names of known slots that the policy is shown, most relevant first."""
MAX_NEEDS = 4
MAX_TOKENS = 48
ASK_AT_LEAST = 0.0
"""Chosen on the dev split; trades asking too much against asking too little (results/coldstart.json has the test split's curve)."""
MOST_LIKELY = 3
"""Of the likely slots, how many have their values shown to the responder though the policy did not name them."""
STALE_AFTER = timedelta(days=30)
"""After so long without being said or confirmed, a value that changes fast (a mood, a plan, a purchase) is confirmed, not assumed."""


class Decision(StrEnum):
    """What the agent does with a request."""

    ANSWER = "answer"
    ANSWER_AND_ASK = "answer_and_ask"
    ASK = "ask"


class WhyNot(StrEnum):
    """Why a missing slot is not asked for."""

    NEVER = "never"
    """The schema says so."""
    DECLINED = "declined"
    """The user would not say."""
    ASKED = "asked"
    """Asked in this session and not answered."""
    NO_CONSENT = "no_consent"
    NOT_FIRST = "not_first"
    """One question per reply."""
    BUDGET = "budget"
    """The session's questions are used up."""
    MUTED = "muted"
    """The user wants no questions at all."""
    EMERGENCY = "emergency"
    """Someone in this session was in danger or distress a moment ago."""
    UNSURE = "unsure"
    """The policy is not sure enough that the answer depends on it."""
    NOT_WORTH_IT = "not_worth_it"
    """The slot may be asked only where the answer depends on it, and the policy named others first."""


@dataclass(frozen=True, slots=True)
class AskRules:
    """What limits questions in one session."""

    declined: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    """Asked for in this session."""
    questions_left: int = 3
    is_muted: bool = False
    is_urgent: bool = False
    """Whether someone was in danger or distress a few turns ago."""
    ask_at_least: float = ASK_AT_LEAST
    """Probability that the policy must give to the first slot that may be asked for; where it is lower, nothing is asked."""
    consent: frozenset[str] | None = None
    """Categories whose sensitive slots may be asked for; None means all."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a request needs, what of it is known, and what the agent will do."""

    request: str
    needs: tuple[str, ...]
    known: tuple[SlotValue, ...]
    missing: tuple[str, ...]
    stale: tuple[SlotValue, ...]
    """Of the known values, those that may no longer hold."""
    decision: Decision
    ask_for: str | None = None
    """The path of the slot to ask for."""
    question: str | None = None
    not_asked: tuple[tuple[str, WhyNot], ...] = ()
    outcome: ParseOutcome = ParseOutcome.OK
    completions: tuple[Completion, ...] = ()
    probabilities: tuple[float, ...] = ()
    """What the policy gave to each of ``needs``; empty where it gave none."""
    likely: tuple[str, ...] = ()
    """What requests like this one needed, most likely first."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Explain the decision, a sentence each, in words a user understands."""
        lines = [f"A good answer depends on {_readable(path)}." for path in self.needs] or [
            "Any user would want the same answer."
        ]
        lines += [f"Known: {_readable(value.path)} is {value.value!r}." for value in self.known]
        lines += [f"May be out of date: {_readable(value.path)}, said {value.observed_at:%d %B %Y}." for value in self.stale]
        lines += [f"Not known: {_readable(path)}." for path in self.missing]
        if self.ask_for is not None:
            lines.append(f"Asking for {_readable(self.ask_for)}: the answer depends on it more than on anything else unknown.")
        lines += [f"Not asking for {_readable(path)}: {_WHY_NOT[why]}." for path, why in self.not_asked]
        return tuple(lines)


_WHY_NOT = {
    WhyNot.NEVER: "it is only recorded when volunteered",
    WhyNot.DECLINED: "you preferred not to say",
    WhyNot.ASKED: "it was asked before in this session",
    WhyNot.NO_CONSENT: "it is sensitive and there is no consent for it",
    WhyNot.NOT_FIRST: "one question at a time",
    WhyNot.BUDGET: "enough was asked in this session",
    WhyNot.UNSURE: "it may not matter enough",
    WhyNot.EMERGENCY: "this is no time for questions",
    WhyNot.MUTED: "you asked not to be asked things",
    WhyNot.NOT_WORTH_IT: "it is asked only when the answer depends on it most",
}


def _readable(path: str) -> str:
    group, _, slot = path.partition(".")[2].partition(".")
    return f"{slot} ({group})".replace("_", " ")


def build_needs_prompt(
    request: str, profile: Profile, schema: ProfileSchema, notation: Notation = "compact", *, without: str = ""
) -> Message:
    """Build the prompt that asks which slots a request needs; it shows the names of known slots, most relevant first, and likely ones.

    ``without`` is for training: the unit whose labelled requests must not be among the neighbours that make a slot likely.
    """
    names = list(dict.fromkeys(schema.slots[value.path].short for value in most_relevant(profile, request, schema)))
    known = ", ".join(names[:MAX_KNOWN_NAMES]) or "nothing"
    shown, _ = clip(request, MAX_UTTERANCE_TOKENS[notation])
    if notation == "compact":
        likely = ", ".join(slot.short for slot in likely_slots(shown, schema, without=without)) or "nothing"
        return Message("user", load_prompt("needs_compact").fill(known=known, likely=likely, request=shown).rstrip("\n"))
    return Message(
        "user", load_prompt("needs_general").fill(known=known, request=shown, catalogue=catalogue(schema)).rstrip("\n")
    )


async def assess(
    request: str,
    profile: Profile,
    *,
    llm: LLM,
    schema: ProfileSchema,
    rules: AskRules | None = None,
    notation: Notation = "compact",
    now: datetime | None = None,
) -> Assessment:
    """Decide whether the profile is enough for a request; small talk and emergencies need nothing, and no model to tell.

    Raises:
        LLMError: the policy could not be reached or did not answer in time.
    """
    if needs_nothing(request):
        return decide(request, (), profile, rules or AskRules(), outcome=ParseOutcome.EMPTY)
    rules = rules or AskRules()
    prompt = build_needs_prompt(request, profile, schema, notation)
    completions: list[Completion] = []

    async def named(temperature: float) -> ParsedNeeds:
        completion = await llm.complete([prompt], max_tokens=MAX_TOKENS, temperature=temperature, logprobs=notation == "compact")
        completions.append(completion)
        return parse_needs(completion.text, truncated=completion.finish_reason == "length")

    parsed = await named(0.0)
    if parsed.outcome is ParseOutcome.UNREADABLE:
        parsed = await named(0.3)
    likely = likely_slots(clip(request, MAX_UTTERANCE_TOKENS[notation])[0], schema)
    sure = line_probabilities(completions[-1])
    needs: dict[Slot, float] = {}
    for name in parsed.paths[:MAX_NEEDS]:
        slot = schema.find(name) or nearest_slot(name, schema)
        if slot is not None:
            needs.setdefault(slot, sure.get(name, 1.0))
    return replace(
        decide(request, tuple(needs), profile, rules, now=now, outcome=parsed.outcome, probabilities=tuple(needs.values())),
        completions=tuple(completions),
        probabilities=tuple(needs.values()) if sure else (),
        likely=tuple(slot.path for slot in likely),
    )


def assess_without_policy(request: str, profile: Profile, schema: ProfileSchema) -> Assessment:
    """Return what can be told of a request at once: what is held of slots that requests like it needed. It asks for nothing. Pure.

    Nobody names the very slot here, so the neighbours of the likeliest ones count, too, unless they are sensitive.
    """
    likely = likely_slots(clip(request, MAX_UTTERANCE_TOKENS["compact"])[0], schema)
    groups = {slot.group for slot in likely[:MOST_LIKELY]}
    near = [slot for slot in schema if slot.group in groups and not slot.is_sensitive]
    known = tuple(value for slot in dict.fromkeys((*likely, *near)) for value in profile.values(slot.path))
    return replace(decide(request, (), profile, AskRules()), known=known, likely=tuple(slot.path for slot in likely))


def decide(
    request: str,
    needs: Sequence[Slot],
    profile: Profile,
    rules: AskRules,
    *,
    now: datetime | None = None,
    outcome: ParseOutcome = ParseOutcome.OK,
    probabilities: Sequence[float] = (),
) -> Assessment:
    """Look the needed slots up and apply the rules of asking; without ``now`` nothing is stale. Pure."""
    known = tuple(value for slot in needs for value in profile.values(slot.path))
    missing = [slot for slot in needs if not profile.values(slot.path)]
    stale = tuple(value for slot in needs for value in profile.values(slot.path) if now and is_stale(value, slot, now))
    ask_for: Slot | None = None
    not_asked: list[tuple[str, WhyNot]] = []
    open_slots = [*missing, *(slot for slot in needs if any(value.path == slot.path for value in stale))]
    is_unsure = False
    for slot in open_slots:
        why = _why_not(slot, rules, is_first=slot is open_slots[0])
        if why is None and (is_unsure := is_unsure or _is_unlikely(slot, needs, probabilities, rules)):
            why = WhyNot.UNSURE
        if why is None and ask_for is None:
            ask_for = slot
        else:
            not_asked.append((slot.path, why or WhyNot.NOT_FIRST))
    decision = Decision.ANSWER
    if ask_for is not None:
        decision = Decision.ASK if is_risky_to_guess(ask_for) and ask_for in missing else Decision.ANSWER_AND_ASK
    return Assessment(
        request=request,
        needs=tuple(slot.path for slot in needs),
        known=known,
        missing=tuple(slot.path for slot in missing),
        stale=stale,
        decision=decision,
        ask_for=ask_for.path if ask_for else None,
        question=question_for(ask_for, profile.values(ask_for.path)) if ask_for else None,
        not_asked=tuple(not_asked),
        outcome=outcome,
    )


def _is_unlikely(slot: Slot, needs: Sequence[Slot], probabilities: Sequence[float], rules: AskRules) -> bool:
    return bool(probabilities) and probabilities[needs.index(slot)] < rules.ask_at_least


def is_stale(value: SlotValue, slot: Slot, now: datetime) -> bool:
    """Tell whether a value of a slot that changes fast was last said or confirmed too long ago."""
    return slot.volatility is Volatility.FAST and now - (value.confirmed_at or value.observed_at) > STALE_AFTER


def _why_not(slot: Slot, rules: AskRules, *, is_first: bool) -> WhyNot | None:
    if slot.ask is AskPolicy.NEVER:
        return WhyNot.NEVER
    if rules.is_muted:
        return WhyNot.MUTED
    if rules.is_urgent:
        return WhyNot.EMERGENCY
    if slot.path in rules.declined:
        return WhyNot.DECLINED
    if slot.path in rules.asked:
        return WhyNot.ASKED
    if slot.is_sensitive and rules.consent is not None and slot.category not in rules.consent:
        return WhyNot.NO_CONSENT
    if rules.questions_left <= 0:
        return WhyNot.BUDGET
    if slot.ask is AskPolicy.IF_NEEDED and not is_first:
        return WhyNot.NOT_WORTH_IT
    return None


_RISKY = frozenset({"health.allergies_intolerances", "health.medications", "health.reproductive"})


def is_risky_to_guess(slot: Slot) -> bool:
    """Tell whether a provisional answer without this slot could hurt, so that the question comes first."""
    return slot.short in _RISKY


@cache
def _questions() -> Mapping[str, str]:
    text = (files("personalagent") / "schema" / "questions.yaml").read_text("utf-8")
    return {str(path): str(question) for path, question in yaml.safe_load(text).items()}


def question_for(slot: Slot, held: Sequence[SlotValue] = ()) -> str:
    """Return the question that asks for a slot: whether what is held still holds, the written one, or one made of the description."""
    if held:
        return f"You told me before: {', '.join(value.value for value in held)} ({_readable(slot.path)}). Does that still hold?"
    return (
        _questions().get(slot.path)
        or f"May I ask about this, so that the answer suits you: {slot.description.rstrip('.').lower()}?"
    )


def relevant_values(assessment: Assessment, profile: Profile, schema: ProfileSchema, *, limit: int = 8) -> tuple[SlotValue, ...]:
    """Return the preferences an answer should use: the known needs, what requests like it needed, values that share words with it."""
    wanted = words_of(assessment.request)
    chosen = list(assessment.known)
    chosen += [value for path in assessment.likely[:MOST_LIKELY] for value in profile.values(path) if value not in chosen]
    for value in most_relevant(profile, assessment.request, schema):
        slot = schema.slots[value.path]
        is_about = wanted & words_of(f"{value.value} {slot.short.replace('.', ' ')}")
        is_style = slot.group.endswith((".communication", ".assistant")) or slot.short == "language.response_language"
        if value not in chosen and (is_about or is_style):
            chosen.append(value)
    return tuple(chosen[:limit])
