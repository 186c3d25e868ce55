"""The cold-start set: what the corpus gives, and what a model writes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from personalagent.datasets.corpus import Corpus
from personalagent.datasets.unseen import UnseenCase, aloe_candidates, candidates, release, write_twins
from personalagent.errors import DataError
from personalagent.llm.scripted import ScriptedLLM
from personalagent.schema import ProfileSchema
from tests.conftest import ROOT

TEXTS = {"explanation": "e", "question": "q?", "reference": "r", "violating": "v"}
TWINS = {"skip": "", "slots": ["diet.foods"], "first": {"request": "Dinner?", **TEXTS}, "second": {"request": "Lunch?", **TEXTS}}


@pytest.fixture(scope="module")
def released(corpus: Corpus, schema: ProfileSchema) -> list[UnseenCase]:
    return release(corpus, schema)


def test_what_is_released_is_what_the_corpus_gives(released: list[UnseenCase]) -> None:
    shipped = [
        json.loads(line)
        for split in ("train", "dev", "test")
        for line in (ROOT / "data" / "unseen" / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]
    expected = [
        json.loads(json.dumps(asdict(case))) for split in ("train", "dev", "test") for case in released if case.split == split
    ]
    assert shipped == expected


def test_every_case_is_consistent_and_there_are_more_than_a_thousand(released: list[UnseenCase], schema: ProfileSchema) -> None:
    assert len(released) > 1_000
    for case in released:
        known = {entry["slot"] for entry in case.profile}
        assert case.sufficient == (not case.missing), case.id
        assert not known & set(case.missing), case.id
        assert set(case.needs) - set(case.missing) <= known, case.id
        assert bool(case.question) == bool(case.missing), case.id
        assert {*case.needs, *known} <= set(schema.slots), case.id
    assert len({case.id for case in released}) == len(released)


def test_both_halves_are_there_and_no_persona_or_pair_is_in_two_splits(released: list[UnseenCase]) -> None:
    halves = Counter(case.sufficient for case in released)
    assert min(halves.values()) / len(released) > 0.4
    for key in ("persona", "pair"):
        splits: dict[str, set[str]] = {}
        for case in released:
            splits.setdefault(getattr(case, key), set()).add(case.split)
        assert [name for name, found in splits.items() if len(found) > 1] == []


def test_candidates_are_what_the_persona_has_and_the_dialogue_never_revealed(corpus: Corpus, schema: ProfileSchema) -> None:
    found = candidates(corpus, schema, per_persona=2)
    by_persona = Counter(each.persona for each in found)
    assert len(found) > 100
    assert max(by_persona.values()) <= 2
    personas = {dialogue.dialogue_id: {slot.path for slot in dialogue.persona} for dialogue in corpus.dialogues}
    for each in found:
        assert each.slot in personas[each.persona]
        assert each.slot not in {slot.path for slot in each.known}


async def test_a_model_writes_both_twins_and_their_provenance(corpus: Corpus, schema: ProfileSchema) -> None:
    candidate = candidates(corpus, schema, per_persona=1)[0]
    llm = ScriptedLLM([f"Here you are:\n{json.dumps(TWINS)}"])
    lacking, having = await write_twins(candidate, llm=llm, schema=schema, seed=3)
    assert (lacking.missing, lacking.sufficient, lacking.question) == ((candidate.slot,), False, "q?")
    assert (having.missing, having.sufficient, having.question) == ((), True, None)
    assert having.profile[:-1] == lacking.profile
    assert having.profile[-1]["slot"] == candidate.slot
    assert lacking.pair == having.pair == candidate.case_id
    assert (lacking.provenance["source"], lacking.provenance["seed"]) == (candidate.case_id, "3")
    assert candidate.unknown in llm.calls[0].messages[0].content


async def test_a_model_may_find_that_no_request_depends_on_it(corpus: Corpus, schema: ProfileSchema) -> None:
    candidate = candidates(corpus, schema, per_persona=1)[0]
    assert await write_twins(candidate, llm=ScriptedLLM(['{"skip": "too odd"}']), schema=schema, seed=0) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Sure!", "expected one JSON object, got none"),
        ('{"first": ', "does not parse"),
        ('{"first": {]}', "does not parse"),
        (
            json.dumps({**TWINS, "second": {"request": "Lunch?"}}),
            "expected explanation, question, reference, violating in 'second'",
        ),
        (json.dumps({**TWINS, "second": TWINS["first"]}), "expected two different requests"),
    ],
)
async def test_what_cannot_be_used_is_an_error_not_a_case(corpus: Corpus, schema: ProfileSchema, text: str, message: str) -> None:
    candidate = candidates(corpus, schema, per_persona=1)[0]
    with pytest.raises(DataError, match=message):
        await write_twins(candidate, llm=ScriptedLLM([text]), schema=schema, seed=0)


def aloe_file(tmp_path: Path, **changes: object) -> Path:
    """Write a file in ALOE's form; text of our own."""
    turns = [
        {"user": "hi", "inferred_profile": "None"},
        {"user": "yo", "inferred_profile": "The user bakes.\nThe user is 30."},
        {"user": "ok", "inferred_profile": "None"},
    ]
    record = {"profile": "She bakes. She fears geese.", "personality": "dry", "conversations": turns, **changes}
    file = tmp_path / "conversations.jsonl"
    file.write_text("\n".join([json.dumps(record)] * 2), "utf-8")
    return file


def test_aloe_gives_its_persona_sentences_with_what_was_inferred_split_by_profile(tmp_path: Path) -> None:
    found = aloe_candidates(aloe_file(tmp_path), per_persona=5)
    assert [each.unknown for each in found] == ["She bakes.", "She fears geese."] * 2
    assert {each.known_lines for each in found} == {("The user bakes.", "The user is 30.")}
    assert len({(each.persona, each.split) for each in found}) == 1
    assert len({each.case_id for each in found}) == 4


async def test_for_aloe_the_model_names_the_slot_from_the_catalogue(tmp_path: Path, schema: ProfileSchema) -> None:
    candidate = aloe_candidates(aloe_file(tmp_path), per_persona=1)[0]
    llm = ScriptedLLM([json.dumps(TWINS), json.dumps({**TWINS, "slots": ["starships.favourite"]})])
    lacking, _ = await write_twins(candidate, llm=llm, schema=schema, seed=0)
    assert lacking.needs == ("consumption_lifestyle.diet.foods",)
    assert "diet: " in llm.calls[0].messages[0].content
    with pytest.raises(DataError, match="expected a slot of the schema, got 'starships"):
        await write_twins(candidate, llm=llm, schema=schema, seed=0)


def test_a_record_without_aloes_fields_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "profile.jsonl"
    file.write_text('{"sessions": []}', "utf-8")
    with pytest.raises(DataError, match=r"profile.jsonl:1: expected ALOE's fields profile and conversations, got sessions"):
        aloe_candidates(file, per_persona=1)
