"""The HTTP shapes of the REST routes. A shape that the command line prints too has the same fields there."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonValue

from personalagent.portable import FORMAT
from personalagent.profile import Cardinality, OpKind, Polarity, SlotOp, Source
from personalagent.store import Logged
from personalagent.sufficiency import Decision

MAX_TEXT = 20_000
_QUOTE: dict[str, Any] = {"quote": "I love Thai food", "session_id": "s1", "turn_index": 0}
VALUE_EXAMPLE: dict[str, Any] = {
    "slot": "consumption_lifestyle.diet.cuisines",
    "value": "Thai",
    "polarity": "like",
    "source": "stated",
    "observed_at": "2026-03-01T12:00:00Z",
    "confirmed_at": None,
    "valid_to": None,
    "evidence": [_QUOTE],
}
_OPERATION: dict[str, Any] = {
    "op": "add",
    "path": "consumption_lifestyle.diet.cuisines",
    "value": "Thai",
    "at": "2026-03-01T12:00:00Z",
    "polarity": "like",
    "source": "stated",
    "cardinality": "many",
    "evidence": _QUOTE,
}
_CHANGE: dict[str, Any] = {"said": 7, "position": 0, **_OPERATION}

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


def example(**fields: JsonValue) -> ConfigDict:
    """Return the settings of a shape that is sent, with an example of it."""
    return ConfigDict(json_schema_extra={"examples": [fields]}, use_attribute_docstrings=True)


def request(**fields: JsonValue) -> ConfigDict:
    """Return the settings of a shape that is received, with an example of it; unknown fields are refused."""
    return ConfigDict(json_schema_extra={"examples": [fields]}, use_attribute_docstrings=True, extra="forbid")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = example(
        type="urn:personalagent:problem:stale-version",
        title="Precondition Failed",
        status=412,
        detail="expected the profile at version 7, got version 8; read it again and repeat the change",
    )

    type: str
    """A URN that programs may compare."""
    title: str
    status: int
    detail: str
    """What was expected, what came, what to do."""
    errors: list[dict[str, str]] | None = None
    """For status 422: ``where`` of each field that is wrong, and what was ``expected`` there."""


class Evidence(BaseModel):
    """The user's own words that prove a value."""

    model_config = example(**_QUOTE)

    quote: str
    session_id: str
    turn_index: int


class SlotValue(BaseModel):
    """One value of one slot, with what proves it."""

    model_config = example(**VALUE_EXAMPLE)

    slot: str
    """``category.group.slot``."""
    value: str
    polarity: Polarity
    source: Source
    observed_at: datetime
    confirmed_at: datetime | None
    valid_to: datetime | None
    """When the value stopped holding; null while it is open."""
    evidence: list[Evidence]


class Profile(BaseModel):
    """What is known about a user."""

    model_config = example(user_id="alice", profile_version=7, profile=[VALUE_EXAMPLE], history=[])

    user_id: str
    profile_version: int
    """Grows with every change; also the ETag."""
    profile: list[SlotValue]
    history: list[SlotValue]
    """Values that no longer hold."""


class SetValue(BaseModel):
    """A value to set; in a slot of one value it replaces the old one."""

    model_config = request(slot="location.city", value="Porto", polarity="neutral")

    slot: Text
    """``category.group.slot``, or ``group.slot``."""
    value: Text
    polarity: Polarity = Polarity.NEUTRAL


class ForgetValue(BaseModel):
    """A value to erase as if it had never been said."""

    model_config = request(slot="diet.cuisines", value="Thai")

    slot: Text
    value: str = Field("", max_length=MAX_TEXT)
    """Every value of the slot when it is empty."""


class ProfilePatch(BaseModel):
    """Values to set, all of them or none, and then values to erase, one after the other."""

    model_config = request(set=[{"slot": "location.city", "value": "Porto"}], forget=[{"slot": "diet.cuisines", "value": "Thai"}])

    set: list[SetValue] = Field(default_factory=list, max_length=200)
    forget: list[ForgetValue] = Field(default_factory=list, max_length=20)


class Operation(BaseModel):
    """One change of one slot, as the log has it."""

    model_config = example(**_OPERATION)

    op: OpKind
    path: str
    value: str
    at: datetime
    polarity: Polarity
    source: Source
    cardinality: Cardinality
    evidence: Evidence | None = None

    @classmethod
    def of(cls, operation: SlotOp) -> Operation:
        """Return an operation of the log."""
        return cls.model_validate(operation, from_attributes=True)


class LoggedOperation(Operation):
    """An operation with its place in the log."""

    model_config = example(**_CHANGE)

    said: int
    """Place of the turn or edit in what the user said."""
    position: int
    """Place in what that turn or edit changed."""

    @classmethod
    def of_entry(cls, entry: Logged) -> LoggedOperation:
        """Return an entry of the log."""
        return cls(said=entry.said, position=entry.position, **Operation.of(entry.operation).model_dump())


class History(BaseModel):
    """A page of the log, oldest first."""

    model_config = example(operations=[_CHANGE], next_cursor="NwAw")

    operations: list[LoggedOperation]
    next_cursor: str | None
    """For the next page; null on the last one."""


class Change(BaseModel):
    """What a request changed; the new version is also the ETag."""

    model_config = example(profile_version=8, operations=[_OPERATION], erased=0)

    profile_version: int
    operations: list[Operation]
    """What was appended to the log."""
    erased: int = 0
    """How many operations were erased from it."""


class Erased(BaseModel):
    """What was erased."""

    model_config = example(profile_version=9, operations=1, turns=1, also_in=[], is_scrubbed=True)

    profile_version: int
    operations: int
    turns: int
    """Turns whose text was removed or masked."""
    also_in: list[str]
    """Slots that still hold the same words in a value; they are other facts."""
    is_scrubbed: bool
    """Whether the bytes are gone from disk now; if not, another process reads, and they go when it ends."""


class ReviewQueue(BaseModel):
    """Values that were inferred and that the user neither confirmed nor repeated nor edited."""

    model_config = example(user_id="alice", profile_version=7, values=[VALUE_EXAMPLE])

    user_id: str
    profile_version: int
    values: list[SlotValue]


class Verdict(BaseModel):
    """What the user says about an inferred value; what is rejected no longer holds, but is not erased."""

    model_config = request(slot="consumption_lifestyle.diet.cuisines", value="Thai", verdict="confirm")

    slot: Text
    value: Text
    verdict: Literal["confirm", "reject"]


class Review(BaseModel):
    """Verdicts, kept all together or not at all."""

    model_config = request(verdicts=[{"slot": "diet.cuisines", "value": "Thai", "verdict": "confirm"}])

    verdicts: list[Verdict] = Field(min_length=1, max_length=200)


class Consents(BaseModel):
    """What the user allowed to be kept; null where they were not asked."""

    model_config = example(user_id="alice", categories={"health_wellbeing": True}, training=False)

    user_id: str
    categories: dict[str, bool | None]
    """Sensitive facts, by category of the schema."""
    training: bool
    """Whether what was said in reviewed sessions may be trained on."""


class Consent(BaseModel):
    """A consent, given or taken back."""

    model_config = request(is_granted=True)

    is_granted: bool


class Export(BaseModel):
    """Everything that is kept about a user."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"format": FORMAT, "user_id": "alice", "exported_at": "2026-03-01T12:00:00+00:00", "operations": [_OPERATION]}
            ]
        },
    )

    format: Literal["personalagent.profile/1"]
    user_id: str
    exported_at: str
    operations: list[Operation]


class AssessRequest(BaseModel):
    """A request of the user, to be assessed and not answered."""

    model_config = request(request="Any ideas for dinner tonight?", session_id="s1")

    request: Text
    session_id: str | None = None
    """Its questions so far count against the budget."""


class NotAsked(BaseModel):
    """A missing slot, and why it is not asked for."""

    model_config = example(slot="consumption_lifestyle.diet.pattern", reason="declined")

    slot: str
    reason: str


class Assessment(BaseModel):
    """What a request needs, what of it is known, and what the agent would do."""

    model_config = example(
        user_id="alice",
        request="Any ideas for dinner tonight?",
        needs=["consumption_lifestyle.diet.cuisines", "consumption_lifestyle.diet.pattern"],
        probabilities=[0.9, 0.7],
        known=[VALUE_EXAMPLE],
        stale=[],
        missing=["consumption_lifestyle.diet.pattern"],
        decision="answer_and_ask",
        ask_for="consumption_lifestyle.diet.pattern",
        question="Do you eat meat?",
        not_asked=[],
        reasons=["Not known: diet pattern."],
        outcome="ok",
    )

    user_id: str
    request: str
    needs: list[str]
    probabilities: list[float]
    known: list[SlotValue]
    stale: list[SlotValue]
    missing: list[str]
    decision: Decision
    ask_for: str | None
    question: str | None
    not_asked: list[NotAsked]
    reasons: list[str]
    outcome: str
