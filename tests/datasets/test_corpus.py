"""Our corpus: reading it, its split, and what of the phrase bank training never sees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from personalagent.datasets.base import LabelledRequest, LabelledTurn, PersonaSlot, read_jsonl
from personalagent.datasets.corpus import Corpus, PhraseRecord, load_corpus, read_dialogues, read_turns
from personalagent.errors import DataError
from personalagent.inference import is_quote_of
from personalagent.parsing import Fact
from personalagent.profile import OpKind, Polarity, Source
from personalagent.schema import ProfileSchema
from tests.conftest import ROOT

CITY = "geography_environment.location.city"
TURN = {
    "user": "I've moved to Porto. No coriander!",
    "inferred": [
        {"slot": CITY, "value": "Porto", "quote": "moved to Porto", "op": "update"},
        {
            "slot": "consumption_lifestyle.diet.restrictions",
            "value": "coriander",
            "quote": "No coriander",
            "polarity": "avoid",
            "kind": "implied",
        },
    ],
    "assistant": {"preferred": "Noted.", "rejected": "Try coriander."},
}
DIALOGUE = {
    "id": "x-01",
    "persona": {"slots": [{"slot": CITY, "value": "Porto"}]},
    "sessions": [{"turns": [TURN]}, {"turns": [{"user": "Thanks!", "inferred": []}]}],
    "requests": [
        {
            "request": "Where to eat?",
            "needs": [CITY],
            "known": [CITY],
            "missing": [],
            "explanation": "It depends on the place.",
            "reference": "In Porto, …",
            "violating": "In Lyon, …",
        }
    ],
}


def write(path: Path, *records: Any) -> Path:
    """Write JSON Lines."""
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n", "utf-8")
    return path


def test_a_dialogue_is_read_with_its_facts_in_order(tmp_path: Path) -> None:
    (dialogue,) = read_dialogues([write(tmp_path / "x.jsonl", DIALOGUE)])
    assert dialogue.sessions == (
        (
            LabelledTurn(
                "I've moved to Porto. No coriander!",
                (
                    Fact(CITY, "Porto", "moved to Porto", OpKind.UPDATE),
                    Fact("consumption_lifestyle.diet.restrictions", "coriander", "No coriander", polarity=Polarity.AVOID),
                ),
                (Source.STATED, Source.IMPLIED),
                "Noted.",
                "Try coriander.",
            ),
        ),
        (LabelledTurn("Thanks!", ()),),
    )
    assert dialogue.persona == (PersonaSlot(CITY, "Porto", "neutral"),)
    assert dialogue.requests == (
        LabelledRequest("Where to eat?", (CITY,), (CITY,), (), None, "It depends on the place.", "In Porto, …", "In Lyon, …"),
    )


def test_a_single_turn_is_read_with_the_profile_before_it(tmp_path: Path) -> None:
    record = {
        "id": "t-1",
        "profile": [{"slot": CITY, "value": "Lyon"}],
        "tag": "third_party",
        "user": "My aunt cooks",
        "inferred": [],
    }
    (single,) = read_turns([write(tmp_path / "t.jsonl", record)])
    assert (single.turn_id, single.tag, single.profile) == ("t-1", "third_party", (PersonaSlot(CITY, "Lyon", "neutral"),))
    assert single.turn == LabelledTurn("My aunt cooks", ())


def test_a_record_is_a_line_whatever_else_its_text_breaks_on(tmp_path: Path) -> None:
    """JSON strings may hold U+2028 and U+0085 as they are; only a line feed ends a record."""
    path = write(tmp_path / "x.jsonl", {"text": "a\u2028b\u0085c"}, {"text": "d"})
    assert list(read_jsonl(path)) == [("x.jsonl:1", {"text": "a\u2028b\u0085c"}), ("x.jsonl:2", {"text": "d"})]


def test_blank_lines_and_windows_line_ends_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [(where, record["a"]) for where, record in read_jsonl(path)] == [("x.jsonl:1", 1), ("x.jsonl:4", 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{broken", r"x\.jsonl:1: expected one JSON object a line"),
        (b"[1, 2]", r"x\.jsonl:1: expected a JSON object, got list"),
        (b'{"a": "\xff"}', r"expected UTF-8, got byte 0xff at position 7"),
    ],
)
def test_a_file_that_is_not_json_lines_is_named_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a readable JSON Lines file, got No such file .*nothing\.jsonl"):
        list(read_jsonl(tmp_path / "nothing.jsonl"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"persona": None}, r"x\.jsonl:1: expected a corpus record"),
        ({"sessions": [{"turns": [{"user": "hi"}]}]}, r"x\.jsonl:1: expected the field 'inferred', got none"),
        (
            {"sessions": [{"turns": [{"user": "hi", "inferred": [{"slot": CITY, "value": "x", "quote": "hi", "op": "adore"}]}]}]},
            r"x\.jsonl:1: expected a corpus record, got one that does not fit: 'adore' is not a valid OpKind",
        ),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_what_is_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dialogues([write(tmp_path / "x.jsonl", {**DIALOGUE, **change})])


def corpus_copy(tmp_path: Path) -> Path:
    """Copy what a corpus folder needs, with one bank file."""
    folder = tmp_path / "corpus"
    for name in ("bank/bank_0.jsonl", "dialogues/a.jsonl", "turns/a.jsonl", "split.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "data" / "corpus" / name, folder / name)
    return folder


def test_a_folder_without_a_split_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a corpus folder with split\.json, got .*; give the path"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("split.json", "{"), ("split.json", '{"dialogues": {}}'), ("bank/bank_0.jsonl", '{"slot": "a"}')]
)
def test_a_damaged_corpus_is_a_data_error(tmp_path: Path, name: str, text: str) -> None:
    folder = corpus_copy(tmp_path)
    (folder / name).write_text(text, "utf-8")
    with pytest.raises(DataError):
        load_corpus(folder)


def test_without_a_list_of_held_out_patterns_every_only_pattern_is_trained_on(tmp_path: Path) -> None:
    assert all(not record.held_out for record in load_corpus(corpus_copy(tmp_path)).bank)


def record(patterns: dict[str, tuple[str, ...]], held_out: frozenset[str] = frozenset()) -> PhraseRecord:
    """Return a record of the phrase bank."""
    return PhraseRecord(CITY, ("Porto", "Lyon"), {}, patterns, None, held_out)


def test_the_last_pattern_of_several_is_never_trained_on() -> None:
    several = record({"explicit": ("a", "b", "c")})
    assert (several.trained("explicit"), several.unseen("explicit")) == (("a", "b"), ("c",))


def test_an_only_pattern_is_either_trained_on_or_held_out() -> None:
    patterns = {"retract": ("a",), "negative": ()}
    trained, held_out = record(patterns), record(patterns, frozenset({"retract"}))
    assert (trained.trained("retract"), trained.unseen("retract")) == (("a",), ())
    assert (held_out.trained("retract"), held_out.unseen("retract")) == ((), ("a",))
    assert (trained.trained("negative"), trained.unseen("negative")) == ((), ())


def test_every_split_has_dialogues_and_no_persona_is_in_two(corpus: Corpus) -> None:
    splits = {split: {d.dialogue_id for d in corpus.dialogues_of(split)} for split in ("train", "dev", "test")}
    assert all(splits.values())
    assert sum(map(len, splits.values())) == len(corpus.dialogues) == len(set.union(*splits.values()))
    turns = {split: {t.turn_id for t in corpus.turns_of(split)} for split in ("train", "dev", "test")}
    assert sum(map(len, turns.values())) == len(corpus.turns) == len(set.union(*turns.values()))


def test_the_split_names_only_what_the_corpus_holds(corpus: Corpus) -> None:
    held = {d.dialogue_id for d in corpus.dialogues} | {t.turn_id for t in corpus.turns} | {r.pair for r in corpus.requests}
    assert set(corpus.held_out) - held == set()


def test_no_utterance_of_a_held_out_persona_is_in_the_train_split(corpus: Corpus) -> None:
    def utterances(split: Any) -> set[str]:
        said = {turn.utterance for d in corpus.dialogues_of(split) for session in d.sessions for turn in session if turn.facts}
        return said | {single.turn.utterance for single in corpus.turns_of(split)}

    assert utterances("train") & (utterances("dev") | utterances("test")) == set()


def test_gold_facts_are_of_the_schema_and_quote_the_user(corpus: Corpus, schema: ProfileSchema) -> None:
    turns = [turn for dialogue in corpus.dialogues for session in dialogue.sessions for turn in session]
    turns += [single.turn for single in corpus.turns]
    wrong = [
        fact
        for turn in turns
        for fact in turn.facts
        if fact.path not in schema.slots or not is_quote_of(fact.quote, turn.utterance)
    ]
    assert wrong == []
    assert len(turns) > 1_600


def test_needs_are_what_is_known_and_what_is_missing(corpus: Corpus) -> None:
    requests = [request for dialogue in corpus.dialogues for request in dialogue.requests]
    assert all({*request.known} | {*request.missing} == {*request.needs} for request in requests)
    assert len(requests) > 700


def test_the_bank_has_a_record_for_every_slot_and_something_unseen_of_every_kind(corpus: Corpus, schema: ProfileSchema) -> None:
    assert sorted(record.slot for record in corpus.bank) == sorted(schema.slots)
    for kind in ("explicit", "implied", "negative", "update", "retract", "third_party", "hypothetical"):
        assert sum(bool(record.unseen(kind)) for record in corpus.bank) >= 40
        assert not [record.slot for record in corpus.bank if set(record.trained(kind)) & set(record.unseen(kind))]
