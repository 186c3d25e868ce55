"""Own traffic as training data: what is a label, what may be used, and what never appears. On real SQLite."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("faker", reason="needs the pseudonyms extra")

from personalagent.datasets.corpus import load_corpus
from personalagent.datasets.own_traffic import OwnData, own_data, split_file
from personalagent.datasets.validation import validate
from personalagent.profile import Cardinality, Evidence, OpKind, Polarity, ProfileDelta, SlotOp, Source
from personalagent.schema import ProfileSchema
from personalagent.store import Store
from personalagent.train.replies import pairs, policy_pairs
from personalagent.train.samples import STAGES, compose
from tests.strategies import NOON

CITY, FOODS, PATTERN = (
    "geography_environment.location.city",
    "consumption_lifestyle.diet.foods",
    "consumption_lifestyle.diet.pattern",
)


class Home:
    """A user's store, written as serving does; each call is a minute later."""

    def __init__(self, file: Path, schema: ProfileSchema, user_id: str = "u1") -> None:
        minutes = count()
        self.schema, self.user_id = schema, user_id
        self.store = Store.open(f"sqlite:///{file}", clock=lambda: NOON + timedelta(minutes=next(minutes)))
        self.store.ensure_user(user_id)

    def say(
        self,
        text: str,
        *facts: tuple[str, str, str],
        session: str = "s",
        source: Source = Source.STATED,
        op: OpKind = OpKind.ADD,
        withheld: bool = False,
    ) -> None:
        """Append a turn from which these facts were inferred: slot, value, quote."""
        self.store.start_session(self.user_id, session)
        index = self.store.append_turn(self.user_id, session, text)
        operations = tuple(
            SlotOp(
                op,
                path,
                value,
                NOON,
                Polarity.NEUTRAL,
                source,
                self.schema.slots[path].cardinality,
                Evidence(quote, session, index),
            )
            for path, value, quote in facts
        )
        self.store.commit_delta(self.user_id, session, index, ProfileDelta(operations), withheld=withheld)

    def edit(self, path: str, value: str, polarity: Polarity = Polarity.NEUTRAL) -> None:
        """Set a value by the user's own hand, as ``PersonalAgent.edit`` does."""
        op = SlotOp(OpKind.ADD, path, value, NOON, polarity, Source.EDITED, self.schema.slots[path].cardinality)
        self.store.edit(self.user_id, ProfileDelta((op,)))

    def review(self, *sessions: str) -> None:
        """Mark sessions as reviewed."""
        for session in sessions or ("s",):
            self.store.mark_reviewed(self.user_id, session)

    def data(self, *, consent: bool = True) -> OwnData:
        """Return what the store gives."""
        self.store.set_training_consent(self.user_id, is_granted=consent)
        return own_data(self.store, self.schema, rng=random.Random(3))


@pytest.fixture
def home(tmp_path: Path, schema: ProfileSchema) -> Iterator[Home]:
    """An empty store with one user."""
    opened = Home(tmp_path / "a.db", schema)
    yield opened
    opened.store.close()


def labels(record: Any, name: str = "inferred") -> list[tuple[str, str, str]]:
    """Return slot, value and quote of a record's facts."""
    return [(fact["slot"], fact["value"], fact["quote"]) for fact in record[name]]


def test_nothing_is_used_without_consent_and_nothing_after_its_withdrawal(home: Home) -> None:
    home.say("I live in Braga.", (CITY, "Braga", "I live in Braga"))
    home.review()
    assert own_data(home.store, home.schema, rng=random.Random(0)).records == ()
    assert len(home.data().records) == 1
    gone = home.data(consent=False)
    assert (gone.records, gone.left_out) == ((), {"users without consent": 1})


def test_only_what_was_reviewed_is_used_not_even_in_a_profile(home: Home) -> None:
    home.say("I live in Braga.", (CITY, "Braga", "I live in Braga"), session="unseen")
    home.say("Leeks are great.", (FOODS, "leeks", "Leeks are great"))
    home.review()
    home.say("So is rye bread.", (FOODS, "rye bread", "So is rye bread"))
    data = home.data()
    assert [record["user"] for record in data.records] == ["Leeks are great."]
    assert data.records[0]["profile"] == []
    assert data.left_out == {"turns not reviewed": 2}


def test_what_stands_after_a_review_is_gold_on_the_profile_before_it(home: Home) -> None:
    home.say("I live in Braga.", (CITY, "Braga", "I live in Braga"))
    home.say("How are you?")
    home.review()
    first, second = home.data().records
    assert (labels(first), first["tag"], first["profile"]) == ([(CITY, "Braga", "I live in Braga")], "reveal", [])
    assert (labels(second), second["tag"]) == ([], "empty")
    assert second["profile"] == [{"slot": CITY, "value": "Braga", "polarity": "neutral"}]
    assert first["wrong"] == second["wrong"] == []


def test_an_edited_value_is_gold_and_what_was_inferred_is_wrong(home: Home) -> None:
    home.say("I live in Vila Nova, near Porto.", (CITY, "Porto", "near Porto"), (FOODS, "near", "near Porto"))
    home.edit(CITY, "Vila Nova")
    home.say("Bye.")
    home.review()
    first, second = home.data().records
    assert labels(first) == [(CITY, "Vila Nova", "near Porto"), (FOODS, "near", "near Porto")]
    assert labels(first, "wrong") == [(CITY, "Porto", "near Porto"), (FOODS, "near", "near Porto")]
    assert {"slot": CITY, "value": "Vila Nova", "polarity": "neutral"} in second["profile"]


def test_the_last_of_several_edits_is_gold(home: Home) -> None:
    home.say("I live in Vila Nova, near Porto.", (CITY, "Porto", "near Porto"))
    home.edit(CITY, "Vila")
    home.edit(CITY, "Vila Nova")
    home.review()
    (record,) = home.data().records
    assert labels(record) == [(CITY, "Vila Nova", "near Porto")]
    assert labels(record, "wrong") == [(CITY, "Porto", "near Porto")]


def test_what_takes_back_a_fact_that_was_not_reviewed_is_left_out(home: Home) -> None:
    home.say("Leeks are great.", (FOODS, "leeks", "Leeks are great"), session="unseen")
    home.say("No more leeks.", (FOODS, "leeks", "No more leeks"), op=OpKind.RETRACT)
    home.review()
    data = home.data()
    assert (data.records, data.left_out["turns that take back what was not reviewed"]) == ((), 1)
    home.review("unseen")
    _, second = home.data().records
    assert (second["inferred"][0]["op"], second["profile"][0]["value"]) == ("retract", "leeks")


def test_a_number_in_an_edit_is_not_looked_for_in_what_was_said(home: Home) -> None:
    home.say("I have 2 cats.")
    home.edit("marriage_family.children.count", "2")
    home.review()
    assert [labels(record) for record in home.data().records] == [[]]


def test_an_edit_because_life_changed_makes_no_label(home: Home) -> None:
    home.say("I live in Braga.", (CITY, "Braga", "I live in Braga"))
    home.edit(CITY, "Lisbon")
    home.review()
    data = home.data()
    assert (data.records, data.left_out) == ((), {"turns edited to something that they do not say": 1})


def test_an_edit_that_a_turn_says_word_for_word_is_what_was_missed(home: Home) -> None:
    home.say("Soup tonight, with leeks and rye bread.", (FOODS, "leeks", "with leeks and rye bread"))
    home.edit(FOODS, "rye bread", Polarity.LIKE)
    home.review()
    (record,) = home.data().records
    assert labels(record) == [(FOODS, "leeks", "with leeks and rye bread"), (FOODS, "rye bread", "with leeks and rye bread")]
    assert [fact["polarity"] for fact in record["inferred"]] == ["neutral", "like"]
    assert record["wrong"] == []


def test_what_was_forgotten_appears_nowhere(home: Home) -> None:
    home.say("I live in Braga.", (CITY, "Braga", "I live in Braga"))
    home.say("Braga is lovely, and leeks are great.", (FOODS, "leeks", "leeks are great"))
    home.review()
    home.store.forget(home.user_id, CITY, "Braga")
    data = home.data()
    assert data.records == ()
    assert data.left_out == {"turns of which something was forgotten": 2}


def test_a_reply_to_a_question_is_left_out(home: Home) -> None:
    home.say("Braga.", (CITY, "Braga", "Braga"), source=Source.ELICITED)
    home.review()
    assert home.data().left_out == {"turns that answer a question: the format has no place for it": 1}


def test_a_turn_of_which_something_was_withheld_is_left_out(home: Home) -> None:
    home.say("I'm a Quaker from Porto", (CITY, "Porto", "from Porto"), withheld=True)
    home.say("I love pears", (FOODS, "pears", "I love pears"))
    home.review()
    data = home.data()
    assert [record["user"] for record in data.records] == ["I love pears"]
    assert data.left_out["turns of which something sensitive was withheld"] == 1


def test_names_are_the_same_pseudonym_in_turns_quotes_and_profiles(home: Home) -> None:
    colleagues = "social_networks.people.colleagues"
    home.say("My boss Zbysia is fun.", (colleagues, "Zbysia (boss)", "My boss Zbysia is fun"))
    home.say("Lunch with Zbysia, her mail is z@firm.example")
    home.review()
    first, second = home.data().records
    name = first["user"].split()[2]
    assert name != "Zbysia"
    assert labels(first) == [(colleagues, f"{name} (boss)", f"My boss {name} is fun")]
    assert second["profile"][0]["value"] == f"{name} (boss)"
    assert second["user"] == f"Lunch with {name}, her mail is person1@example.org"
    assert "zbysia" not in json.dumps([first, second]).lower()


def test_a_name_announced_where_nothing_is_used_is_a_name_everywhere(home: Home) -> None:
    home.say("My sister Zbysia cooks.", session="unseen")
    home.say("Zbysia hates fish.")
    home.review()
    (record,) = home.data().records
    assert record["user"].endswith(" hates fish.") and "Zbysia" not in record["user"]


def test_the_users_id_is_not_in_the_data(tmp_path: Path, schema: ProfileSchema) -> None:
    home = Home(tmp_path / "m.db", schema, "mariaelena-1")
    home.say("Good morning.")
    home.review()
    assert "mariaelena" not in json.dumps(home.data().records)
    home.store.close()


def test_training_reads_it_unchanged(home: Home, schema: ProfileSchema, tmp_path: Path) -> None:
    """As a corpus of its own: supervised examples, episodes for reinforcement learning, pairs for preference; and it is valid."""
    home.say("I live in Vila Nova, near Porto.", (CITY, "Porto", "near Porto"))
    home.edit(CITY, "Vila Nova")
    home.say("What's new?")
    home.review()
    data = home.data()
    folder = write(data, tmp_path / "own")
    assert validate([folder / "turns" / "own.jsonl"], schema).problems == []
    corpus = load_corpus(folder)
    examples = compose(corpus, schema, seed=0, mixture=STAGES["gold"])
    assert {each.completion for each in examples} == {"new\n1 location.city: Vila Nova", "none"}
    (pair,) = pairs(policy_pairs(corpus, schema))
    assert (pair.task, pair.completion, pair.rejected) == (
        "infer",
        "new\n1 location.city: Vila Nova",
        "new\n1 location.city: Porto",
    )
    assert [fact.value for turn in corpus.turns_of("train") for fact in turn.turn.facts] == ["Vila Nova"]
    pytest.importorskip("sacrebleu", reason="needs the train extra")
    from personalagent.train.episode import train_episodes

    assert [len(each.turns) for each in train_episodes(corpus, schema, "both")] == [1, 1]


def write(data: OwnData, folder: Path) -> Path:
    """Write a folder as ``data from-store`` does."""
    (folder / "turns").mkdir(parents=True)
    (folder / "turns" / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in data.records), "utf-8")
    (folder / "split.json").write_text(json.dumps(split_file(data)), "utf-8")
    return folder


def test_a_user_is_held_out_whole_and_always_the_same(tmp_path: Path, schema: ProfileSchema) -> None:
    held_out = set()
    for user in (f"u{n}" for n in range(30)):
        home = Home(tmp_path / f"{user}.db", schema, user)
        for _ in range(2):
            home.say("Good morning.")
        home.review()
        splits = {split for _ in range(2) for split in home.data().splits.values()}
        assert len(splits) == 1
        held_out |= {user} if splits == {"dev"} else set()
        home.store.close()
    assert 0 < len(held_out) < 10


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from([CITY, FOODS, PATTERN]), st.integers(0, 5), st.sampled_from("ab")),
        st.tuples(st.just("drop"), st.sampled_from([FOODS]), st.integers(0, 5), st.sampled_from("ab")),
        st.tuples(st.just("edit"), st.sampled_from([CITY, FOODS]), st.integers(0, 5)),
        st.tuples(st.just("forget"), st.sampled_from([CITY, FOODS]), st.integers(0, 5)),
        st.tuples(st.just("review"), st.sampled_from("ab")),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS)
def test_whatever_happens_in_a_store(steps: list[Any], schema: ProfileSchema, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Only reviewed turns; every quote verbatim; nothing forgotten that was not said again; a valid corpus file."""
    folder = tmp_path_factory.mktemp("home")
    home = Home(folder / "a.db", schema)
    said: dict[str, str] = {}
    forgotten: set[str] = set()
    reviewed: set[str] = set()
    for number, (kind, *rest) in enumerate(steps):
        if kind in ("say", "drop"):
            path, value, session = rest[0], f"quux{rest[0][-1]}{rest[1]}", rest[2]
            text = f"Note {number}: {value} it is."
            op = OpKind.ADD if kind == "say" else OpKind.RETRACT
            home.say(text, (path, value, f"{value} it is"), session=session, op=op)
            said[text] = session
            forgotten.discard(value)
            reviewed -= {text}
        elif kind == "review":
            if rest[0] in home.store.session_ids(home.user_id):
                home.review(rest[0])
                reviewed |= {text for text, session in said.items() if session == rest[0]}
        else:
            value = f"quux{rest[0][-1]}{rest[1]}"
            if kind == "edit":
                home.edit(rest[0], value)
                forgotten.discard(value)
            else:
                home.store.forget(home.user_id, rest[0], value)
                forgotten.add(value)
    data = home.data()
    home.store.close()
    assert {record["user"] for record in data.records} <= reviewed
    written = json.dumps(data.records)
    assert [value for value in forgotten if value in written] == []
    assert validate([write(data, folder / "own") / "turns" / "own.jsonl"], schema).problems == []
    assert len(data.records) + sum(count for why, count in data.left_out.items() if why.startswith("turns")) == len(said)


def test_cardinality_is_what_these_tests_take_it_to_be(schema: ProfileSchema) -> None:
    assert [schema.slots[path].cardinality for path in (CITY, FOODS)] == [Cardinality.ONE, Cardinality.MANY]
