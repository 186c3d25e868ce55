"""Memobase's calls about a profile: read, change, erase, and as text for a prompt."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import TypeAdapter, ValidationError

from personalagent.profile import Profile, ProfileDelta, SlotOp, SlotValue
from personalagent.server.auth import Principal, Scope, require
from personalagent.server.memobase_entries import (
    Entry,
    Wanted,
    chosen,
    context_of,
    emptying,
    entries_of,
    entry_id,
    operations_of,
    profile_config,
    slot_of,
)
from personalagent.server.memobase_wire import (
    ENTRIES_EXAMPLE,
    MemobaseAnswer,
    MemobaseEntry,
    MemobaseMessage,
    answer,
    memobase_router,
)
from personalagent.server.problem import RestError
from personalagent.server.rest_access import Access, Reader, Writer
from personalagent.sufficiency import assess_without_policy, relevant_values

router = memobase_router()

_LIMITS = TypeAdapter(dict[str, Annotated[int, Query(ge=0)]])
_CHATS = TypeAdapter(list[MemobaseMessage])
_NO_ENTRY = "expected the id of an entry of this user's profile, got no such entry; read the profile again"


class Filters:
    """The query parameters that profile and context have in common."""

    def __init__(
        self,
        prefer_topics: Annotated[list[str] | None, Query(description="These topics come first.")] = None,
        only_topics: Annotated[list[str] | None, Query(description="No other topics.")] = None,
        max_subtopic_size: Annotated[int | None, Query(ge=0, description="Entries of a topic at most.")] = None,
        topic_limits_json: Annotated[
            str | None, Query(description='The same for topics by name, e.g. `{"diet": 3}`, instead of max_subtopic_size.')
        ] = None,
        chats_str: Annotated[
            str | None, Query(description="The last messages in JSON: only what bears on the user's last one is wanted.")
        ] = None,
    ) -> None:
        self._prefer_topics = prefer_topics or []
        self._only_topics = only_topics or []
        self._max_subtopic_size = max_subtopic_size
        self._topic_limits_json = topic_limits_json
        self._chats_str = chats_str

    def wanted(self, max_tokens: int | None) -> Wanted:
        """Return which entries are wanted.

        Raises:
            RestError: the limits are no JSON object of numbers.
        """
        limits: dict[str, int] = _read("topic_limits_json", _LIMITS, self._topic_limits_json) or {}
        return Wanted(max_tokens, self._prefer_topics, self._only_topics, self._max_subtopic_size, limits)

    def request(self) -> str | None:
        """Return what the user said last; None where no messages were given.

        Raises:
            RestError: the messages are no JSON list of messages.
        """
        chats: list[MemobaseMessage] = _read("chats_str", _CHATS, self._chats_str) or []
        return next((message.content for message in reversed(chats) if message.role == "user"), None)


Filtered = Annotated[Filters, Depends()]


@router.get("/users/profile/{user_id}", responses={200: {"content": {"application/json": {"example": ENTRIES_EXAMPLE}}}})
async def get_profile(
    reader: Reader,
    filters: Filtered,
    max_token_size: Annotated[int | None, Query(ge=0, description="Of all entries together, estimated on the high side.")] = None,
) -> MemobaseAnswer:
    """Return the user's profile, an entry for each slot that is known."""
    profile = await reader.agent.profile(reader.user_id)
    entries = chosen(_relevant(reader, profile, filters.request()), filters.wanted(max_token_size))
    return answer(profiles=[entry.wire() for entry in entries])


@router.post("/users/profile/{user_id}")
async def add_profile(writer: Writer, entry: MemobaseEntry) -> MemobaseAnswer:
    """Add values to a slot by the user's own hand; in a slot of one value the new one replaces the old one."""
    schema = writer.agent.schema
    slot = slot_of(schema, entry.attributes.topic, entry.attributes.sub_topic)
    await _edit(writer, operations_of(schema, slot, entry.content, datetime.now(UTC)))
    return answer(id=entry_id(writer.user_id, slot.path))


@router.put("/users/profile/{user_id}/{profile_id}")
async def update_profile(writer: Writer, profile_id: str, entry: MemobaseEntry) -> MemobaseAnswer:
    """Replace a slot's values by the user's own hand, or move them to another slot; the old ones no longer hold, but are not erased."""
    schema, at = writer.agent.schema, datetime.now(UTC)
    old = await _entry(writer, profile_id)
    slot = slot_of(schema, entry.attributes.topic, entry.attributes.sub_topic)
    left = schema.find(old.path)
    added = operations_of(schema, slot, entry.content, at)
    await _edit(writer, (emptying(old.path, (left or slot).cardinality, at), *added))
    return answer(id=entry_id(writer.user_id, slot.path))


@router.delete("/users/profile/{user_id}/{profile_id}")
async def delete_profile(writer: Writer, profile_id: str) -> MemobaseAnswer:
    """Erase a slot to the byte, as if it had never been said."""
    entry = await _entry(writer, profile_id)
    await asyncio.to_thread(writer.store.forget, writer.user_id, entry.path, at=datetime.now(UTC))
    return answer()


@router.get("/users/context/{user_id}")
async def get_context(
    reader: Reader,
    filters: Filtered,
    max_token_size: Annotated[int, Query(ge=0, description="Of the text, estimated on the high side.")] = 1000,
    customize_context_prompt: Annotated[
        str | None, Query(description="A text in which `{profile_section}` stands for the list; `{event_section}` stays empty.")
    ] = None,
    full_profile_and_only_search_event: Annotated[
        bool, Query(description="Whether the messages choose no entries; there are no events for them to choose.")
    ] = True,
) -> MemobaseAnswer:
    """Return the profile as text for a prompt: the block that the proxy puts into requests. Empty where nothing is known."""
    profile = await reader.agent.profile(reader.user_id)
    request = None if full_profile_and_only_search_event else filters.request()
    entries = chosen(_relevant(reader, profile, request), filters.wanted(None))
    return answer(context=context_of(entries, max_token_size, customize_context_prompt))


@router.get("/project/profile_config")
async def get_config(request: Request, principal: Annotated[Principal, Depends(require(Scope.PROFILE_READ))]) -> MemobaseAnswer:
    """Return the schema as a profile config."""
    return answer(profile_config=profile_config(request.app.state.agent.schema))


def _relevant(reader: Access, profile: Profile, request: str | None) -> tuple[Entry, ...]:
    """Return the entries that bear on a request; all of them without one."""
    only: tuple[SlotValue, ...] | None = None
    if request is not None:
        assessment = assess_without_policy(request, profile, reader.agent.schema)
        only = relevant_values(assessment, profile, reader.agent.schema)
    return entries_of(reader.user_id, profile, only)


async def _entry(writer: Access, profile_id: str) -> Entry:
    profile = await writer.agent.profile(writer.user_id)
    for entry in entries_of(writer.user_id, profile):
        if entry.entry_id == profile_id:
            return entry
    raise RestError(404, _NO_ENTRY)


async def _edit(writer: Access, operations: tuple[SlotOp, ...]) -> None:
    await asyncio.to_thread(writer.store.edit, writer.user_id, ProfileDelta(operations))


def _read(name: str, kind: TypeAdapter[Any], text: str | None) -> Any:
    try:
        return None if text is None else kind.validate_python(json.loads(text))
    except (ValueError, RecursionError, ValidationError):
        raise RestError(
            422, f"expected {name} to be JSON as /openapi.json describes it, got something else; correct it"
        ) from None
