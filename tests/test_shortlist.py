"""Slots that requests like this one needed: the neighbours and their votes, worked out by hand, and what is packaged."""

from __future__ import annotations

import pytest

from personalagent.datasets.corpus import Corpus
from personalagent.schema import ProfileSchema
from personalagent.shortlist import LabelledNeed, Shortlist, likely_slots, lines_of, packaged_needs
from personalagent.train.samples import labelled_needs

DIET, CITY = "consumption_lifestyle.diet.restrictions", "geography_environment.location.city"


def test_the_nearest_requests_vote_for_what_they_needed() -> None:
    index = Shortlist(
        [
            LabelledNeed("cook dinner", (DIET,), unit="a"),
            LabelledNeed("walk outside", (CITY,), unit="b"),
            LabelledNeed("two plus two", (), unit="c"),
        ]
    )
    assert index.votes("dinner please") == {DIET: 1.0}
    votes = index.votes("walk after dinner")
    assert votes == {DIET: pytest.approx(0.5), CITY: pytest.approx(0.5)}, "each shares one of two words of the same rarity"
    assert index.votes("two") == {}, "the neighbour needed nothing"
    assert index.votes("") == {}


def test_what_came_from_the_same_person_can_be_left_out() -> None:
    index = Shortlist([LabelledNeed("cook dinner", (DIET,), unit="a"), LabelledNeed("dinner outside", (CITY,), unit="b")])
    assert list(index.votes("Cook dinner")) == [DIET, CITY]
    assert list(index.votes("Cook dinner", without="a")) == [CITY]


def test_a_slots_place_and_a_requests_weight_count() -> None:
    index = Shortlist([LabelledNeed("dinner", (DIET, CITY), 1.0), LabelledNeed("dinner there", (CITY,), 0.5)])
    votes = index.votes("dinner now")
    assert votes[DIET] > votes[CITY]
    assert sum(votes.values()) == pytest.approx(1)


def test_the_packaged_requests_are_those_of_the_corpus(corpus: Corpus, schema: ProfileSchema) -> None:
    labelled = labelled_needs(corpus, schema)
    assert lines_of(packaged_needs()) == lines_of(labelled), "run: personalagent data shortlist"
    held_out = {
        request.request.casefold() for split in ("dev", "test") for d in corpus.dialogues_of(split) for request in d.requests
    }
    held_out |= {each.request.casefold() for split in ("dev", "test") for each in corpus.requests_of(split)}
    assert held_out.isdisjoint(each.request.casefold() for each in packaged_needs() if not each.unit.startswith("bank:"))


def test_likely_slots_are_of_the_schema_at_hand(schema: ProfileSchema) -> None:
    likely = [slot.path for slot in likely_slots("What shall I cook tonight?", schema)]
    assert DIET in likely and len(likely) <= 8
