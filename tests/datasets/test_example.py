"""Data sets by name, and what this repository releases as examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.datasets.corpus import Corpus
from personalagent.datasets.example import DATA_SETS, Example, load_examples
from personalagent.datasets.unseen import read_cases
from personalagent.dialogue import Turn
from personalagent.errors import DataError, UsageError
from tests.conftest import ROOT

UNSEEN, CORPUS = ROOT / "data" / "unseen", ROOT / "data" / "corpus"


def loaded(path: Path, variant: str = "", *, seed: int) -> tuple[Example, ...]:
    """Stand for a loader of one's own."""
    return (Example(f"{path.name}{variant}{seed}", "own", "u", "t", (), "?"),)


def test_the_data_sets_are_known_by_name_and_ones_own_by_its_place() -> None:
    assert DATA_SETS.names() == ("aloe", "corpus", "prefeval", "unseen")
    assert all(callable(DATA_SETS.load(name)) for name in DATA_SETS.names())
    assert load_examples("tests.datasets.test_example:loaded", Path("x"), seed=4)[0].example_id == "x4"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("prefevl", "Did you mean 'prefeval'?"),
        ("prefevl:explicit", "Did you mean 'prefeval'?"),
        ("zebra", "expected the name of a data set (aloe, corpus, prefeval, unseen)"),
        ("prefeval:persona-drivn", "Did you mean 'persona-driven'?"),
        ("unseen:tset", "Did you mean 'test'?"),
        ("corpus:all", "expected a variant of corpus (test, dev, train), got 'all'."),
    ],
)
def test_an_unknown_name_or_variant_is_answered_with_the_nearest(spec: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_examples(spec, UNSEEN)
    assert says in str(refused.value)


def test_corpus_examples_follow_the_real_dialogues_of_the_split(corpus: Corpus) -> None:
    examples = load_examples("corpus", CORPUS)
    dialogues = {each.dialogue_id: each for each in corpus.dialogues_of("test")}
    assert {each.unit for each in examples} == {d.dialogue_id for d in dialogues.values() if d.requests}
    for each in examples:
        dialogue = dialogues[each.unit]
        assert [turn.utterance for session in each.sessions for turn in session] == [
            turn.utterance for session in dialogue.sessions for turn in session
        ]
        assert all(turn.response for session in each.sessions for turn in session)
        assert each.missing is not None
        assert each.persona
    assert len({each.example_id for each in examples}) == len(examples)
    assert load_examples("corpus:test", CORPUS, seed=9) == examples


def test_unseen_examples_state_what_is_known_and_say_what_is_missing() -> None:
    examples = {each.example_id: each for each in load_examples("unseen", UNSEEN)}
    cases = read_cases(UNSEEN / "test.jsonl")
    assert list(examples) == [case.id for case in cases]
    for case in cases:
        assert examples[case.id].missing == case.missing
        assert sum(map(len, examples[case.id].sessions)) == len(case.profile)
    lacking, having = examples["rb-001"], examples["rb-002"]
    assert lacking.sessions[0][:2] == (
        Turn("About my music, live events: small seated venues only. That is a must.", "Noted."),
        Turn("About my screen, genres: slow crime dramas. I like that.", "Noted."),
    )
    assert (lacking.missing, lacking.preference) == (("interests_preferences.music.genres",), None)
    assert (having.missing, having.preference) == ((), "music.genres (like): fado and indie folk")
    assert lacking.unit == having.unit == "pb-001"


def test_what_the_persona_would_answer_is_for_the_judge_and_not_in_the_history() -> None:
    case = next(each for each in read_cases(UNSEEN / "test.jsonl") if each.missing and each.answer)
    example = next(each for each in load_examples("unseen", UNSEEN) if each.example_id == case.id)
    for value in case.answer:
        assert value in (example.preference or "")
        assert value in (example.persona or "")
        assert not any(value in turn.utterance for session in example.sessions for turn in session)


def test_a_file_of_cases_may_be_given_and_holds_the_split(tmp_path: Path) -> None:
    assert load_examples("unseen:dev", UNSEEN / "dev.jsonl") == load_examples("unseen:dev", UNSEEN)
    with pytest.raises(DataError, match="expected cases of the split test, got none"):
        load_examples("unseen", UNSEEN / "dev.jsonl")
    with pytest.raises(DataError, match="data/unseen"):
        load_examples("unseen", tmp_path)
    with pytest.raises(DataError, match="data/corpus"):
        load_examples("corpus", tmp_path)
    (tmp_path / "test.jsonl").write_text('{"id": "x"}', "utf-8")
    with pytest.raises(DataError, match=r"test.jsonl:1: expected a case"):
        load_examples("unseen", tmp_path)
