"""Many sessions of one user, in threads and in processes, at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from personalagent.profile import ProfileDelta, fold
from personalagent.store import Store
from tests.store.turns import LIKES, edited, learned, play

WRITERS, TURNS = 8, 20


def run(tasks: int, task: Callable[[int], None]) -> None:
    """Run a task in as many threads."""
    with ThreadPoolExecutor(tasks) as pool:
        for done in [pool.submit(task, number) for number in range(tasks)]:
            done.result()


def test_eight_sessions_at_once_lose_no_operation(store: Store) -> None:
    store.ensure_user("alice")

    def session(number: int) -> None:
        for turn in range(TURNS):
            play(store, f"I like {number}-{turn}", (LIKES, f"thing{number}x{turn}"), session_id=f"s{number}")

    run(WRITERS, session)
    profile = store.load_profile("alice")
    assert {value.value for value in profile} == {f"thing{n}x{t}" for n in range(WRITERS) for t in range(TURNS)}
    assert profile == fold(store.operations("alice"))
    assert [turn.turn_index for turn in store.turns("alice", "s3")] == list(range(TURNS))
    assert store.verify().problems == ()


def test_two_stores_on_one_database_lose_no_operation(url: str) -> None:
    with Store.open(url) as one, Store.open(url) as other:
        one.ensure_user("alice")

        def session(number: int) -> None:
            for turn in range(TURNS):
                play((one, other)[number % 2], f"{number}-{turn}", (LIKES, f"thing{number}x{turn}"), session_id=f"s{number}")

        run(4, session)
        assert len(one.load_profile("alice")) == 4 * TURNS
        assert one.verify().problems == other.verify().problems == ()


def test_the_same_fact_from_eight_sessions_is_one_value_with_eight_proofs(store: Store) -> None:
    run(WRITERS, lambda number: play(store, "I like tea", (LIKES, "tea"), session_id=f"s{number}") and None)
    (tea,) = store.load_profile("alice")
    assert len(tea.evidence) == WRITERS


def test_a_turn_committed_by_eight_at_once_is_committed_once(store: Store) -> None:
    store.start_session("alice", "s1")
    store.append_turn("alice", "s1", "I like tea")
    delta = ProfileDelta((learned(LIKES, "tea", "I like tea", "s1", 0),))
    with ThreadPoolExecutor(WRITERS) as pool:
        commits = [pool.submit(store.commit_delta, "alice", "s1", 0, delta) for _ in range(WRITERS)]
        assert sorted(commit.result().is_repeat for commit in commits) == [False] + [True] * (WRITERS - 1)
    assert len(store.operations("alice")) == 1


def test_what_the_user_forgets_while_sessions_write_stays_forgotten(store: Store) -> None:
    store.start_session("alice", "s0")

    def act(number: int) -> None:
        for turn in range(5):
            if number == 0:
                store.forget("alice", LIKES, "tea")
            elif number == 1:
                store.edit("alice", edited(LIKES, f"edit{turn}"))
            else:
                play(store, f"{number}-{turn}", (LIKES, f"thing{number}x{turn}"), session_id=f"s{number}")

    play(store, "I like tea", (LIKES, "tea"), session_id="s0")
    run(4, act)
    held = {value.value for value in store.load_profile("alice")}
    assert "tea" not in held and {f"edit{turn}" for turn in range(5)} <= held
    assert store.verify().problems == ()


def test_a_new_database_opened_by_eight_at_once_is_made_once(url: str) -> None:
    def start(number: int) -> None:
        with Store.open(url) as store:
            store.start_session("alice", f"s{number}")

    run(WRITERS, start)
    with Store.open(url) as store:
        assert store.users() == ("alice",) and len(store.session_ids("alice")) == WRITERS


WRITER = """
import sys
from personalagent.store import Store
from tests.store.turns import LIKES, play
with Store.open(sys.argv[1]) as store:
    for turn in range(20):
        play(store, f"{sys.argv[2]}-{turn}", (LIKES, f"thing{sys.argv[2]}x{turn}"), session_id="s" + sys.argv[2])
"""


def test_four_processes_at_once_lose_no_operation(url: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, url]
    writers = [subprocess.Popen([*command, str(number)], cwd=root) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    with Store.open(url) as store:
        assert len(store.load_profile("alice")) == 80 and len(store.turns("alice")) == 80
        assert store.verify().problems == ()
