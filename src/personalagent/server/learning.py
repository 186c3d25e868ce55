"""What happens to a user's words around an answer: kept first, then inferred before or after it, with a question at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from personalagent.agent import PersonalAgent
from personalagent.errors import LLMError, PersonalAgentError
from personalagent.profile import SlotValue
from personalagent.reply import Learned
from personalagent.server.chat_request import ChatRequest
from personalagent.sufficiency import Assessment, assess_without_policy, relevant_values

MAX_ASSESSING = 4
"""Requests that the policy looks at beside their answers; where there are more, the later ones get no question."""
WRITERS = 4
"""Threads in which turns and answers are kept; they share commits."""
_log = logging.getLogger(__name__)


class UserLocks:
    """A lock per user, so that one process infers a user's turns one after the other and none of them twice."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant: str, user_id: str) -> asyncio.Lock:
        """Return the user's lock."""
        key = (tenant, user_id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


@dataclass(slots=True)
class OpenTurn:
    """A user's request between its arrival and the end of its answer."""

    agent: PersonalAgent
    user_id: str
    session_id: str
    later: Callable[[Callable[[], None]], None]
    """Does something once the caller has the answer."""
    turn_index: int | None = None
    """None where nothing is kept, or not yet."""
    keeping: asyncio.Task[int] | None = None
    """Puts the user's words on disk, while the model already reads them."""
    used: tuple[SlotValue, ...] = ()
    learned: Learned | None = None
    """What the turn taught; None where it is not inferred yet."""
    assessing: asyncio.Task[Assessment | None] | None = None
    asked: Assessment | None = None
    """The assessment whose question was put."""

    async def kept(self) -> None:
        """Return when the user's words are on disk, with the job to infer them; nothing is answered before.

        Raises:
            UsageError: the user's or the session's id, or the text, cannot be kept.
            StoreError: the database cannot be used.
        """
        if self.keeping is not None:
            self.turn_index = await asyncio.shield(self.keeping)

    async def question(self, wait_s: float) -> str | None:
        """Return the question that the answer should end with, if the policy says so in time."""
        if self.assessing is None:
            return None
        done, _ = await asyncio.wait({self.assessing}, timeout=wait_s)
        try:
            assessment = self.assessing.result() if done else None
        except PersonalAgentError:
            assessment = None
        if assessment is None or not assessment.question:
            return None
        self.asked = assessment
        return assessment.question

    async def end(self, text: str | None) -> None:
        """Keep what was asked in the answer, and soon the answer, unless it is None for a broken one. A failure costs the caller nothing."""
        self.close()
        if self.turn_index is None:
            return
        if text is not None:
            self.later(partial(self.agent.store.set_response, self.user_id, self.session_id, self.turn_index, text))
        try:
            if self.asked is not None and self.asked.ask_for is not None:
                await self.agent.note_asked(self.user_id, self.session_id, self.asked.ask_for)
        except PersonalAgentError as error:
            _log.warning("a question could not be noted: %s", type(error).__name__)

    def close(self) -> None:
        """Stop what still runs beside the answer."""
        if self.assessing is not None:
            self.assessing.cancel()

    async def extension(self) -> dict[str, Any]:
        """Return the extension object of the answer."""
        values = self.learned.values if self.learned else ()
        version = await self.agent.store.read(self.agent.store.profile_version, self.user_id)
        return {
            "slots_used": list(dict.fromkeys(value.path for value in self.used)),
            "learned": [{"slot": v.path, "value": v.value, "polarity": v.polarity} for v in values],
            "question": self.asked.question if self.asked else None,
            "profile_version": version,
        }


class Afterwards:
    """What is done for users when they have their answers: in order for each, and before the same user's next words are kept."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._last: dict[tuple[str, str], asyncio.Task[None]] = {}

    def add(self, tenant: str, user_id: str, work: Callable[[], None]) -> None:
        """Do something for a user, after what was added before."""
        key = (tenant, user_id)
        task = asyncio.create_task(self._done(self._last.get(key), work))
        self._last[key] = task
        task.add_done_callback(partial(self._forget, key))

    async def done(self, tenant: str, user_id: str) -> None:
        """Return when nothing is left to do for a user."""
        if (task := self._last.get((tenant, user_id))) is not None:
            await asyncio.wait({task})

    async def all_done(self) -> None:
        """Return when nothing is left to do."""
        while self._last:
            await asyncio.wait(set(self._last.values()))

    async def _done(self, before: asyncio.Task[None] | None, work: Callable[[], None]) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except PersonalAgentError as error:
            _log.warning("an answer could not be kept: %s", type(error).__name__)

    def _forget(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._last.get(key) is task:
            del self._last[key]


class Learner:
    """Opens turns as the setting ``learn_mode`` says; ``wake`` tells the background worker that there is something to infer."""

    def __init__(self, locks: UserLocks, wake: Callable[[], None]) -> None:
        self._locks = locks
        self._wake = wake
        self._assessing: set[asyncio.Task[Assessment | None]] = set()
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self.afterwards = Afterwards(self._threads)

    async def open(self, agent: PersonalAgent, tenant: str, user_id: str, session_id: str, call: ChatRequest) -> OpenTurn:
        """Begin to keep what the user said, where it may be kept, and choose the preferences for the answer.

        Raises:
            UsageError: the user's or the session's id, or the text, cannot be kept.
            StoreError: the database cannot be used; an answer is given only to what is on disk.
        """
        turn = OpenTurn(agent, user_id, session_id, partial(self.afterwards.add, tenant, user_id))
        said = call.said
        if call.mode == "incognito" or not said:
            return await self._chosen(turn, call)
        turn.keeping = asyncio.create_task(self._keep(turn, tenant, call))
        turn.keeping.add_done_callback(_looked_at)
        if agent.settings.learn_mode == "before":
            await turn.kept()
            return await self._inferred(turn, tenant, call)
        await self._chosen(turn, call)
        if call.takes_question and len(self._assessing) < MAX_ASSESSING:
            turn.assessing = asyncio.create_task(agent.assess_kept(user_id, said, session_id=session_id))
            self._assessing.add(turn.assessing)
            turn.assessing.add_done_callback(self._assessed)
        return turn

    async def _keep(self, turn: OpenTurn, tenant: str, call: ChatRequest) -> int:
        await self.afterwards.done(tenant, turn.user_id)
        index = await turn.agent.keep(
            turn.user_id, call.said, session_id=turn.session_id, message_key=call.message_key, threads=self._threads
        )
        if turn.agent.settings.learn_mode == "after":
            self._wake()
        return index

    async def aclose(self) -> None:
        """Finish what is left to do, and end the threads."""
        await self.afterwards.all_done()
        self._threads.shutdown(wait=False)

    def _assessed(self, task: asyncio.Task[Assessment | None]) -> None:
        self._assessing.discard(task)
        _looked_at(task)

    async def _inferred(self, turn: OpenTurn, tenant: str, call: ChatRequest) -> OpenTurn:
        """Infer and assess before the answer; where the policy is down, answer with the profile as it is."""
        assert turn.turn_index is not None
        # The job stays queued and finds nothing to do; it is there for the case that this process dies, or the policy does.
        async with self._locks.of(tenant, turn.user_id):
            turn.learned = await turn.agent.infer_kept(turn.user_id, turn.session_id, turn.turn_index)
        self._wake()
        try:
            if turn.learned is None:
                assessment = await turn.agent.assess_kept(turn.user_id, call.said, session_id=turn.session_id)
            else:
                assessment = await turn.agent.assess_turn(turn.user_id, call.said, turn.learned)
        except LLMError:
            assessment = None
        if assessment is None:
            return await self._chosen(turn, call)
        turn.used = relevant_values(assessment, await turn.agent.profile(turn.user_id), turn.agent.schema)
        if call.takes_question:
            turn.assessing = asyncio.create_task(_at_once(assessment))
        return turn

    async def _chosen(self, turn: OpenTurn, call: ChatRequest) -> OpenTurn:
        """Choose the preferences from the stored profile without any model."""
        profile = await turn.agent.profile(turn.user_id)
        if len(profile) and call.asked:
            assessment = assess_without_policy(call.asked, profile, turn.agent.schema)
            turn.used = relevant_values(assessment, profile, turn.agent.schema)
        return turn


async def _at_once(assessment: Assessment) -> Assessment:
    return assessment


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Look at a failure that nobody waits for any more, so that it is no warning of the event loop."""
    if not task.cancelled():
        task.exception()
