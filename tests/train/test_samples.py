"""Training examples: what they hold, and what they must never hold."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import pytest

from personalagent.clauses import clauses_of
from personalagent.datasets.base import LabelledTurn, PersonaSlot
from personalagent.datasets.corpus import Corpus
from personalagent.inference import Gate
from personalagent.parsing import Fact, ParseOutcome, parse_compact, parse_needs
from personalagent.profile import OpKind, Polarity, Profile
from personalagent.schema import ProfileSchema
from personalagent.sufficiency import build_needs_prompt
from personalagent.train.samples import (
    BankComposer,
    Mixture,
    PolicyExample,
    clause_with,
    compose,
    final_profile,
    infer_example,
    needs_example,
    profile_of,
    walk,
)
from tests.conftest import AT

MIXTURE = Mixture(
    dialogue_epochs=1,
    turn_epochs=1,
    bank_turns=1_500,
    bank_answers=100,
    request_epochs=1,
    bank_requests=400,
    needless_requests=50,
)
CITY = "geography_environment.location.city"


@pytest.fixture(scope="module")
def examples(corpus: Corpus, schema: ProfileSchema) -> Sequence[PolicyExample]:
    """A run's examples."""
    return compose(corpus, schema, seed=7, mixture=MIXTURE)


def test_the_same_seed_gives_the_same_examples_and_another_seed_others(corpus: Corpus, schema: ProfileSchema) -> None:
    small = Mixture(
        dialogue_epochs=0, turn_epochs=0, bank_turns=50, bank_answers=10, request_epochs=0, bank_requests=20, needless_requests=5
    )
    first, again, other = (compose(corpus, schema, seed=seed, mixture=small) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert Counter((e.task, e.origin) for e in first) == {("infer", "bank"): 60, ("needs", "bank"): 20, ("needs", "dialogue"): 5}


def said_in(example: PolicyExample) -> str:
    """Return the request of an example, or its utterance with the clauses joined."""
    if example.task == "needs":
        return example.prompt.partition("request: ")[2]
    return re.sub(r"^\d+ ", "", example.prompt.partition("said:\n")[2], flags=re.MULTILINE).replace("\n", " ")


def joined(text: str) -> str:
    """Return an utterance as its clauses stand in a prompt."""
    return " ".join(clauses_of(text))


def test_nothing_a_held_out_persona_said_is_trained_on(corpus: Corpus, examples: Sequence[PolicyExample]) -> None:
    held_out = {
        joined(turn.utterance)
        for split in ("dev", "test")
        for d in corpus.dialogues_of(split)
        for session in d.sessions
        for turn in session
    }
    held_out |= {request.request for split in ("dev", "test") for d in corpus.dialogues_of(split) for request in d.requests}
    held_out |= {joined(single.turn.utterance) for split in ("dev", "test") for single in corpus.turns_of(split)}
    trained = {said_in(example) for example in examples if example.origin != "bank"}
    small_talk = {
        joined(turn.utterance) for d in corpus.dialogues_of("train") for s in d.sessions for turn in s if not turn.facts
    }
    assert (trained & held_out) - small_talk == set()
    assert len(trained) > 1_000


def test_no_held_out_pattern_is_trained_on(corpus: Corpus, examples: Sequence[PolicyExample]) -> None:
    """A pattern counts as used when its longest fixed part stands in a composed utterance of its own slot's wording."""
    composed = "\n".join(said_in(example) for example in examples if example.origin == "bank")

    def fixed_part(pattern: str) -> str:
        return joined(max(re.split(r"\{v\}|\{old\}", pattern), key=len))

    kinds = ("explicit", "implied", "negative", "update", "retract", "third_party", "hypothetical", "requests")
    trained = {fixed_part(pattern) for record in corpus.bank for kind in kinds for pattern in record.trained(kind)}
    unseen = {fixed_part(pattern) for record in corpus.bank for kind in kinds for pattern in record.unseen(kind)}
    telling = [part for part in sorted(unseen) if len(part) > 25 and not any(part in other for other in trained)]
    assert len(telling) > 1_000
    assert [part for part in telling if part in composed] == []


def test_every_completion_is_read_back_by_the_parser(examples: Sequence[PolicyExample], schema: ProfileSchema) -> None:
    outcomes: Counter[tuple[str, ParseOutcome]] = Counter()
    for example in examples:
        said = example.prompt.partition("said:\n")[2].splitlines()
        parsed = parse_compact(example.completion, said) if example.task == "infer" else parse_needs(example.completion)
        outcomes[example.task, parsed.outcome] += 1
    assert set(outcomes) == {(task, outcome) for task in ("infer", "needs") for outcome in (ParseOutcome.OK, ParseOutcome.EMPTY)}


def test_gold_passes_the_gate(examples: Sequence[PolicyExample], corpus: Corpus, schema: ProfileSchema) -> None:
    """What the policy is taught must be accepted when it is served; a few facts repeat what is held, or are odd labels."""
    total, refused = 0, Counter[str]()
    for dialogue in corpus.dialogues_of("train"):
        for turn, profile in walk(dialogue, schema):
            _, refusals, _ = Gate(turn.utterance, profile, schema, "s", 0, AT).run(turn.facts)
            total += len(turn.facts)
            refused.update(refusal.reason for refusal in refusals)
    assert refused.total() / total <= 0.01, refused


def test_an_example_holds_the_profile_so_far_the_words_and_the_facts_in_their_order(schema: ProfileSchema) -> None:
    turn = LabelledTurn(
        "No coriander for me, and I've moved to Porto",
        (
            Fact(CITY, "Porto", "I've moved to Porto", OpKind.UPDATE),
            Fact("consumption_lifestyle.diet.restrictions", "coriander", "No coriander", polarity=Polarity.AVOID),
        ),
    )
    before = profile_of([PersonaSlot(CITY, "Lyon", "neutral")], schema)
    assert infer_example(turn, before, schema, "turn") == PolicyExample(
        "infer",
        "turn",
        "infer\nlocation.city: Lyon\nsaid:\n1 No coriander for me,\n2 and I've moved to Porto",
        "new\n1 diet.restrictions avoid: coriander\n2 location.city update: Porto",
    )


def test_a_turn_that_reveals_nothing_teaches_none(schema: ProfileSchema) -> None:
    assert infer_example(LabelledTurn("Thanks!", ()), Profile(), schema, "turn").completion == "none"


def test_needs_are_taught_by_name_and_none_where_nothing_is_needed(schema: ProfileSchema) -> None:
    known = profile_of([PersonaSlot(CITY, "Porto", "neutral")], schema)
    example = needs_example("Where to eat?", [CITY, "no.such.slot"], known, schema, "dialogue")
    prompt = build_needs_prompt("Where to eat?", known, schema).content
    assert (example.prompt, example.completion) == (prompt, "location.city")
    assert needs_example("Thanks!", [], Profile(), schema, "dialogue").completion == "none"


def test_missing_slots_come_first_in_the_needs(corpus: Corpus, examples: Sequence[PolicyExample], schema: ProfileSchema) -> None:
    taught = {(said_in(e), e.completion) for e in examples if e.task == "needs"}
    requests = [request for d in corpus.dialogues_of("train") for request in d.requests if request.missing and request.known]
    assert requests
    for request in requests:
        known = [path for path in request.needs if path in request.known]
        assert (request.request, "\n".join(schema.slots[path].short for path in (*request.missing, *known))) in taught


def test_a_walk_shows_each_turn_the_profile_before_it(corpus: Corpus, schema: ProfileSchema) -> None:
    dialogue = corpus.dialogues_of("train")[0]
    profiles = [profile for _, profile in walk(dialogue, schema)]
    assert len(profiles[0]) == 0
    assert len(final_profile(dialogue, schema)) > 0
    assert len(profiles) == sum(map(len, dialogue.sessions))


@pytest.mark.parametrize("held_out", [False, True])
def test_third_party_and_hypothetical_turns_reveal_nothing(corpus: Corpus, schema: ProfileSchema, held_out: bool) -> None:
    composer = BankComposer(corpus.bank, schema, random.Random(0), held_out=held_out)
    for kind in ("third_party", "hypothetical"):
        record = next(r for r in corpus.bank if (r.unseen(kind) if held_out else r.trained(kind)))
        turn, _ = composer.turn(kind, record)
        assert turn.facts == ()


def test_a_composed_change_has_something_to_change_and_a_quote_in_the_text(corpus: Corpus, schema: ProfileSchema) -> None:
    composer = BankComposer(corpus.bank, schema, random.Random(0))
    for record in corpus.bank[:60]:
        turn, profile = composer.turn("update", record)
        (fact,) = turn.facts
        assert (fact.op, fact.path) == (OpKind.UPDATE, record.slot)
        assert profile.values(record.slot)
        assert " ".join(fact.quote.split()) in " ".join(turn.utterance.split())


@pytest.mark.parametrize(
    ("text", "value", "clause"),
    [
        ("Hi! I live in Porto, near the river.", "Porto", "I live in Porto"),
        ("Hi! I live near the river.", "the river bank", "I live near the river"),
        ("one two three four five six seven eight nine ten eleven twelve thirteen Porto fifteen", "Porto", "Porto"),
    ],
)
def test_the_quote_of_a_composed_fact_is_the_clause_that_holds_its_value(text: str, value: str, clause: str) -> None:
    assert clause_with(text, value) == clause
