"""Training examples of the policy's two tasks, built by serving's own prompts (we train what we serve).

``infer`` examples come from gold dialogues (the gold profile of the previous turn in the prompt: teacher forcing), from
single labelled turns, and from the phrase bank, whose last pattern of each kind (or, of kinds with one, those listed in
``bank/held_out.json``) is never trained on. ``needs`` examples come
from the dialogues' requests and the bank's. Everything is drawn by one seeded generator: same corpus, same seed, same examples.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from personalagent.clauses import clause_of
from personalagent.datasets.base import LabelledDialogue, LabelledRequest, LabelledTurn, PersonaSlot
from personalagent.datasets.corpus import BareRequest, Corpus, PhraseRecord, SingleRequest
from personalagent.dialogue import Message
from personalagent.inference import build_prompt
from personalagent.parsing import NOTHING, SOMETHING, Fact, format_fact
from personalagent.profile import Cardinality, OpKind, Polarity, Profile, ProfileDelta, SlotOp, SlotValue, value_overlap
from personalagent.schema import ProfileSchema, Slot, SlotType
from personalagent.shortlist import LabelledNeed
from personalagent.sufficiency import build_needs_prompt

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Time of a corpus turn 0; turns are a minute apart. Only the order matters."""


ASKED_SHARE = 0.1
"""Share of natural turns that are read as if the agent had just asked for something."""
DROPPED_SHARE, STRANGE_SHARE = 0.25, 0.35
"""Shares of natural turns whose profile so far is left out, or mixed with other people's."""


@dataclass(frozen=True, slots=True)
class PolicyExample:
    """What the policy reads and what it should write."""

    task: str
    """infer or needs."""
    origin: str
    """dialogue, turn, request or bank."""
    prompt: str
    completion: str

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the prompt as the policy is sent it."""
        return (Message("user", self.prompt),)


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often each part of the corpus is seen in one run."""

    dialogue_epochs: int
    turn_epochs: int
    bank_turns: int
    bank_answers: int
    """Short replies to a question for a slot."""
    request_epochs: int
    bank_requests: int
    needless_requests: int
    """Questions of the corpus that reveal nothing and need no preference."""


STAGES = {
    "breadth": Mixture(
        dialogue_epochs=1,
        turn_epochs=1,
        bank_turns=2_000,
        bank_answers=400,
        request_epochs=1,
        bank_requests=800,
        needless_requests=200,
    ),
    "gold": Mixture(
        dialogue_epochs=1,
        turn_epochs=2,
        bank_turns=700,
        bank_answers=300,
        request_epochs=1,
        bank_requests=150,
        needless_requests=100,
    ),
}
"""The two stages of a run: every slot from the bank first, then mostly what people said."""


def gold_delta(turn: LabelledTurn, profile: Profile, schema: ProfileSchema, at: datetime) -> ProfileDelta:
    """Return the gold operations of a turn as the log would hold them."""
    operations = []
    for fact in turn.facts:
        slot = schema.slots.get(fact.path)
        if slot is not None:
            operations.append(SlotOp(fact.op, slot.path, fact.value, at, fact.polarity, cardinality=slot.cardinality))
    return ProfileDelta(tuple(operations))


def walk(dialogue: LabelledDialogue, schema: ProfileSchema) -> Iterator[tuple[LabelledTurn, Profile]]:
    """Yield each turn with the gold profile before it; sessions follow one another."""
    profile = Profile()
    for index, turn in enumerate(turn for session in dialogue.sessions for turn in session):
        yield turn, profile
        profile = profile.apply(gold_delta(turn, profile, schema, START + timedelta(minutes=index)))


def final_profile(dialogue: LabelledDialogue, schema: ProfileSchema) -> Profile:
    """Return the gold profile after the last turn."""
    profile = Profile()
    for index, turn in enumerate(turn for session in dialogue.sessions for turn in session):
        profile = profile.apply(gold_delta(turn, profile, schema, START + timedelta(minutes=index)))
    return profile


def profile_of(slots: Iterable[PersonaSlot], schema: ProfileSchema) -> Profile:
    """Return a profile that holds the given slot values."""
    known = [slot for slot in slots if slot.path in schema.slots]
    return Profile().apply(
        ProfileDelta(
            tuple(
                SlotOp(OpKind.ADD, s.path, s.value, START, Polarity(s.polarity), cardinality=schema.slots[s.path].cardinality)
                for s in known
            )
        )
    )


def infer_example(
    turn: LabelledTurn, profile: Profile, schema: ProfileSchema, origin: str, asked: Slot | None = None
) -> PolicyExample:
    """Return the example of one turn: facts in the order of their clauses, as ``group.slot``."""
    prompt = build_prompt(turn.utterance, profile, schema, asked=asked)
    placed = [(clause_of(fact.quote, prompt.clauses), fact) for fact in turn.facts if fact.path in schema.slots]
    facts = sorted(((number, fact) for number, fact in placed if number), key=lambda each: each[0])
    lines = [format_fact(replace(fact, path=schema.slots[fact.path].short), prompt.clauses) for _, fact in facts]
    return PolicyExample("infer", origin, prompt.messages[0].content, "\n".join([SOMETHING, *lines]) if lines else NOTHING)


def needs_example(
    request: str, needs: Sequence[str], profile: Profile, schema: ProfileSchema, origin: str, unit: str = ""
) -> PolicyExample:
    """Return the example of one request: the slots it needs, most important first; its ``unit`` suggests none of them."""
    prompt = build_needs_prompt(request, profile, schema, without=unit).content
    lines = [schema.slots[path].short for path in needs if path in schema.slots]
    return PolicyExample("needs", origin, prompt, "\n".join(lines) or NOTHING)


def compose(corpus: Corpus, schema: ProfileSchema, *, seed: int, mixture: Mixture) -> list[PolicyExample]:
    """Compose the training examples of a run from the corpus's train split, shuffled."""
    mix, rng = mixture, random.Random(seed)  # noqa: S311 - sampling data, not secrets
    dialogues, turns = corpus.dialogues_of("train"), corpus.turns_of("train")
    composer = BankComposer(corpus.bank, schema, rng)
    said = [(turn, profile, "dialogue") for d in dialogues for turn, profile in walk(d, schema)] * mix.dialogue_epochs
    said += [(single.turn, profile_of(single.profile, schema), "turn") for single in turns] * mix.turn_epochs
    pool = [value for d in dialogues for value in final_profile(d, schema)]
    examples = [
        infer_example(turn, _perturbed(turn, before, pool, rng), schema, origin, _asked(turn, schema, rng))
        for turn, before, origin in said
    ]
    if corpus.bank:
        examples += [infer_example(*composer.turn(), schema, "bank") for _ in range(mix.bank_turns)]
        examples += [composer.answer() for _ in range(mix.bank_answers)]
    examples += [e for d in dialogues for e in _request_examples(d, schema)] * mix.request_epochs
    examples += [_twin_example(each, schema) for each in corpus.requests_of("train")] * mix.request_epochs
    examples += [composer.need(each) for each in corpus.needs * mix.request_epochs]
    if corpus.bank:
        examples += [composer.request() for _ in range(mix.bank_requests)]
    examples += _needless(dialogues, schema, rng, mix.needless_requests)
    rng.shuffle(examples)
    return examples


def _perturbed(turn: LabelledTurn, before: Profile, pool: Sequence[SlotValue], rng: random.Random) -> Profile:
    """Leave the profile so far out now and then, or put things into it that have nothing to do with the turn.

    In serving the profile is the policy's own, wrong facts included; a policy that only ever saw gold profiles repeats their slots.
    What the turn changes stays, and so does everything where it reveals nothing: that may be because it is known.
    """
    draw, said = rng.random(), {fact.path for fact in turn.facts}
    values = list(before)
    if turn.facts and draw < DROPPED_SHARE:
        changed = {fact.path for fact in turn.facts if fact.op is not OpKind.ADD}
        values = [value for value in values if value.path in changed]
    elif draw > 1 - STRANGE_SHARE:
        strange = rng.sample(pool, min(rng.randint(1, 6), len(pool)))
        values += [value for value in strange if value.path not in said and not before.values(value.path)]
    return Profile().apply(
        ProfileDelta(
            tuple(SlotOp(OpKind.ADD, v.path, v.value, v.observed_at, v.polarity, cardinality=Cardinality.MANY) for v in values)
        )
    )


def _asked(turn: LabelledTurn, schema: ProfileSchema, rng: random.Random) -> Slot | None:
    """Pretend now and then that the agent had just asked: half of the time for something that the turn does not say."""
    if rng.random() >= ASKED_SHARE:
        return None
    said = [schema.slots[fact.path] for fact in turn.facts if fact.path in schema.slots]
    return rng.choice(said if said and rng.random() < 0.5 else list(schema))


def _request_examples(dialogue: LabelledDialogue, schema: ProfileSchema) -> list[PolicyExample]:
    profile = final_profile(dialogue, schema)
    return [
        needs_example(r.request, order_needs(r), profile, schema, "dialogue", dialogue.dialogue_id) for r in dialogue.requests
    ]


def _twin_example(each: SingleRequest, schema: ProfileSchema) -> PolicyExample:
    needs = (*each.missing, *(path for path in each.needs if path not in each.missing))
    return needs_example(each.request, needs, profile_of(each.profile, schema), schema, "request", each.pair)


def order_needs(request: LabelledRequest) -> tuple[str, ...]:
    """Return the needed slots with the missing ones first: they decide what to ask."""
    return (*request.missing, *(path for path in request.needs if path not in request.missing))


def _needless(
    dialogues: Sequence[LabelledDialogue], schema: ProfileSchema, rng: random.Random, count: int
) -> list[PolicyExample]:
    pairs = [(turn.utterance, profile) for d in dialogues for turn, profile in walk(d, schema) if not turn.facts]
    return [needs_example(text, (), profile, schema, "dialogue") for text, profile in rng.sample(pairs, min(count, len(pairs)))]


BANK_WEIGHT = 0.7
"""What a pattern of the phrase bank counts among the labelled requests."""


def labelled_needs(corpus: Corpus, schema: ProfileSchema) -> list[LabelledNeed]:
    """Return every request that training may see, with the slots that it needs: what the shortlist is made of."""
    found = [
        LabelledNeed(request.request, order_needs(request), unit=dialogue.dialogue_id)
        for dialogue in corpus.dialogues_of("train")
        for request in dialogue.requests
    ]
    found += [
        LabelledNeed(each.request, (*each.missing, *(path for path in each.needs if path not in each.missing)), unit=each.pair)
        for each in corpus.requests_of("train")
    ]
    found += [LabelledNeed(each.request, each.needs, unit=each.request_id) for each in corpus.needs]
    found += [
        LabelledNeed(pattern, (record.slot,), BANK_WEIGHT, f"bank:{record.slot}")
        for record in corpus.bank
        for pattern in record.trained("requests")
    ]
    return [replace(each, needs=tuple(path for path in each.needs if path in schema.slots)) for each in found]


_CLAUSE = re.compile(r"[^.!?;,\n]+")
_SLOT_POLARITY = {
    "general.strong_dislikes": Polarity.DISLIKE,
    "communication.topics_to_avoid": Polarity.AVOID,
    "finance.ethical_constraints": Polarity.AVOID,
    "environment.sensitivities": Polarity.AVOID,
    "learning.provider_constraints": Polarity.REQUIRE,
    "work.benefits_required": Polarity.REQUIRE,
    "tech.purchase_constraints": Polarity.REQUIRE,
    "pets.constraints": Polarity.REQUIRE,
    "diet.restrictions": Polarity.AVOID,
    "beauty.product_constraints": Polarity.REQUIRE,
    "fashion.material_constraints": Polarity.REQUIRE,
    "home.furnishing_constraints": Polarity.REQUIRE,
}
"""Polarity that the slot itself gives (the bank's NOTES.md)."""
_KIND_WEIGHTS = {"explicit": 26, "implied": 28, "negative": 8, "update": 8, "retract": 5, "third_party": 15, "hypothetical": 10}


class BankComposer:
    """Draws turns and requests from the phrase bank: from the patterns for training, or from those held out."""

    def __init__(
        self, bank: Sequence[PhraseRecord], schema: ProfileSchema, rng: random.Random, *, held_out: bool = False
    ) -> None:
        self.bank = [record for record in bank if record.slot in schema.slots]
        self.schema = schema
        self.rng = rng
        self._patterns = PhraseRecord.unseen if held_out else PhraseRecord.trained

    def turn(self, kind: str | None = None, record: PhraseRecord | None = None) -> tuple[LabelledTurn, Profile]:
        """Compose a turn: one pattern, or two in three cases of ten, and a profile of other slots before it."""
        count = 1 if kind or self.rng.random() < 0.7 else 2
        records = [record] if record else self.rng.sample(self.bank, count)
        parts = [self._part(chosen, kind) for chosen in records]
        others = [self._persona_slot(chosen) for chosen in self.rng.sample(self.bank, self.rng.choice((0, 0, 1, 2, 4)))]
        before = [slot for _, _, slot in parts if slot is not None]
        taken = {chosen.slot for chosen in records}
        profile = profile_of([*(slot for slot in others if slot.path not in taken), *before], self.schema)
        facts = tuple(fact for _, fact, _ in parts if fact is not None)
        return LabelledTurn(" ".join(text for text, _, _ in parts), facts), profile

    def answer(self) -> PolicyExample:
        """Compose a short reply to the question for a slot: a pattern of the bank, or the bare value."""
        record = self.rng.choice([record for record in self.bank if self._patterns(record, "answers")])
        value = self.rng.choice(record.values)
        pattern = "{v}" if self.rng.random() < 0.5 else self.rng.choice(self._patterns(record, "answers"))
        text = pattern.replace("{v}", value)
        polarity, label = self._polarity(record, "explicit", value)
        others = [r for r in self.rng.sample(self.bank, self.rng.randint(0, 4)) if r.slot != record.slot]
        turn = LabelledTurn(text, (Fact(record.slot, record.labels.get(value, label), value, polarity=polarity),))
        profile = profile_of(map(self._persona_slot, others), self.schema)
        return infer_example(turn, profile, self.schema, "bank", self.schema.slots[record.slot])

    def request(self) -> PolicyExample:
        """Compose a request that needs the record's slot, which the profile knows in half of the cases."""
        record = self.rng.choice([record for record in self.bank if self._patterns(record, "requests")])
        others = [r for r in self.rng.sample(self.bank, self.rng.randint(0, 10)) if r.slot != record.slot]
        known = [*others, record] if self.rng.random() < 0.5 else others
        profile = profile_of(map(self._persona_slot, known), self.schema)
        request = self.rng.choice(self._patterns(record, "requests"))
        return needs_example(request, [record.slot], profile, self.schema, "bank", f"bank:{record.slot}")

    def need(self, each: BareRequest) -> PolicyExample:
        """Put a request before a profile of other slots, in which each slot that it needs is known or not by the toss of a coin."""
        known = {path for path in each.needs if self.rng.random() < 0.5}
        others = [r for r in self.rng.sample(self.bank, self.rng.randint(0, 12)) if r.slot not in each.needs]
        records = [*others, *(record for record in self.bank if record.slot in known)]
        needs = [*(path for path in each.needs if path not in known), *(path for path in each.needs if path in known)]
        return needs_example(
            each.request,
            needs,
            profile_of(map(self._persona_slot, records), self.schema),
            self.schema,
            "request",
            each.request_id,
        )

    def _persona_slot(self, record: PhraseRecord, value: str | None = None) -> PersonaSlot:
        phrase = value or self.rng.choice(record.values)
        polarity, label = self._polarity(record, "explicit", phrase)
        return PersonaSlot(record.slot, record.labels.get(phrase, label), polarity)

    def _part(self, record: PhraseRecord, kind: str | None) -> tuple[str, Fact | None, PersonaSlot | None]:
        """Return a text, the fact it reveals, and the slot value that must stand in the profile before it."""
        kinds = {k: weight for k, weight in _KIND_WEIGHTS.items() if self._patterns(record, k)}
        kind = kind or self.rng.choices(list(kinds), list(kinds.values()))[0]
        value = self.rng.choice(record.values)
        old = self.rng.choice([other for other in record.values if other != value])
        text = self.rng.choice(self._patterns(record, kind)).replace("{v}", value).replace("{old}", old)
        if kind in ("third_party", "hypothetical"):
            return text, None, None
        polarity, label = self._polarity(record, kind, value)
        op = {"update": OpKind.UPDATE, "retract": OpKind.RETRACT}.get(kind, OpKind.ADD)
        fact = Fact(record.slot, record.labels.get(value, label), clause_with(text, value), op, polarity)
        before = {"update": old, "retract": value}.get(kind)
        return text, fact, None if before is None else self._persona_slot(record, before)

    def _polarity(self, record: PhraseRecord, kind: str, value: str) -> tuple[Polarity, str]:
        slot = self.schema.slots[record.slot]
        if kind == "negative":
            return (Polarity.DISLIKE if slot.type is SlotType.PREF else Polarity.AVOID), value
        if re.match(r"(?i)no ", value):
            return Polarity.AVOID, value[3:]
        if slot.short in _SLOT_POLARITY:
            return _SLOT_POLARITY[slot.short], value
        return (Polarity.LIKE if slot.type is SlotType.PREF else Polarity.NEUTRAL), value


def clause_with(text: str, value: str) -> str:
    """Return the clause of a text that holds the value, or the one that shares most with it; at most 14 words."""
    start = text.casefold().find(value.casefold())
    clauses = [(m.start(), m[0].strip()) for m in _CLAUSE.finditer(text) if m[0].strip()]
    holding = [clause for at, clause in clauses if at <= start < at + len(clause) + 2 and value.casefold() in clause.casefold()]
    clause = holding[0] if holding else max((clause for _, clause in clauses), key=lambda c: value_overlap(c, value))
    words = clause.split()
    if len(words) <= 14:
        return clause
    return value if value.casefold() in clause.casefold() else " ".join(words[:14])
