"""PersonalAgent: load, infer, apply, save, check, then answer or ask.

What the user said is on disk before any model is called; model calls happen outside transactions; operations are merged slot by
slot inside one. A policy that fails or cannot be read costs nothing that was said: the turn waits and is inferred later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from personalagent.config import Settings
from personalagent.dialogue import Message
from personalagent.edits import setting
from personalagent.elicitation import (
    CALM_AFTER,
    Answer,
    AnswerKind,
    is_emergency,
    read_answer,
    resumes_asking,
    settle,
    stops_asking,
)
from personalagent.errors import LLMError, UsageError
from personalagent.inference import Gate, Inference, Notation, RefusalReason, infer
from personalagent.llm.base import LLM, open_llm
from personalagent.parsing import ParseOutcome
from personalagent.profile import Polarity, Profile, ProfileDelta, SlotOp, SlotValue, Source
from personalagent.reply import Learned, Reply
from personalagent.response import MAX_TOKENS, build_messages, with_question
from personalagent.schema import ProfileSchema, Slot, load_schema
from personalagent.store import EVERY_SLOT, AskState, Forgotten, Store
from personalagent.sufficiency import AskRules, Assessment, Decision, assess, relevant_values

T = TypeVar("T")

DECLINES_A_SESSION = 2
"""After so many refusals in a session nothing more is asked in it."""


class PersonalAgent:
    """A personal agent for many users; keep one per process and close it.

    Args:
        settings: defaults to ``Settings.load()``.
        policy, responder, store, schema: take the place of what the settings name.
        clock: the time, aware; tests give their own.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        policy: LLM | None = None,
        responder: LLM | None = None,
        store: Store | None = None,
        schema: ProfileSchema | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings or Settings.load()
        self.schema = schema or load_schema(self.settings.schema_file, categories=self.settings.categories)
        self.policy = policy or open_llm(self.settings.policy, "policy", self.settings)
        self.responder = responder or open_llm(self.settings.responder, "responder", self.settings)
        self.store = store or Store.open(self.settings.database_url)
        self.notation = notation_of(self.policy)
        self._clock = clock
        self._current: dict[str, str] = {}

    async def chat(self, user_id: str, text: str, *, session_id: str | None = None) -> Reply:
        """Learn from one utterance and respond to it.

        Without a ``session_id`` the agent goes on with the session that it last had with this user, or starts one.

        Raises:
            UsageError: the text is empty.
            LLMError: the responder gave no answer; the utterance is stored and what it taught is kept.
            StoreError: the database cannot be used.
        """
        learned = await self.learn(user_id, text, session_id=session_id)
        try:
            assessment = await self.assess_turn(user_id, text, learned)
        except LLMError:
            assessment = None
        used = relevant_values(assessment, learned.profile, self.schema) if assessment else ()
        answer = await self._answer(user_id, text, learned, assessment, used)
        await asyncio.to_thread(self.store.set_response, user_id, learned.session_id, learned.turn_index, answer)
        if assessment is not None and assessment.ask_for is not None:
            await self.note_asked(user_id, learned.session_id, assessment.ask_for)
        return Reply(
            text=answer,
            question=assessment.question if assessment else None,
            used=used,
            learned=learned.values,
            withheld=learned.withheld,
            assessment=assessment,
            inference=learned.inference,
            session_id=learned.session_id,
            turn_index=learned.turn_index,
        )

    def for_tenant(self, tenant: str) -> PersonalAgent:
        """Return an agent for another tenant's users: same models, same database. Closing it closes this one's."""
        if tenant == self.store.tenant:
            return self
        return PersonalAgent(
            self.settings,
            policy=self.policy,
            responder=self.responder,
            store=self.store.for_tenant(tenant),
            schema=self.schema,
            clock=self._clock,
        )

    def chat_sync(self, user_id: str, text: str, *, session_id: str | None = None) -> Reply:
        """Do ``chat`` from code that does not await."""
        return run_sync(self.chat(user_id, text, session_id=session_id))

    async def learn(self, user_id: str, text: str, *, session_id: str | None = None) -> Learned:
        """Keep one utterance and infer what it reveals, without responding.

        Where the policy cannot be reached or read, the turn stays queued and ``catch_up`` infers it later.

        Raises:
            UsageError: the text is empty.
            StoreError: the database cannot be used.
        """
        if not text.strip():
            raise UsageError("expected something that the user said, got an empty text; send at least one word")
        session_id = await self._session(user_id, session_id)
        at = self._clock()
        turn_index = await asyncio.to_thread(self.store.append_turn, user_id, session_id, text, at=at)
        return await self._infer_stored(user_id, session_id, turn_index, text, at)

    async def keep(
        self, user_id: str, text: str, *, session_id: str, message_key: str | None = None, threads: Executor | None = None
    ) -> int:
        """Keep one utterance and queue its inference in the same transaction; return the turn's index.

        Args:
            message_key: what a message that a client sends again has in common with the first; it adds nothing.
            threads: where the transaction runs, so that readers need not wait behind writers; the event loop's threads by default.

        Raises:
            UsageError: an id cannot be kept.
            StoreError: the database cannot be used.
        """
        keep = partial(self.store.append_turn, starts_session=True, enqueue=True, message_key=message_key, at=self._clock())
        return await asyncio.get_running_loop().run_in_executor(threads, keep, user_id, session_id, text)

    async def infer_kept(self, user_id: str, session_id: str, turn_index: int) -> Learned | None:
        """Infer a turn that was kept; None where that was done before."""
        pending = await self.store.read(self.store.pending_turns, user_id)
        for turn in pending:
            if (turn.session_id, turn.turn_index) == (session_id, turn_index):
                return await self._infer_stored(user_id, session_id, turn_index, turn.utterance, turn.at)
        return None

    async def note_asked(self, user_id: str, session_id: str, path: str) -> None:
        """Keep that a slot was asked for just now, so that what the user says next is read as the reply."""
        await asyncio.to_thread(self.store.record_ask, user_id, session_id, path, AskState.ASKED, at=self._clock())

    async def catch_up(self, user_id: str) -> tuple[Learned, ...]:
        """Infer the turns that were queued, oldest first."""
        pending = await self.store.read(self.store.pending_turns, user_id)
        return tuple([await self._infer_stored(user_id, t.session_id, t.turn_index, t.utterance, t.at) for t in pending])

    async def assess(self, user_id: str, request: str, *, session_id: str | None = None) -> Assessment:
        """Decide whether what is known about the user is enough for a request, and what to ask if it is not.

        Raises:
            UsageError: the request is empty.
            LLMError: the policy could not be reached.
        """
        if not request.strip():
            raise UsageError("expected a request, got an empty text; write what the user asks for")
        profile = await self.profile(user_id)
        rules = await self.store.read(self._rules, user_id, session_id)
        return await assess(
            request, profile, llm=self.policy, schema=self.schema, rules=rules, notation=self.notation, now=self._clock()
        )

    async def assess_turn(self, user_id: str, text: str, learned: Learned) -> Assessment:
        """Assess a turn that was learned; a reply to a question is about the request that the question came with, and gets no second one."""
        if learned.answer is None or learned.answer.kind is AnswerKind.OTHER or learned.turn_index == 0:
            return await self.assess(user_id, text, session_id=learned.session_id)
        turns = await asyncio.to_thread(self.store.turns, user_id, learned.session_id)
        request = next(turn.utterance for turn in turns if turn.turn_index == learned.turn_index - 1)
        return await assess(
            request,
            learned.profile,
            llm=self.policy,
            schema=self.schema,
            rules=AskRules(questions_left=0),
            notation=self.notation,
            now=self._clock(),
        )

    async def assess_kept(self, user_id: str, text: str, *, session_id: str) -> Assessment | None:
        """Assess a request whose turn may not be inferred yet; None for a reply to a question, which gets no second one.

        Raises:
            LLMError: the policy could not be reached.
        """
        asked = await self.store.read(self._asked_slot, user_id, session_id, self._clock())
        if asked is not None and read_answer(text, asked).kind is not AnswerKind.OTHER:
            return None
        return await self.assess(user_id, text, session_id=session_id)

    async def profile(self, user_id: str) -> Profile:
        """Return what is known about a user; empty for a new one."""
        return await self.store.read(self.store.load_profile, user_id)

    async def grant(self, user_id: str, category: str, withheld: Learned | Reply | None = None) -> Profile:
        """Note that sensitive facts of a category may be kept, and keep those that a turn withheld for it.

        Raises:
            UsageError: the schema has no such category.
        """
        await self._set_consent(user_id, category, is_granted=True)
        profile = await self.profile(user_id)
        if withheld is None or not withheld.withheld or withheld.inference is None:
            return profile
        facts = [fact for fact in withheld.withheld if (slot := self.schema.find(fact.path)) and slot.category == category]
        said = next(t.utterance for t in self.store.turns(user_id, withheld.session_id) if t.turn_index == withheld.turn_index)
        gate = Gate(said, profile, self.schema, withheld.session_id, withheld.turn_index, self._clock())
        delta, _, _ = gate.run(facts)
        return await self._edit(user_id, delta.operations)

    async def deny(self, user_id: str, category: str) -> None:
        """Note that sensitive facts of a category must not be kept, and need not be asked about again."""
        await self._set_consent(user_id, category, is_granted=False)

    async def edit(self, user_id: str, path: str, value: str, *, polarity: Polarity = Polarity.NEUTRAL) -> Profile:
        """Set a value by the user's own hand; in a slot of one value it replaces the old one.

        Raises:
            SchemaError: the schema has no such slot.
            UsageError: the value is not one of the slot's type.
        """
        op = setting(self.schema, path, value, polarity=polarity, at=self._clock())
        await asyncio.to_thread(self.store.ensure_user, user_id)
        return await self._edit(user_id, (op,))

    async def forget(self, user_id: str, path: str, value: str = "") -> Forgotten:
        """Erase a value of a slot, or all of them, as if it had never been said.

        Raises:
            SchemaError: the schema has no such slot.
        """
        return await asyncio.to_thread(self.store.forget, user_id, self.schema.slot(path).path, value, at=self._clock())

    async def aclose(self) -> None:
        """Close the models and the store; may be called twice."""
        await self.policy.aclose()
        await self.responder.aclose()
        await asyncio.to_thread(self.store.close)

    async def _session(self, user_id: str, session_id: str | None) -> str:
        wanted = session_id or self._current.get(user_id)
        self._current[user_id] = await asyncio.to_thread(self.store.start_session, user_id, wanted)
        return self._current[user_id]

    async def _infer_stored(self, user_id: str, session_id: str, turn_index: int, text: str, said_at: datetime) -> Learned:
        """Infer a turn that is on disk and commit what it reveals; what the policy cannot do now stays queued."""
        profile = await self.profile(user_id)
        consent = await self.store.read(self._consent, user_id)
        asked = await self.store.read(self._asked_slot, user_id, session_id, said_at)
        answer = read_answer(text, asked) if asked else None
        inference = Inference(ParseOutcome.OK, ProfileDelta())
        try:
            if answer is None or not answer.is_settled:
                inference = await infer(
                    text,
                    profile,
                    llm=self.policy,
                    schema=self.schema,
                    at=self._clock(),
                    session_id=session_id,
                    turn_index=turn_index,
                    notation=self.notation,
                    consent=consent,
                    asked=asked,
                )
        except LLMError as error:
            await asyncio.to_thread(self.store.defer_inference, user_id, session_id, turn_index, type(error).__name__)
            return Learned(session_id, turn_index, None, profile, error)
        if inference.outcome is ParseOutcome.UNREADABLE:
            await asyncio.to_thread(self.store.defer_inference, user_id, session_id, turn_index, inference.outcome.value)
            return Learned(session_id, turn_index, inference, profile)
        if asked is not None and answer is not None:
            gate = Gate(text, profile, self.schema, session_id, turn_index, self._clock(), consent)
            inference = replace(inference, delta=ProfileDelta(settle(answer, asked, inference.delta.operations, gate)))
        asks = _closed_asks(text, asked, answer, inference.delta)
        withheld = any(refusal.reason is RefusalReason.NO_CONSENT for refusal in inference.refusals)
        commit = await asyncio.to_thread(
            self.store.commit_delta, user_id, session_id, turn_index, inference.delta, asks=asks, withheld=withheld
        )
        return Learned(session_id, turn_index, inference, commit.profile, answer=answer)

    async def _answer(
        self, user_id: str, text: str, learned: Learned, assessment: Assessment | None, used: tuple[SlotValue, ...]
    ) -> str:
        """Write the reply; a question that must come first needs no model."""
        if assessment is not None and assessment.decision is Decision.ASK and assessment.question:
            return assessment.question
        history = await asyncio.to_thread(self._history, user_id, learned)
        asks = assessment is not None and assessment.decision is Decision.ANSWER_AND_ASK
        completion = await self.responder.complete(build_messages(text, used, history, asks=asks), max_tokens=MAX_TOKENS)
        answer = completion.text.strip()
        return with_question(answer, assessment.question) if assessment and assessment.question else answer

    def _history(self, user_id: str, learned: Learned) -> list[Message]:
        messages: list[Message] = []
        for turn in self.store.turns(user_id, learned.session_id):
            if turn.turn_index < learned.turn_index and turn.response is not None:
                messages += [Message("user", turn.utterance), Message("assistant", turn.response)]
        return messages

    def _asked_slot(self, user_id: str, session_id: str, said_at: datetime) -> Slot | None:
        """Return the slot that the last reply of a session asked for; what was said before the question is no reply to it."""
        asks = [ask for ask in self.store.asks(user_id) if ask.session_id == session_id and ask.state is AskState.ASKED]
        asks = [ask for ask in asks if ask.at <= said_at]
        return self.schema.find(asks[-1].path) if asks else None

    def _rules(self, user_id: str, session_id: str | None) -> AskRules:
        asks = self.store.asks(user_id)
        in_session = [ask for ask in asks if ask.session_id == session_id and ask.path != EVERY_SLOT]
        here = {ask.path for ask in in_session}
        is_unwelcome = sum(ask.state is AskState.DECLINED for ask in in_session) >= DECLINES_A_SESSION
        recent = self.store.turns(user_id, session_id)[-CALM_AFTER:] if session_id else ()
        about_all = [ask.state for ask in asks if ask.path == EVERY_SLOT]
        return AskRules(
            is_muted=about_all[-1:] == [AskState.DECLINED],
            declined=frozenset(ask.path for ask in asks if ask.state is AskState.DECLINED),
            asked=frozenset(here),
            is_urgent=any(is_emergency(turn.utterance) for turn in recent),
            questions_left=0 if is_unwelcome else self.settings.questions_per_session - len(here),
            consent=None if self.settings.consent != ("none",) else frozenset(),
        )

    def _consent(self, user_id: str) -> frozenset[str] | None:
        """Return the categories whose sensitive facts may be kept; None for all."""
        setting = self.settings.consent
        if setting == ("all",):
            return None
        granted = {category for category, is_granted in self.store.consents(user_id).items() if is_granted}
        return frozenset(granted if setting in (("ask",), ("none",)) else granted | set(setting))

    async def _set_consent(self, user_id: str, category: str, *, is_granted: bool) -> None:
        known = [c.id for c in self.schema.categories]
        if category not in known:
            raise UsageError(f"expected a category ({', '.join(known)}), got {category!r}; choose one")
        await asyncio.to_thread(self.store.set_consent, user_id, category, is_granted=is_granted)

    async def _edit(self, user_id: str, operations: tuple[SlotOp, ...]) -> Profile:
        delta = ProfileDelta(tuple(replace(op, source=Source.EDITED) for op in operations))
        commit = await asyncio.to_thread(self.store.edit, user_id, delta)
        return commit.profile


def _closed_asks(text: str, asked: Slot | None, answer: Answer | None, delta: ProfileDelta) -> dict[str, AskState]:
    """Return what became of the question, and whether the user wants any at all."""
    states: dict[str, AskState] = {}
    if asked is not None and answer is not None:
        is_answered = any(op.path == asked.path for op in delta.operations)
        other = AskState.DECLINED if answer.kind is AnswerKind.DECLINED else AskState.UNANSWERED
        states[asked.path] = AskState.ANSWERED if is_answered else other
    if stops_asking(text):
        states[EVERY_SLOT] = AskState.DECLINED
    elif resumes_asking(text):
        states[EVERY_SLOT] = AskState.ANSWERED
    return states


def notation_of(policy: LLM) -> Notation:
    """Return what a policy was taught to write: ``compact`` for the embedded model with its adapter, else ``general``."""
    return "compact" if getattr(policy, "adapter", None) is not None else "general"


def run_sync(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine from code that does not await, also where an event loop is already running (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
