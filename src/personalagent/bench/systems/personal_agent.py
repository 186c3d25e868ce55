"""PersonalAgent itself, by the code that serves it: it learns the history turn by turn, then is asked.

Each example gets a user of its own in a database of its own, which is removed afterwards. One session is one day, a turn a second; every
sensitive category is consented to, for the data sets' users are invented. ``personal-agent:3`` sees the first 3 categories of the schema.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Unpack

from personalagent.agent import PersonalAgent, notation_of
from personalagent.bench.conversation import Decoding, after_request
from personalagent.bench.metering import MeteredLLM, Phase, metered
from personalagent.bench.systems.base import SystemParts, SystemReply
from personalagent.config import Settings
from personalagent.datasets.example import Example
from personalagent.dialogue import Message
from personalagent.errors import LLMError, UsageError
from personalagent.llm.base import LLM, Completion
from personalagent.llm.wrapped import CompleteOptions, WrappedLLM
from personalagent.parsing import ParseOutcome
from personalagent.reply import Learned, Reply
from personalagent.schema import ProfileSchema, load_schema
from personalagent.store import Store

USER = "user"
FIRST_DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)


class _Clock:
    """The time of an example: it depends on nothing but the example."""

    def __init__(self) -> None:
        self.day = 0
        self._seconds = 0

    def __call__(self) -> datetime:
        self._seconds += 1
        return FIRST_DAY + timedelta(days=self.day, seconds=self._seconds)


class _Model(WrappedLLM):
    """A model of the agent as the benchmark has all systems use it: seeded, and its replies of the same length.

    A failure is kept: the agent carries on without its policy, but such an answer is not one to score.
    """

    def __init__(self, llm: MeteredLLM, decoding: Decoding, *, reply_tokens: int | None = None, after: str = "") -> None:
        super().__init__(llm)
        self._metered = llm
        self._decoding = decoding
        self._reply_tokens = reply_tokens
        self._after = after
        self.phase = Phase.HISTORY
        self.error: LLMError | None = None

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, **options: Unpack[CompleteOptions]) -> Completion:
        """Answer with the run's decoding; ``after`` follows the last message."""
        *before, last = messages
        if self._reply_tokens is not None:
            max_tokens, options["temperature"] = self._reply_tokens, self._decoding.temperature
        if options.get("seed") is None:
            options["seed"] = self._decoding.seed
        shown = [*before, Message(last.role, last.content + self._after)]
        try:
            return await self._metered.during(self.phase).complete(shown, max_tokens=max_tokens, **options)
        except LLMError as error:
            self.error = error
            raise

    async def aclose(self) -> None:
        """Do nothing: the model is borrowed."""


@dataclass(frozen=True, slots=True)
class PersonalAgentSystem:
    """The agent with a profile, for one example after the other."""

    decoding: Decoding
    settings: Settings
    schema: ProfileSchema
    policy: LLM | None = None
    """The model that answers where it is None."""
    name: str = "personal-agent"

    @property
    def prompts(self) -> tuple[str, ...]:
        """Those of the policy's notation, and of the reply."""
        notation = notation_of(self.policy) if self.policy else "general"
        return (f"infer_{notation}", f"needs_{notation}", "answer", "bench_length", "bench_options")

    async def answer(self, example: Example, llm: LLM) -> SystemReply:
        """Learn the history, then answer the request; where there are options nothing is asked, for a letter is due.

        Raises:
            LLMError: a model gave no answer, the policy included.
        """
        policy = _Model(metered(self.policy or llm, like=llm), self.decoding)
        responder = _Model(
            metered(llm),
            self.decoding,
            reply_tokens=self.decoding.reply_tokens(example),
            after=after_request(example, self.decoding),
        )
        clock = _Clock()
        settings = self.settings.model_copy(
            update={"consent": ("all",)} | ({"questions_per_session": 0} if example.options else {})
        )
        with tempfile.TemporaryDirectory(prefix="personalagent-bench-") as folder:
            store = Store.open(f"sqlite:///{(Path(folder) / 'example.db').as_posix()}", clock=clock)
            agent = PersonalAgent(settings, policy=policy, responder=responder, store=store, schema=self.schema, clock=clock)
            try:
                learned, session_id = await _learn(agent, example, clock)
                policy.phase = responder.phase = Phase.REQUEST
                reply = await agent.chat(USER, example.request, session_id=session_id)
            finally:
                await agent.aclose()
        if policy.error is not None:
            raise policy.error
        return SystemReply(reply.text, reply.question, _trace(learned, reply))

    async def aclose(self) -> None:
        """Do nothing: the models are borrowed."""


async def _learn(agent: PersonalAgent, example: Example, clock: _Clock) -> tuple[list[Learned], str]:
    """Let the agent learn every turn; return what it learnt and the session that the request belongs to."""
    done: list[Learned] = []
    session_id = "1"
    for number, session in enumerate(example.sessions, 1):
        session_id, clock.day = str(number), number - 1
        for turn in session:
            learned = await agent.learn(USER, turn.utterance, session_id=session_id)
            if learned.error is not None:
                raise learned.error
            if turn.response is not None:
                agent.store.set_response(USER, session_id, learned.turn_index, turn.response)
            done.append(learned)
    return done, session_id


def _trace(learned: Sequence[Learned], reply: Reply) -> tuple[str, ...]:
    facts = [len(each.inference.delta.operations) for each in learned if each.inference is not None]
    unread = sum(each.inference is not None and each.inference.outcome is ParseOutcome.UNREADABLE for each in learned)
    lines = [f"history: {len(learned)} turns, {sum(facts)} facts kept, {unread} outputs of the policy unreadable"]
    lines += [f"used: {value.path} = {value.value}" for value in reply.used]
    if reply.assessment is not None:
        needs = ", ".join(reply.assessment.needs) or "nothing"
        lines.append(f"{reply.assessment.decision}: needs {needs}; asks for {reply.assessment.ask_for or 'nothing'}")
    return tuple(lines)


def open_personal_agent(variant: str, parts: SystemParts) -> PersonalAgentSystem:
    """Build ``personal-agent`` or ``personal-agent:N`` (the first N categories of the schema)."""
    if variant and not (variant.isascii() and variant.isdigit() and int(variant)):
        raise UsageError(
            f"expected personal-agent:N with a number of categories, got {f'personal-agent:{variant}'!r}; write personal-agent:3, :6, :9 or :11"
        )
    categories = int(variant) if variant else parts.settings.categories
    schema = load_schema(parts.settings.schema_file, categories=categories)
    name = f"personal-agent:{variant}" if variant else "personal-agent"
    return PersonalAgentSystem(parts.decoding, parts.settings, schema, parts.policy, name)
