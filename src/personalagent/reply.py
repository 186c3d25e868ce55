"""What the agent makes of one utterance: what it learned, and the reply with its reasons."""

from __future__ import annotations

from dataclasses import dataclass

from personalagent.elicitation import Answer
from personalagent.errors import LLMError
from personalagent.inference import Inference, RefusalReason
from personalagent.parsing import Fact, ParseOutcome
from personalagent.profile import Profile, SlotValue
from personalagent.sufficiency import Assessment


@dataclass(frozen=True, slots=True)
class Learned:
    """What one turn taught the agent."""

    session_id: str
    turn_index: int
    inference: Inference | None
    """None where the policy could not be reached: the turn is queued."""
    profile: Profile
    """The profile after the turn, as the store holds it."""
    error: LLMError | None = None
    """Why the policy could not be reached."""
    answer: Answer | None = None
    """How the turn was read as a reply, where the agent had just asked for something."""

    @property
    def values(self) -> tuple[SlotValue, ...]:
        """Return the slot values that the turn added or changed."""
        if self.inference is None:
            return ()
        changed = {(op.path, op.value) for op in self.inference.delta.operations}
        return tuple(value for value in self.profile if (value.path, value.value) in changed)

    @property
    def is_queued(self) -> bool:
        """Tell whether the turn still has to be inferred: the policy could not be reached or read."""
        return self.inference is None or self.inference.outcome is ParseOutcome.UNREADABLE

    @property
    def withheld(self) -> tuple[Fact, ...]:
        """Return the sensitive facts that wait for the user's consent."""
        refusals = self.inference.refusals if self.inference else ()
        return tuple(refusal.fact for refusal in refusals if refusal.reason is RefusalReason.NO_CONSENT)


@dataclass(frozen=True, slots=True)
class Reply:
    """The agent's response to one utterance, and why it is what it is."""

    text: str
    """Answer and question together, as the user reads them."""
    question: str | None
    used: tuple[SlotValue, ...]
    """The preferences that the responder was given."""
    learned: tuple[SlotValue, ...]
    withheld: tuple[Fact, ...]
    """Sensitive facts that are kept only after ``PersonalAgent.grant``."""
    assessment: Assessment | None
    """None where the policy could not be reached."""
    inference: Inference | None
    session_id: str
    turn_index: int
