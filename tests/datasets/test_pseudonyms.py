"""Pseudonyms: what is found, that it is the same everywhere, and that nothing of it is left."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("faker", reason="needs the pseudonyms extra")

from personalagent.datasets.pseudonyms import Pseudonyms, first_names


def pseudonyms(*texts: str, names: tuple[str, ...] = (), places: tuple[str, ...] = ()) -> Pseudonyms:
    """Return the pseudonyms of a user who said these texts."""
    return Pseudonyms(texts, names=names, places=places, rng=random.Random(7))


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("Write to ania.k+news@post.example.co.uk, please.", "Write to person1@example.org, please."),
        ("See https://shop.example/a?b=1. Or www.foo.de/bar", "See https://example.org/1. Or https://example.org/2"),
        ("It's on mysite.co.uk/me now", "It's on https://example.org/1 now"),
        ("Ring +48 600 123 456 or (021) 555-7788.", "Ring 555-0001 or 555-0002."),
        ("We live at 12 Old Mill Road.", "We live at 1 Example Street."),
        ("Ich wohne Hauptstraße 5, sie ul. Prosta 12.", "Ich wohne 1 Example Street, sie 2 Example Street."),
        ("Ask @cat_person about BT7 1AB.", "Ask @person1 about 1 Example Street."),
        ("3 kids, 2500 calories, £1,250.50 a month, 90 minutes", "3 kids, 2500 calories, £1,250.50 a month, 90 minutes"),
        ("I will go in May with hope. Paris in August!", "I will go in May with hope. Paris in August!"),
    ],
)
def test_what_has_a_form_is_replaced_and_the_rest_is_not(text: str, replaced: str) -> None:
    assert pseudonyms(text).replace(text) == replaced


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Maria cooks.", "Maria"),
        ("It was Thomas Kowalewicz again", "Kowalewicz"),
        ("My sister Xyxa is here.", "Xyxa"),
        ("Dr. Qandil said no", "Qandil"),
        ("my brother Will Byrne came", "Will"),
        ("My dog Biscuit is old", "Biscuit"),
    ],
)
def test_a_name_is_replaced_by_a_list_a_cue_or_the_name_before_it(text: str, name: str) -> None:
    replaced = pseudonyms(text).replace(text)
    assert name not in replaced
    assert len(replaced.split()) == len(text.split())


def test_the_same_name_is_the_same_pseudonym_everywhere_in_lower_case_too() -> None:
    texts = ("My sister Zbysia cooks.", "zbysia hates fish, and Zbysia's dog too. ZBYSIA!")
    found = pseudonyms(*texts)
    first, second = map(found.replace, texts)
    name = first.split()[2]
    assert name in first_names()
    assert second == f"{name.lower()} hates fish, and {name}'s dog too. {name}!"


def test_two_users_get_different_pseudonyms_by_different_draws() -> None:
    text = "Maria cooks."
    drawn = {Pseudonyms([text], rng=random.Random(seed)).replace(text) for seed in range(20)}
    assert len(drawn) > 10


def test_the_users_own_name_is_a_name_and_their_city_is_not() -> None:
    text = "I'm kasztelanka from Lourdes."
    found = pseudonyms(text, names=("Kasztelanka",), places=("Lourdes",))
    replaced = found.replace(text)
    assert "kasztelanka" not in replaced.lower()
    assert replaced.endswith("from Lourdes.")


_SECRETS = st.sampled_from(
    ["Maria", "Thomas", "ania@post.example", "+353 21 555 1234", "https://a.example/x", "7 High Street", "@maria_x", "Dr Qandil"]
)
_TALK = st.sampled_from(["I like tea", "we met", "and", "on Friday,", "in May", "2 cats.", "call me", "(x)", "\n", "💡"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.one_of(_SECRETS, _TALK), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=4))
def test_nothing_that_was_found_is_left_and_equal_texts_stay_equal(texts: list[str]) -> None:
    found = pseudonyms(*texts)
    replaced = [found.replace(text) for text in texts]
    assert all(map(found.is_clean, replaced))
    for secret in ("maria", "thomas", "ania@post", "555 1234", "a.example", "high street", "qandil"):
        assert secret not in " ".join(replaced).lower()
    assert [found.replace(text) for text in texts] == replaced
