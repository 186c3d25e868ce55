"""A process that is killed anywhere in a turn loses nothing it acknowledged (reliability K1, K3, K4).

The child plays turns as the agent does and writes a line to a file for every step that returned: that is what a user was told.
It is killed before the n-th statement or commit that reaches the database, for every n, and at random moments.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event

from personalagent import Message, PersonalAgent, ScriptedLLM, Settings
from personalagent.agent import run_sync
from personalagent.profile import ProfileDelta, fold
from personalagent.schema import ProfileSchema
from personalagent.store import InferenceState, Store
from tests.store.turns import CITY, LIKES, learned

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

SAID = [("I live in Paris", CITY, "Paris"), ("I moved to Rome", CITY, "Rome")]
CANARY = "Quetzalcoatlus"


class Acknowledged:
    """A file with a line per step that returned; it outlives the process that writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def note(self, *words: object) -> None:
        with self._path.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self._path.read_text().splitlines()]


def kill_at(store: Store, point: int) -> None:
    """Kill this process before its n-th statement or commit, counted from now."""
    left = point

    def step(*_: object, **__: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(store._database._engine, "before_cursor_execute", step)
    event.listen(store._database._engine, "commit", step)


def fresh(directory: Path, point: int) -> str:
    """Return the URL of a new database; the tables are made once and copied."""
    made, file = directory / "made.db", directory / f"{point}.db"
    if not made.exists():
        Store.open(f"sqlite:///{made}").close()
    shutil.copy(made, file)
    return f"sqlite:///{file}"


def in_child(work: Callable[[], None]) -> bool:
    """Run work in a child process; tell whether it was killed. A child that raises fails the test."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def play_turns(store: Store, acknowledged: Acknowledged, *, first: int = 0) -> None:
    """Play the turns as the agent does, saying what is done after each step."""
    store.start_session("alice", "s1")
    for number in range(first, len(SAID)):
        said, path, value = SAID[number]
        turn_index = store.append_turn("alice", "s1", said)
        acknowledged.note("said", turn_index)
        store.commit_delta("alice", "s1", turn_index, ProfileDelta((learned(path, value, said, "s1", turn_index),)))
        acknowledged.note("learned", turn_index)
        store.set_response("alice", "s1", turn_index, "Noted.")
        acknowledged.note("answered", turn_index)


def resume(store: Store, acknowledged: Acknowledged) -> None:
    """Do what the next process does: infer what is pending, then go on with what was not yet said."""
    for turn in store.pending_turns("alice"):
        _, path, value = SAID[turn.turn_index]
        operation = learned(path, value, turn.utterance, "s1", turn.turn_index)
        store.commit_delta("alice", "s1", turn.turn_index, ProfileDelta((operation,)))
    play_turns(store, acknowledged, first=len(store.turns("alice", "s1")))


def check(store: Store, acknowledged: Acknowledged) -> None:
    """Everything that was acknowledged is there, and the log folds to the profile."""
    turns = store.turns("alice", "s1")
    for step, index in acknowledged.lines():
        turn = turns[int(index)]
        assert turn.utterance == SAID[int(index)][0]
        if step == "learned":
            assert turn.inference is InferenceState.DONE
            assert any(op.value == SAID[int(index)][2] for op in store.operations("alice"))
        if step == "answered":
            assert turn.response == "Noted."
    assert store.load_profile("alice") == fold(store.operations("alice"))
    assert store.verify().problems == ()


def test_killed_between_any_two_steps_of_a_turn(tmp_path: Path) -> None:
    killed = 0
    for point in range(200):
        url = fresh(tmp_path, point)
        acknowledged = Acknowledged(tmp_path / f"{point}.txt")

        def work(url: str = url, point: int = point, acknowledged: Acknowledged = acknowledged) -> None:
            store = Store.open(url)
            kill_at(store, point)
            play_turns(store, acknowledged)

        was_killed = in_child(work)
        with Store.open(url) as store:
            check(store, acknowledged)
            resume(store, acknowledged)
            check(store, acknowledged)
            assert [turn.utterance for turn in store.turns("alice")] == [said for said, _, _ in SAID]
            assert [op.value for op in store.operations("alice")] == ["Paris", "Rome"]
            assert [value.value for value in store.load_profile("alice")] == ["Rome"]
        if not was_killed:
            break
        killed += 1
    assert 30 < killed < 199, "the sweep must reach the end of the last turn"


FACTS = {
    "I'm vegan": "consumption_lifestyle.diet.pattern | add | neutral | vegan | I'm vegan",
    "I like fado": "interests_preferences.music.genres | add | like | fado | I like fado",
}


def scripted_agent(url: str, schema: ProfileSchema) -> PersonalAgent:
    """An agent whose policy learns a fact of ``FACTS`` where the prompt has its words, and needs nothing."""

    def answer(messages: Sequence[Message]) -> str:
        text = messages[-1].content
        if "Request:" in text:
            return "<needs>none</needs>"
        said = text.rpartition("Utterance:")[2] if "Utterance:" in text else text[-200:]
        lines = [fact for words, fact in FACTS.items() if words in said]
        return "<classification>\n" + ("\n".join(lines) or "none") + "\n</classification>"

    settings, responder = Settings(database_url=url, consent=("all",)), ScriptedLLM(lambda _: "Noted.")
    return PersonalAgent(settings, policy=ScriptedLLM(answer), responder=responder, store=Store.open(url), schema=schema)


def test_the_agent_killed_between_any_two_steps_of_a_turn(tmp_path: Path, schema: ProfileSchema) -> None:
    for point in range(200):
        url = fresh(tmp_path, point)
        acknowledged = Acknowledged(tmp_path / f"{point}.txt")

        def work(url: str = url, point: int = point, acknowledged: Acknowledged = acknowledged) -> None:
            agent = scripted_agent(url, schema)
            kill_at(agent.store, point)
            for said in FACTS:
                agent.chat_sync("alice", said, session_id="s1")
                acknowledged.note("answered", said.replace(" ", "_"))

        was_killed = in_child(work)
        agent = scripted_agent(url, schema)
        before = len(agent.store.turns("alice"))
        run_sync(agent.catch_up("alice"))
        turns = agent.store.turns("alice")
        answered = [line[1].replace("_", " ") for line in acknowledged.lines()]
        assert [turn.utterance for turn in turns if turn.response == "Noted."][: len(answered)] == answered
        assert len(turns) == before and all(turn.inference is InferenceState.DONE for turn in turns)
        assert [value.value for value in agent.store.load_profile("alice")] == ["vegan", "fado"][: len(turns)]
        assert agent.store.verify().problems == ()
        agent.store.close()
        if not was_killed:
            break
    assert 30 < point < 199


def test_killed_while_the_tables_are_made(tmp_path: Path) -> None:
    """A migration happens whole or not at all, whenever it is cut off (K3)."""
    seed = random.Random(7)
    for number in range(12):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        child = os.fork()
        if child == 0:
            try:
                Store.open(url)
            finally:
                os._exit(0)
        time.sleep(seed.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with Store.open(url) as store:
            assert store.start_session("alice", "s1") == "s1" and store.verify().problems == ()


def test_killed_within_an_erasure_it_has_happened_or_not(tmp_path: Path) -> None:
    """Killed anywhere in ``forget``: all of the value is there or none; once more, and no byte is left (K3, E1)."""
    for point in range(100):
        directory = tmp_path / str(point)
        url = f"sqlite:///{directory / 'agent.db'}"
        with Store.open(url) as store:
            store.start_session("alice", "s1")
            for number, value in enumerate((CANARY, "tea", CANARY)):
                said = f"I like {value} very much"
                store.append_turn("alice", "s1", said)
                store.commit_delta("alice", "s1", number, ProfileDelta((learned(LIKES, value, said, "s1", number),)))

        def work(url: str = url, point: int = point) -> None:
            store = Store.open(url)
            kill_at(store, point)
            store.forget("alice", LIKES, CANARY)

        was_killed = in_child(work)
        with Store.open(url) as store:
            left = {CANARY in turn.utterance for turn in store.turns("alice") if "tea" not in turn.utterance}
            held = [value.value for value in store.load_profile("alice")]
            assert (left, held) in [({True}, [CANARY, "tea"]), ({False}, ["tea"])]
            assert store.verify().problems == ()
            if left == {False}:
                assert not any(CANARY.encode() in file.read_bytes() for file in directory.iterdir())
            store.forget("alice", LIKES, CANARY)
            assert not any(CANARY.encode() in file.read_bytes() for file in directory.iterdir())
        if not was_killed:
            break
    assert 10 < point < 99


def test_killed_at_random_moments_over_many_turns(tmp_path: Path) -> None:
    """One database, killed 25 times with kill -9, each time gone on with from what is on disk (K1, K4)."""
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    seed = random.Random(11)
    Store.open(url).close()
    acknowledged = Acknowledged(tmp_path / "acknowledged.txt")

    def work() -> None:
        store = Store.open(url)
        store.start_session("alice", "s1")
        while True:
            number = len(store.turns("alice", "s1"))
            index = store.append_turn("alice", "s1", f"I like thing{number}")
            acknowledged.note("said", index)
            store.commit_delta(
                "alice", "s1", index, ProfileDelta((learned(LIKES, f"thing{number}", f"I like thing{number}", "s1", index),))
            )
            acknowledged.note("learned", index)

    for _ in range(25):
        wanted = len(acknowledged.lines()) + seed.randint(1, 5)
        child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(1)
        while len(acknowledged.lines()) < wanted:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child ended by itself"
            time.sleep(0.001)
        time.sleep(seed.uniform(0.0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with Store.open(url) as store:
        utterances = [turn.utterance for turn in store.turns("alice")]
        assert utterances == [f"I like thing{number}" for number in range(len(utterances))]
        known = {op.value for op in store.operations("alice")}
        lines = acknowledged.lines()
        assert len(lines) >= 25
        assert all(int(index) < len(utterances) for _, index in lines)
        assert {f"thing{index}" for step, index in lines if step == "learned"} <= known
        assert {turn.utterance.removeprefix("I like ") for turn in store.pending_turns("alice")} == (
            {utterance.removeprefix("I like ") for utterance in utterances} - known
        )
        assert store.verify().problems == ()
