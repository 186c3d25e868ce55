"""How an utterance is cut, and which clause a quotation belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalagent.clauses import LONG_WORDS, MAX_CLAUSES, clause_of, clauses_of
from personalagent.inference import is_quote_of

TRAM = (
    "Off the number 11 tram at two today, and then (finally) I sit down to write a motion about toilet breaks because nobody "
    "else on the depot committee would ever do it. Help?"
)


def test_a_text_is_cut_at_punctuation_and_its_long_clauses_at_conjunctions() -> None:
    assert clauses_of(TRAM) == (
        "Off the number 11 tram at two today, and then (finally)",
        "I sit down to write a motion about toilet breaks",
        "because nobody else on the depot committee would ever do it. Help?",
    )


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", ()),
        (" \n\t", ()),
        ("Thanks!", ("Thanks!",)),
        ("Hi, ok. Right, I moved.", ("Hi, ok. Right, I moved.",)),
        ("no  nuts\nno\tfish", ("no nuts", "no fish")),
        ("I live in Porto - the old part", ("I live in Porto", "the old part")),
    ],
)
def test_short_pieces_stay_together_and_lines_apart(text: str, clauses: tuple[str, ...]) -> None:
    assert clauses_of(text) == clauses


def test_a_text_of_very_many_clauses_ends_in_one_that_holds_the_rest() -> None:
    clauses = clauses_of("\n".join(f"line {i}" for i in range(1_000)))
    assert len(clauses) == MAX_CLAUSES
    assert clauses[-1].endswith("line 998 line 999")


@given(st.text(alphabet=st.sampled_from("ab ,.!-\n()and"), max_size=200))
def test_no_word_is_lost_and_every_clause_is_a_quote(text: str) -> None:
    clauses = clauses_of(text)
    assert "".join("".join(clauses).split()).replace("-", "") == "".join(text.split()).replace("-", "")
    assert all(is_quote_of(clause, text) for clause in clauses if any(char.isalnum() for char in clause))


def test_a_dash_between_short_parts_stays_where_it_was() -> None:
    assert clauses_of("a - a") == ("a - a",)
    assert clauses_of("I drive a tram - it is not a bus") == ("I drive a tram", "it is not a bus")


def test_a_clause_is_never_cut_into_ribbons() -> None:
    words = " ".join(["so"] * (LONG_WORDS + 1))
    assert all(len(clause.split()) > 1 for clause in clauses_of(words))


def test_a_quote_belongs_to_the_clause_that_holds_it_or_most_of_it() -> None:
    clauses = clauses_of(TRAM)
    assert clause_of("tram at TWO", clauses) == 1
    assert clause_of("I sit down to write a motion about toilet breaks because nobody", clauses) == 2
    assert clause_of("my cat", clauses) is None
    assert clause_of("", clauses) is None
