"""What "forget that" takes away, in the log, in the texts and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personalagent.profile import OpKind, Profile, ProfileDelta, SlotOp, fold, is_same_value
from personalagent.store import Store, engine
from personalagent.store.erasure import ERASED, without
from personalagent.store.log import Logged
from tests.store.turns import CITY, LIKES, edited, learned, play
from tests.strategies import LEARNED, NOON, PATHS, VALUES, operations


def numbered(operations: list[SlotOp]) -> list[Logged]:
    """A log of one operation per turn."""
    return [Logged(said, 0, op) for said, op in enumerate(operations, start=1)]


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(LEARNED), max_size=14), st.sampled_from(sorted(PATHS)), st.sampled_from(["", *VALUES]))
def test_the_log_without_a_value_folds_to_the_profile_after_forget(log: list[SlotOp], path: str, value: str) -> None:
    erasure = without(numbered(log), path, value)
    assert fold(entry.operation for entry in erasure.kept) == fold([*log, SlotOp(OpKind.FORGET, path, value, NOON)])
    for entry in erasure.kept:
        op = entry.operation
        assert op.path != path or (bool(value) and not is_same_value(op.value, value))
    keys = [(entry.said, entry.position) for entry in erasure.kept]
    assert keys == sorted(set(keys))


@settings(max_examples=100, deadline=None)
@given(st.lists(operations(LEARNED), max_size=8), st.lists(operations(LEARNED), max_size=8), st.sampled_from(VALUES))
def test_what_is_said_after_forget_is_learned_as_if_on_the_forgotten_profile(
    before: list[SlotOp], after: list[SlotOp], value: str
) -> None:
    path = sorted(PATHS)[0]
    marker = SlotOp(OpKind.FORGET, path, ERASED, NOON)
    kept = [entry.operation for entry in without(numbered(before), path, value).kept]
    expected = fold([*before, SlotOp(OpKind.FORGET, path, value, NOON)]).apply(ProfileDelta(tuple(after)))
    assert fold([*kept, marker, *after]) == expected


def test_forgetting_rome_does_not_bring_paris_back(store: Store) -> None:
    play(store, "I live in Paris", (CITY, "Paris"))
    play(store, "I moved to Rome", (CITY, "Rome"))
    forgotten = store.forget("alice", CITY, "rome")
    profile = store.load_profile("alice")
    assert profile.values(CITY) == () and [old.value for old in profile.history] == ["Paris"]
    assert (forgotten.operations, forgotten.turns, forgotten.also_in) == (1, 1, ())
    assert [(op.op, op.value) for op in store.operations("alice")] == [
        (OpKind.ADD, "Paris"),
        (OpKind.RETRACT, "Paris"),
        (OpKind.FORGET, ERASED),
    ]
    assert store.verify().problems == ()


def test_the_turns_that_proved_it_lose_their_text_and_the_others_the_words(store: Store) -> None:
    play(store, "I moved to Rome", (CITY, "Rome"))
    play(store, "Any restaurants in rome?")
    play(store, "I like Romesco", (LIKES, "Romesco"))
    assert store.forget("alice", CITY, "Rome").turns == 2
    assert [(t.utterance, t.response, t.is_redacted) for t in store.turns("alice")] == [
        ("", None, True),
        (f"Any restaurants in {ERASED}?", f"You said: Any restaurants in {ERASED}?", True),
        ("I like Romesco", "You said: I like Romesco", False),
    ]


def test_other_facts_of_the_turn_stay_and_their_quotes_lose_the_words(store: Store) -> None:
    play(store, "In Rome I drink tea", (CITY, "Rome"), (LIKES, "tea"))
    store.forget("alice", CITY, "Rome")
    (tea,) = store.load_profile("alice").values(LIKES)
    assert (tea.value, tea.evidence[0].quote) == ("tea", ERASED)


def test_the_same_words_in_another_slot_are_reported_and_stay(store: Store) -> None:
    play(store, "I live in Rome", (CITY, "Rome"))
    play(store, "I like ancient Rome", (LIKES, "ancient Rome"))
    assert store.forget("alice", CITY, "Rome").also_in == (LIKES,)
    assert [value.value for value in store.load_profile("alice")] == ["ancient Rome"]


def test_a_short_value_is_erased_but_not_masked_elsewhere(store: Store) -> None:
    play(store, "We are 2", (CITY, "2"))
    play(store, "Meet me at 2 o'clock")
    store.forget("alice", CITY, "2")
    assert [turn.utterance for turn in store.turns("alice")] == ["", "Meet me at 2 o'clock"]


def test_an_edit_with_evidence_takes_its_turn_along(store: Store) -> None:
    play(store, "I believe in Thor")
    (op,) = edited(CITY, "Asatru").operations
    quoted = learned(CITY, "Asatru", "believe in Thor", "s1", 0)
    store.edit("alice", ProfileDelta((SlotOp(op.op, op.path, op.value, op.at, source=op.source, evidence=quoted.evidence),)))
    store.forget("alice", CITY, "Asatru")
    assert [turn.utterance for turn in store.turns("alice")] == [""]


def test_forgetting_a_slot_forgets_every_value_of_it(store: Store) -> None:
    play(store, "I like tea", (LIKES, "tea"))
    play(store, "I like sushi and live in Rome", (LIKES, "sushi"), (CITY, "Rome"))
    assert store.forget("alice", LIKES).operations == 2
    assert [value.value for value in store.load_profile("alice")] == ["Rome"]
    assert [(op.op, op.value) for op in store.operations("alice", LIKES)] == [(OpKind.FORGET, "")]
    assert store.forget("alice", LIKES).operations == 0
    assert store.verify().problems == ()


def test_an_answer_that_comes_after_the_forgetting_does_not_bring_it_back(store: Store) -> None:
    store.start_session("alice", "s1")
    store.append_turn("alice", "s1", "I moved to Rome with my sister")
    play(store, "Rome is lovely", (CITY, "Rome"))
    store.forget("alice", CITY, "Rome")
    late = learned(LIKES, "sister", "I moved to Rome with my sister", "s1", 0)
    assert store.commit_delta("alice", "s1", 0, ProfileDelta((late,))).outdated == (late,)
    store.set_response("alice", "s1", 0, "How is Rome?")
    assert [turn.response for turn in store.turns("alice")] == [None, None]


CANARY = "Quetzalcoatlus"


def copies(directory: Path, words: str = CANARY) -> int:
    """How often the words stand anywhere in the files of a directory, in any case."""
    return sum(file.read_bytes().lower().count(words.lower().encode()) for file in directory.iterdir())


def fill(store: Store, user_id: str) -> None:
    """Tell a secret many times, between other things, so that it stands on many pages."""
    for number in range(40):
        play(store, f"I collect {CANARY} number {number}", (LIKES, CANARY), user_id=user_id)
        play(store, f"I like plant {number}" + " and more" * 100, (LIKES, f"plant {number}"), user_id=user_id)
        play(store, f"What does a {CANARY.lower()} eat?", user_id=user_id)


def test_no_byte_of_a_forgotten_value_stays_on_disk(sqlite: Store, tmp_path: Path) -> None:
    fill(sqlite, "alice")
    assert copies(tmp_path) > 100
    assert sqlite.forget("alice", LIKES, CANARY.upper()).is_scrubbed
    assert copies(tmp_path) == 0
    assert len(sqlite.load_profile("alice").values(LIKES)) == 40 and copies(tmp_path, "plant 39") > 0
    assert sqlite.verify().problems == ()


def test_no_byte_of_a_deleted_user_stays_on_disk(sqlite: Store, tmp_path: Path) -> None:
    fill(sqlite, "alice-1234")
    play(sqlite, "I like tea", (LIKES, "tea"), user_id="bob")
    assert sqlite.delete_user("alice-1234")
    assert copies(tmp_path) == copies(tmp_path, "alice-1234") == copies(tmp_path, "plant") == 0
    assert sqlite.users() == ("bob",) and sqlite.verify().problems == ()


def test_an_erasure_that_was_cut_off_before_the_disk_was_scrubbed_is_finished_at_the_next_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    store = Store.open(url)
    fill(store, "alice")
    store._database.scrub = lambda: False  # type: ignore[method-assign]  # the process dies here
    assert not store.forget("alice", LIKES, CANARY).is_scrubbed
    assert copies(tmp_path) > 0
    with Store.open(url) as again:
        assert copies(tmp_path) == 0
        assert again.verify().problems == ()
    store.close()


def test_a_reader_of_the_old_state_delays_the_scrubbing_and_is_told(
    sqlite: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SCRUB_WAIT_S", 0.05)
    fill(sqlite, "alice")
    with sqlite._database.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM turns")
        assert not sqlite.forget("alice", LIKES, CANARY).is_scrubbed
    sqlite.forget("alice", LIKES, CANARY)
    assert copies(tmp_path) == 0


def test_nothing_is_kept_of_an_unknown_users_forgetting() -> None:
    assert without([], LIKES, "tea").kept == () and fold([]) == Profile()
