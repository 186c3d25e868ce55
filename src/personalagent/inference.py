"""One turn of profile inference: prompt, policy, parse, provenance gate, delta.

The policy sees the new utterance and the profile so far, never the transcript (paper section 3.1), so what a turn
costs does not depend on how many turns came before. Serving, training rollouts and benchmarks all call this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from functools import partial
from typing import Literal

from personalagent.clauses import clauses_of
from personalagent.confidence import caution, certainty, fact_confidences, is_doubtful
from personalagent.dialogue import Message
from personalagent.llm.base import LLM, Completion
from personalagent.parsing import Fact, ParsedFacts, ParseOutcome, parse_compact, parse_general
from personalagent.profile import (
    Cardinality,
    Evidence,
    OpKind,
    Polarity,
    Profile,
    ProfileDelta,
    SlotOp,
    SlotValue,
    Source,
    value_overlap,
)
from personalagent.prompts import load_prompt
from personalagent.schema import ProfileSchema, Slot, SlotType

Notation = Literal["compact", "general"]
"""``compact`` is the trained policy's, ``general`` any instruct model's."""

MAX_KNOWN = 6
"""Slot values of the profile so far that a prompt shows, most relevant first."""
MAX_KNOWN_CHARS = 600
MAX_UTTERANCE_CHARS = 3_000
"""What a prompt shows of one utterance: about 750 tokens, the first and the last half."""
MAX_UTTERANCE_TOKENS = {"compact": 1_200, "general": 540}
"""The same as ``tokens_at_most`` counts them: less of a text that is dense (digits, emoji), so that a prompt stays under 2,048."""
MAX_FACTS = 8
"""Facts of one turn that are kept; a policy that lists more is repeating itself."""
MAX_TOKENS = {"compact": 128, "general": 512}
KEEP_AT_LEAST = 0.23
"""Confidence from which a fact of the trained policy is kept; chosen on the dev split (docs/decisions/0002)."""
RESTATED = 0.8
"""Token overlap with an open value above which a fact says nothing new."""


class RefusalReason(StrEnum):
    """Why the gate refused an operation."""

    QUOTE_NOT_FOUND = "quote_not_found"
    UNKNOWN_SLOT = "unknown_slot"
    NO_CONSENT = "no_consent"
    BAD_VALUE = "bad_value"
    NOT_NEW = "not_new"
    NOTHING_TO_RETRACT = "nothing_to_retract"
    TOO_MANY = "too_many"
    DOUBTFUL = "doubtful"
    """The policy itself was not sure enough of it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation that the gate did not let through."""

    reason: RefusalReason
    fact: Fact


@dataclass(frozen=True, slots=True)
class InferPrompt:
    """The messages for the policy, and what did not fit in them."""

    messages: tuple[Message, ...]
    clauses: tuple[str, ...]
    """The utterance as the compact notation numbers it, from 1."""
    known_shown: int
    known_omitted: int
    """Slot values of the profile that were left out."""
    chars_omitted: int
    """Characters of the utterance that were left out."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What one turn revealed, and everything about how that was found out."""

    outcome: ParseOutcome
    delta: ProfileDelta
    refusals: tuple[Refusal, ...] = ()
    mapped: int = 0
    """Slot names that were near misses and were mapped to a slot of the schema."""
    unread: tuple[str, ...] = ()
    known_omitted: int = 0
    chars_omitted: int = 0
    completions: tuple[Completion, ...] = ()
    """The policy's calls: one, or two after an unreadable output."""
    certainty: float | None = None
    """Probability that the policy gave to there being something, or nothing; None where it gave none."""

    @property
    def refused(self) -> Counter[RefusalReason]:
        """Return how many operations were refused for each reason."""
        return Counter(refusal.reason for refusal in self.refusals)


_STOP_TEXT = """
a an the i me my we our you your he she it they is am are was were be been do does did have has had of in on at to for with and or
but not no so if as by from this that what which who how can could would should will just like user value any other s t m re ve
"""
_STOP = frozenset(_STOP_TEXT.split())
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> frozenset[str]:
    """Return the content words of a text, plural s removed: the key by which relevance is judged."""
    return frozenset(w[:-1] if len(w) > 3 and w.endswith("s") else w for w in _WORD.findall(text.casefold()) if w not in _STOP)


def most_relevant(profile: Profile, text: str, schema: ProfileSchema) -> list[SlotValue]:
    """Order the open slot values by shared words with ``text``, then newest first; slots outside the schema are left out."""
    wanted = words_of(text)

    def relevance(value: SlotValue) -> int:
        slot = schema.slots[value.path]
        return 2 * len(wanted & words_of(value.value)) + len(
            wanted & words_of(f"{slot.short} {slot.description}".replace(".", " "))
        )

    values = [value for value in profile if value.path in schema.slots]
    newest = sorted(values, key=lambda value: (value.observed_at, value.path, value.value), reverse=True)
    return sorted(newest, key=relevance, reverse=True)


def known_line(value: SlotValue, slot: Slot) -> str:
    """Write a slot value as the policy reads it: ``household.size_members: lives alone``."""
    polarity = "" if value.polarity is Polarity.NEUTRAL else f" {value.polarity}"
    return f"{slot.short}{polarity}: {' '.join(value.value.split())}"


def build_prompt(
    utterance: str, profile: Profile, schema: ProfileSchema, notation: Notation = "compact", *, asked: Slot | None = None
) -> InferPrompt:
    """Build the prompt of one turn: the utterance and the filled slots that bear on it; its size does not grow with the profile.

    ``asked`` is the slot that the agent's last reply asked for: "mild" means something only then.
    """
    lines: list[str] = []
    budget = MAX_KNOWN_CHARS
    values = most_relevant(profile, utterance, schema)
    for value in values[:MAX_KNOWN]:
        line = known_line(value, schema.slots[value.path])
        budget -= max(len(line), 3 * tokens_at_most(line))
        if budget < 0:
            break
        lines.append(line)
    shown, omitted = clip(utterance, MAX_UTTERANCE_TOKENS[notation])
    clauses = clauses_of(shown)
    if notation == "compact":
        known = "".join(f"{line}\n" for line in lines)
        said = "\n".join(f"{number} {clause}" for number, clause in enumerate(clauses, 1))
        text = load_prompt("infer_compact").fill(known=known, asked=f"asked: {asked.short}\n" if asked else "", clauses=said)
    else:
        text = load_prompt("infer_general").fill(
            known="\n".join(lines) or "(empty)",
            asked=f"The assistant had just asked about: {asked.short}\n" if asked else "",
            utterance=shown,
            catalogue=catalogue(schema),
        )
    return InferPrompt((Message("user", text.rstrip("\n")),), clauses, len(lines), len(values) - len(lines), omitted)


_RUN = re.compile(r"[A-Za-z]+|\s{2,}|[^A-Za-z ]")
_RARE = ("\u0e80", "\u2000", "\ud800")


def tokens_at_most(text: str) -> int:
    """Estimate a text's tokens without a tokenizer, on the high side: four letters of a word, or any other character."""

    def cost(run: str) -> int:
        if run.isascii():
            is_word = len(run) <= 12 and run[1:] in (run[1:].lower(), run.upper()[1:])
            return 1 + (len(run) - 1) // 4 if is_word else (2 * len(run) + 2) // 3
        return 1 if run < _RARE[0] or _RARE[1] <= run < _RARE[2] else len(run.encode("utf-8", "surrogatepass"))

    return sum(cost(run) for run in _RUN.findall(text))


def clip(utterance: str, budget_tokens: int = MAX_UTTERANCE_TOKENS["compact"]) -> tuple[str, int]:
    """Return the first and last part of a long utterance, and how many characters were left out."""
    size = min(len(utterance), MAX_UTTERANCE_CHARS)
    while True:
        half = size // 2
        shown = utterance if size == len(utterance) else f"{utterance[:half]}\n[…]\n{utterance[-half:]}"
        if (tokens := tokens_at_most(shown)) <= budget_tokens:
            return shown, 0 if size == len(utterance) else len(utterance) - 2 * half
        size = min(size * budget_tokens // tokens, size - 2)


def catalogue(schema: ProfileSchema) -> str:
    """List the schema's slots, a group per line under its category, for a model that does not know them."""
    lines: list[str] = []
    for category in schema.categories:
        lines.append(f"[{category.id}]")
        lines += [f"{group.id}: {' '.join(slot.path.rpartition('.')[2] for slot in group.slots)}" for group in category.groups]
    return "\n".join(lines)


async def infer(
    utterance: str,
    profile: Profile,
    *,
    llm: LLM,
    schema: ProfileSchema,
    at: datetime,
    session_id: str,
    turn_index: int,
    notation: Notation = "compact",
    consent: Collection[str] | None = None,
    asked: Slot | None = None,
) -> Inference:
    """Infer what one utterance newly reveals.

    Args:
        asked: the slot that the agent's last reply asked for.
        consent: categories whose sensitive slots may be kept; None means all.

    Raises:
        LLMError: the policy could not be reached or did not answer in time.
    """
    prompt = build_prompt(utterance, profile, schema, notation, asked=asked)
    is_compact = notation == "compact"
    parsed = ParsedFacts(ParseOutcome.UNREADABLE)
    completions: list[Completion] = []
    for temperature in (0.0, 0.3):
        completion = await llm.complete(
            prompt.messages,
            max_tokens=MAX_TOKENS[notation],
            temperature=temperature,
            logprobs=is_compact,
            logit_bias=caution() if is_compact else None,
        )
        completions.append(completion)
        truncated = completion.finish_reason == "length"
        read = partial(parse_compact, clauses=prompt.clauses) if is_compact else parse_general
        parsed = read(completion.text, truncated=truncated)
        if is_doubtful(parsed, certainty(completion)):
            parsed = ParsedFacts(ParseOutcome.DOUBTFUL)
        if parsed.outcome is not ParseOutcome.UNREADABLE:
            break
    confidences = fact_confidences(completions[-1], prompt.clauses)
    doubtful = tuple(fact for fact in parsed.facts if confidences.get(fact, 1.0) < KEEP_AT_LEAST)
    gate = Gate(utterance, profile, schema, session_id, turn_index, at, consent)
    delta, refusals, mapped = gate.run(fact for fact in parsed.facts if fact not in doubtful)
    refusals += tuple(Refusal(RefusalReason.DOUBTFUL, fact) for fact in doubtful)
    return Inference(
        outcome=parsed.outcome,
        delta=delta,
        refusals=refusals,
        mapped=mapped,
        unread=parsed.unread,
        known_omitted=prompt.known_omitted,
        chars_omitted=prompt.chars_omitted,
        completions=tuple(completions),
        certainty=certainty(completions[-1]),
    )


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets an inferred operation through only when the user's own words in this turn prove it."""

    utterance: str
    profile: Profile
    schema: ProfileSchema
    session_id: str
    turn_index: int
    at: datetime
    consent: Collection[str] | None = None

    def run(self, facts: Iterable[Fact]) -> tuple[ProfileDelta, tuple[Refusal, ...], int]:
        """Return the accepted operations, the refusals, and how many slot names were mapped."""
        profile, mapped = self.profile, 0
        operations: list[SlotOp] = []
        refusals: list[Refusal] = []
        for fact in facts:
            slot = self.schema.find(fact.path)
            if slot is None and (slot := nearest_slot(fact.path, self.schema)):
                mapped += 1
            verdict = self._check(fact, slot, profile) if len(operations) < MAX_FACTS else RefusalReason.TOO_MANY
            if isinstance(verdict, RefusalReason):
                refusals.append(Refusal(verdict, fact))
                continue
            operations.append(verdict)
            profile = profile.apply(ProfileDelta((verdict,)))
        return ProfileDelta(tuple(operations)), tuple(refusals), mapped

    def _check(self, fact: Fact, slot: Slot | None, profile: Profile) -> SlotOp | RefusalReason:
        if slot is None:
            return RefusalReason.UNKNOWN_SLOT
        if not is_quote_of(fact.quote, self.utterance):
            return RefusalReason.QUOTE_NOT_FOUND
        if slot.is_sensitive and self.consent is not None and slot.category not in self.consent:
            return RefusalReason.NO_CONSENT
        value = normalise(fact.value, slot)
        if value is None:
            return RefusalReason.BAD_VALUE
        kind = self._operation(fact, slot, value, profile)
        if isinstance(kind, RefusalReason):
            return kind
        op = SlotOp(
            op=kind,
            path=slot.path,
            value=value,
            at=self.at,
            polarity=fact.polarity,
            source=Source.STATED if value_overlap(fact.value, fact.quote) > 0 else Source.IMPLIED,
            cardinality=slot.cardinality,
            evidence=Evidence(own_words(fact.quote, self.utterance), self.session_id, self.turn_index),
        )
        closes_nothing = kind is OpKind.RETRACT and profile.apply(ProfileDelta((op,))) == profile
        return RefusalReason.NOTHING_TO_RETRACT if closes_nothing else op

    def _operation(self, fact: Fact, slot: Slot, value: str, profile: Profile) -> OpKind | RefusalReason:
        """Settle the operation against the profile: what is already held is not new, what is absent cannot change."""
        open_values = profile.values(slot.path)
        if fact.op is OpKind.RETRACT:
            return OpKind.RETRACT
        for held in open_values:
            same = value_overlap(held.value, value) >= RESTATED
            if same and not held.polarity.contradicts(fact.polarity):
                return RefusalReason.NOT_NEW
        if open_values and slot.cardinality is Cardinality.ONE:
            return OpKind.UPDATE
        return OpKind.UPDATE if fact.op is OpKind.UPDATE and open_values else OpKind.ADD


_QUOTE_MARKS = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


def is_quote_of(quote: str, utterance: str) -> bool:
    """Tell whether the quote's words stand in the utterance, whatever the case and the white space."""

    wanted = _plain(quote).casefold()
    return bool(re.search(r"\w", wanted)) and wanted in _plain(utterance).casefold()


def own_words(quote: str, utterance: str) -> str:
    """Return a quote as the user wrote it, white space apart."""
    marks = {"'": "['’‘]", '"': '["“”]'}
    words = ("".join(marks.get(char, re.escape(char)) for char in word) for word in _plain(quote).split())
    found = re.search(r"\s+".join(words), utterance, re.IGNORECASE)
    return " ".join((found[0] if found else quote).split())


def _plain(text: str) -> str:
    """Straighten quotation marks and white space; the embedded model reads ``<|`` as ``< |``, so it quotes it that way."""
    return " ".join(text.translate(_QUOTE_MARKS).replace("< |", "<|").split())


def nearest_slot(name: str, schema: ProfileSchema) -> Slot | None:
    """Map a slip of spelling, or a leaf that one slot has alone or under its category, to that slot; ``pets.count`` is not ``children.count``."""
    *above, leaf = name.casefold().split(".")
    same_leaf = [slot for slot in schema if slot.path.rpartition(".")[2] == leaf]
    if len(same_leaf) == 1 and (not above or above[-1] in same_leaf[0].path.split(".")[:-1]):
        return same_leaf[0]
    name = ".".join((*above, leaf)[-2:])
    near = get_close_matches(name, list(schema.by_short), n=1, cutoff=0.85)
    return schema.by_short[near[0]] if near else None


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What no database keeps: NUL, and halves of surrogate pairs."""
_NULLS = frozenset({"", "none", "null", "n/a", "na", "unknown", "not stated", "-"})


def normalise(value: str, slot: Slot) -> str | None:
    """Return the value in the form of its slot's type; None when it is not one (unknown is never stored as a value)."""
    value = " ".join(value.split())
    if value.casefold() in _NULLS or len(value) > 200 or _UNSTORABLE.search(value):
        return None
    if slot.type is SlotType.ENUM:
        label = re.sub(r"[\s-]+", "_", value.casefold())
        exact = next((known for known in slot.values if known.casefold().replace("-", "_") == label), None)
        return exact or next(iter(get_close_matches(value.casefold(), slot.values, n=1, cutoff=0.7)), None)
    if slot.type is SlotType.INT:
        digits = re.search(r"\d+", value)
        return digits[0] if digits else None
    return value
