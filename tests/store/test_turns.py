"""What the store keeps of a turn, and in which order; on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personalagent.errors import DataError, ProfileError, UsageError
from personalagent.profile import OpKind, Profile, ProfileDelta, Source, fold
from personalagent.store import AskState, InferenceState, Store, StoredTurn
from tests.store.turns import CITY, LIKES, edited, learned, play
from tests.strategies import NOON, deltas, texts


def values(profile: Profile, path: str) -> list[str]:
    """The open values of a slot."""
    return [value.value for value in profile.values(path)]


def test_a_turn_is_kept_as_it_was_said_and_waits_for_inference(store: Store) -> None:
    session_id = store.start_session("alice")
    at = datetime(2026, 1, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert store.append_turn("alice", session_id, "I live in Rome", at=at) == 0
    expected = StoredTurn(session_id, 0, 1, "I live in Rome", None, at, InferenceState.PENDING, 0, None, False)
    assert store.turns("alice") == store.pending_turns("alice") == (expected,)
    assert store.turns("alice")[0].at.tzinfo is UTC


def test_a_committed_turn_changes_the_profile_and_waits_no_more(store: Store) -> None:
    commit = play(store, "I live in Rome", (CITY, "Rome"))
    assert commit.profile == store.load_profile("alice") == fold(commit.operations)
    assert values(commit.profile, CITY) == ["Rome"]
    assert store.pending_turns("alice") == ()
    assert [(t.inference, t.response) for t in store.turns("alice", "s1")] == [(InferenceState.DONE, "You said: I live in Rome")]


def test_a_turn_that_reveals_nothing_is_done_too(store: Store) -> None:
    assert play(store, "Thanks!").profile == Profile()
    assert store.pending_turns("alice") == () and store.operations("alice") == ()


def test_a_step_that_is_repeated_changes_nothing(store: Store) -> None:
    first = play(store, "I like tea", (LIKES, "tea"))
    again = store.commit_delta("alice", "s1", 0, ProfileDelta((learned(LIKES, "coffee", "x", "s1", 0),)))
    assert (again.is_repeat, again.operations, again.profile) == (True, first.operations, first.profile)
    assert store.operations("alice") == first.operations
    store.set_response("alice", "s1", 0, "Noted.")
    store.set_response("alice", "s1", 0, "Noted.")
    assert [turn.response for turn in store.turns("alice")] == ["Noted."]


def test_an_inference_that_was_given_up_is_counted_and_stays_pending(store: Store) -> None:
    store.start_session("alice", "s1")
    store.append_turn("alice", "s1", "hello")
    store.defer_inference("alice", "s1", 0, "unreadable")
    store.defer_inference("alice", "s1", 0, "LLMTimeout")
    assert [(t.attempts, t.reason) for t in store.pending_turns("alice")] == [(2, "LLMTimeout")]


def test_a_turn_inferred_late_does_not_undo_what_was_said_after_it(store: Store) -> None:
    store.start_session("alice", "s1")
    store.append_turn("alice", "s1", "I live in Paris")
    play(store, "I moved to Rome", (CITY, "Rome"))
    late = store.commit_delta("alice", "s1", 0, ProfileDelta((learned(CITY, "Paris", "I live in Paris", "s1", 0),)))
    assert values(late.profile, CITY) == ["Rome"]
    assert [old.value for old in late.profile.history] == ["Paris"]
    assert late.profile == store.load_profile("alice") == fold(store.operations("alice"))
    assert store.verify().problems == ()


def test_an_edit_beats_an_older_turn_that_is_inferred_after_it(store: Store) -> None:
    store.start_session("alice", "s1")
    store.append_turn("alice", "s1", "I live in Paris")
    store.edit("alice", edited(CITY, "Rome"))
    commit = store.commit_delta("alice", "s1", 0, ProfileDelta((learned(CITY, "Paris", "I live in Paris", "s1", 0),)))
    assert values(commit.profile, CITY) == ["Rome"]


def test_a_forgotten_slot_is_not_filled_again_by_an_older_turn(store: Store) -> None:
    store.start_session("alice", "s1")
    store.append_turn("alice", "s1", "I live in Paris and like tea")
    store.forget("alice", CITY)
    operations = (learned(CITY, "Paris", "I live in Paris", "s1", 0), learned(LIKES, "tea", "like tea", "s1", 0))
    commit = store.commit_delta("alice", "s1", 0, ProfileDelta(operations))
    assert (commit.operations, commit.outdated) == (operations[1:], operations[:1])
    assert values(commit.profile, CITY) == [] and values(commit.profile, LIKES) == ["tea"]
    assert values(play(store, "I live in Bern", (CITY, "Bern")).profile, CITY) == ["Bern"]


def test_turns_of_two_sessions_are_numbered_apart_and_listed_as_said(store: Store) -> None:
    for session_id, said in (("s1", "a"), ("s2", "b"), ("s1", "c")):
        play(store, said, session_id=session_id)
    assert [(t.session_id, t.turn_index, t.utterance) for t in store.turns("alice")] == [
        ("s1", 0, "a"),
        ("s2", 0, "b"),
        ("s1", 1, "c"),
    ]
    assert [t.utterance for t in store.turns("alice", "s1")] == ["a", "c"]
    assert store.session_ids("alice") == ("s1", "s2")


def test_users_do_not_see_each_other(store: Store) -> None:
    play(store, "I live in Rome", (CITY, "Rome"), user_id="alice")
    play(store, "I live in Bern", (CITY, "Bern"), user_id="bob")
    store.set_consent("alice", "health", is_granted=True)
    assert store.users() == ("alice", "bob")
    assert values(store.load_profile("bob"), CITY) == ["Bern"]
    assert store.consents("bob") == {} and len(store.turns("bob")) == 1
    assert store.delete_user("alice") and not store.delete_user("alice")
    assert store.users() == ("bob",) and store.load_profile("alice") == Profile() and store.turns("alice") == ()
    assert values(store.load_profile("bob"), CITY) == ["Bern"]


def test_an_empty_filter_selects_nothing(store: Store) -> None:
    play(store, "I live in Rome", (CITY, "Rome"))
    assert store.operations("alice", "") == () and store.turns("alice", "") == () and store.turns("") == ()
    assert len(store.operations("alice", CITY)) == 1 and store.operations("alice", LIKES) == ()


def test_a_session_that_exists_is_gone_on_with(store: Store) -> None:
    assert store.start_session("alice", "s1") == store.start_session("alice", "s1") == "s1"
    assert store.start_session("alice") != store.start_session("alice")
    store.ensure_user("alice")
    assert store.users() == ("alice",)


def test_consent_is_kept_by_category_and_can_be_taken_back(store: Store) -> None:
    store.set_consent("alice", "health", is_granted=True)
    store.set_consent("alice", "faith", is_granted=False)
    assert store.consents("alice") == {"faith": False, "health": True}
    store.set_consent("alice", "health", is_granted=False)
    assert store.consents("alice") == {"faith": False, "health": False}


def test_what_became_of_a_question_is_kept(store: Store) -> None:
    store.start_session("alice", "s1")
    store.record_ask("alice", "s1", CITY, AskState.ASKED)
    store.record_ask("alice", "s1", CITY, AskState.DECLINED)
    store.record_ask("alice", "s1", LIKES, AskState.ASKED)
    assert [(ask.path, ask.state, ask.at) for ask in store.asks("alice")] == [
        (CITY, AskState.DECLINED, NOON),
        (LIKES, AskState.ASKED, NOON),
    ]


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="expected a user who exists, got 'nobody'"):
        store.append_turn("nobody", "s1", "hello")
    store.ensure_user("alice")
    with pytest.raises(UsageError, match="expected a session of 'alice', got 's9'"):
        store.append_turn("alice", "s9", "hello")
    store.start_session("alice", "s1")
    with pytest.raises(UsageError, match="expected a turn of 'alice', got session 's1', turn 3"):
        store.commit_delta("alice", "s1", 3, ProfileDelta())
    with pytest.raises(UsageError, match="expected a user who exists"):
        store.edit("nobody", edited(CITY, "Rome"))


@pytest.mark.parametrize("user_id", ["", "a\0b", "x" * 201, "line\nbreak"])
def test_an_id_that_cannot_be_one_is_refused(store: Store, user_id: str) -> None:
    with pytest.raises(UsageError, match="expected user_id to be 1 to 200 printable characters"):
        store.start_session(user_id)


@pytest.mark.parametrize(("text", "message"), [("a\0b", "got a NUL"), ("a\ud800b", "half a surrogate pair")])
def test_text_that_no_database_keeps_is_refused_and_an_answer_is_mended(store: Store, text: str, message: str) -> None:
    store.start_session("alice", "s1")
    with pytest.raises(DataError, match=message):
        store.append_turn("alice", "s1", text)
    store.append_turn("alice", "s1", "hello")
    store.set_response("alice", "s1", 0, text)
    assert [turn.response for turn in store.turns("alice")] == ["a\ufffdb"]


def test_operations_that_must_not_reach_the_log_are_refused(store: Store) -> None:
    play(store, "hello")
    with pytest.raises(ProfileError, match=r"got one; call Store\.forget"):
        store.edit("alice", edited(CITY, "Rome", OpKind.FORGET))
    with pytest.raises(ProfileError, match="expected a value to add"):
        store.edit("alice", edited(CITY, "  "))
    with pytest.raises(ProfileError, match="expected an edit to have the source edited or imported, got 'stated'"):
        store.edit("alice", ProfileDelta((learned(CITY, "Rome", "q", "s1", 0),)))
    with pytest.raises(UsageError, match="expected a time with a time zone"):
        store.append_turn("alice", "s1", "hello", at=datetime(2026, 1, 1))
    assert store.operations("alice") == () and store.verify().problems == ()


def test_a_megabyte_and_every_script_come_back_byte_for_byte(store: Store) -> None:
    store.start_session("alice", "s1")
    for text in ("x" * 1_000_000, "寿司 👩‍👩‍👧 \u202eabc\u202c e\u0301 é \u2028 \x1b[31m \U000e0041", ""):
        index = store.append_turn("alice", "s1", text)
        assert store.turns("alice")[index].utterance == text


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(texts, deltas(free_text=True)), max_size=6), order=st.randoms(use_true_random=False))
def test_the_stored_profile_is_the_fold_of_the_log_in_whatever_order_turns_are_inferred(store: Store, turns, order) -> None:  # type: ignore[no-untyped-def]
    user_id = f"user-{order.random()}-{len(store.users())}"
    store.start_session(user_id, "s1")
    for said, _ in turns:
        store.append_turn(user_id, "s1", said)
    for index in order.sample(range(len(turns)), len(turns)):
        commit = store.commit_delta(user_id, "s1", index, turns[index][1])
        assert commit.profile == store.load_profile(user_id) == fold(store.operations(user_id))
    assert store.operations(user_id) == tuple(op for _, delta in turns for op in delta.operations)
    assert [turn.utterance for turn in store.turns(user_id)] == [said for said, _ in turns]
    store.delete_user(user_id)


def test_the_source_of_an_import_is_kept(store: Store) -> None:
    store.ensure_user("alice")
    (op,) = edited(CITY, "Rome").operations
    store.edit("alice", ProfileDelta((replace(op, source=Source.IMPORTED),)))
    assert store.operations("alice")[0].source is Source.IMPORTED
