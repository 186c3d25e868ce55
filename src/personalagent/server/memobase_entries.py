"""A profile as Memobase's clients see it: one entry a slot, topic = group, sub_topic = slot; and which entries fit. Pure.

A slot of several values is one entry, since the clients look entries up by topic and sub_topic. Its id follows from user and slot, so it
stays the same while the content changes, and nothing has to be kept for it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import yaml

from personalagent.edits import setting
from personalagent.errors import UsageError
from personalagent.inference import tokens_at_most
from personalagent.profile import Cardinality, OpKind, Polarity, Profile, SlotOp, SlotValue, Source
from personalagent.response import preference_line
from personalagent.schema import ProfileSchema, Slot
from personalagent.server.personalise import preference_block

_BETWEEN = "; "
_STANCES = "|".join(each.value for each in Polarity if each is not Polarity.NEUTRAL)
_STANCE = re.compile(rf"(?P<value>.*\S)\s*\((?P<polarity>{_STANCES})\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of a user that is known."""

    entry_id: str
    path: str
    values: tuple[SlotValue, ...]

    @property
    def topic(self) -> str:
        """Return the slot's group."""
        return self.path.split(".")[1]

    @property
    def sub_topic(self) -> str:
        """Return the slot's own name."""
        return self.path.rpartition(".")[2]

    @property
    def content(self) -> str:
        """Return the values, each with the attitude towards it where there is one."""
        return _BETWEEN.join(
            value.value if value.polarity is Polarity.NEUTRAL else f"{value.value} ({value.polarity})" for value in self.values
        )

    @property
    def updated_at(self) -> datetime:
        """Return when a value was said or confirmed last."""
        return max(value.confirmed_at or value.observed_at for value in self.values)

    def wire(self) -> dict[str, Any]:
        """Return the entry as the clients read it."""
        return {
            "id": self.entry_id,
            "content": self.content,
            "attributes": {"topic": self.topic, "sub_topic": self.sub_topic},
            "created_at": min(value.observed_at for value in self.values),
            "updated_at": self.updated_at,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a request wants."""

    max_tokens: int | None = None
    """Of all of them together, estimated on the high side; None for no limit."""
    prefer_topics: Sequence[str] = ()
    """These come first, in this order; then what changed last."""
    only_topics: Collection[str] = ()
    """Every topic, when it is empty."""
    max_of_topic: int | None = None
    """Entries of a topic."""
    topic_limits: Mapping[str, int] = field(default_factory=dict)
    """The same for topics by name, instead of ``max_of_topic``."""


def entry_id(user_id: str, path: str) -> str:
    """Return the id of a slot of a user."""
    return str(uuid5(NAMESPACE_URL, f"urn:personalagent:entry:{user_id}\x1f{path}"))


def entries_of(user_id: str, profile: Profile, only: Collection[SlotValue] | None = None) -> tuple[Entry, ...]:
    """Return a profile's entries, those of some values only where these are given."""
    slots = {path: tuple(value for value in values if only is None or value in only) for path, values in profile.slots.items()}
    return tuple(Entry(entry_id(user_id, path), path, values) for path, values in sorted(slots.items()) if values)


def chosen(entries: Iterable[Entry], wanted: Wanted) -> tuple[Entry, ...]:
    """Return the entries that are wanted and fit, the preferred ones first."""
    order = {topic.casefold(): place for place, topic in reversed(list(enumerate(wanted.prefer_topics)))}
    only = {topic.casefold() for topic in wanted.only_topics}
    limits = {topic.casefold(): limit for topic, limit in wanted.topic_limits.items()}
    newest = sorted(entries, key=lambda entry: entry.updated_at, reverse=True)
    ranked = sorted(newest, key=lambda entry: order.get(entry.topic, len(order)))
    kept: list[Entry] = []
    of_topic: Counter[str] = Counter()
    tokens = 0
    for entry in ranked:
        limit = limits.get(entry.topic, wanted.max_of_topic)
        if (only and entry.topic not in only) or (limit is not None and of_topic[entry.topic] >= limit):
            continue
        tokens += tokens_at_most(f"- {entry.topic}: {entry.sub_topic} - {entry.content}\n")
        if wanted.max_tokens is not None and tokens > wanted.max_tokens:
            break
        of_topic[entry.topic] += 1
        kept.append(entry)
    return tuple(kept)


def context_of(entries: Sequence[Entry], max_tokens: int, template: str | None = None) -> str:
    """Write entries, the first ones first, as text for a prompt that fits; empty where nothing is known or nothing fits.

    Without a template it is the block that the proxy puts into requests. In a template ``{profile_section}`` stands for the list
    and ``{event_section}`` for events, of which there are none.
    """

    def text_of(count: int) -> str:
        values = [value for entry in entries[:count] for value in entry.values]
        if template is None:
            return preference_block(values) if values else ""
        lines = "\n".join(f"- {preference_line(value)}" for value in values)
        return template.replace("{event_section}", "").replace("{profile_section}", lines) if values else ""

    fitting = bisect_right(range(len(entries) + 1), max_tokens, key=lambda count: tokens_at_most(text_of(count)))
    return text_of(max(fitting - 1, 0))


def slot_of(schema: ProfileSchema, topic: str, sub_topic: str) -> Slot:
    """Return the slot of an entry.

    Raises:
        SchemaError: the schema has no such slot; the message names the nearest ones.
    """
    return schema.slot(f"{topic.strip()}.{sub_topic.strip()}")


def operations_of(schema: ProfileSchema, slot: Slot, content: str, at: datetime) -> tuple[SlotOp, ...]:
    """Return the operations that add an entry's content by the user's own hand.

    Raises:
        UsageError: there is no value, or one that is not of the slot's type.
    """
    parts = content.split(_BETWEEN.strip()) if slot.cardinality is Cardinality.MANY else [content]
    operations = []
    for part in filter(None, map(str.strip, parts)):
        found = _STANCE.fullmatch(part)
        value, polarity = (found["value"], Polarity(found["polarity"])) if found else (part, Polarity.NEUTRAL)
        operations.append(setting(schema, slot.path, value, polarity=polarity, at=at))
    if not operations:
        raise UsageError("expected a content with a value in it, got none; name one, or delete the entry")
    return tuple(operations)


def emptying(path: str, cardinality: Cardinality, at: datetime) -> SlotOp:
    """Return the operation after which nothing of a slot holds any more; nothing is erased by it."""
    return SlotOp(OpKind.RETRACT, path, "", at, Polarity.NEUTRAL, Source.EDITED, cardinality)


def profile_config(schema: ProfileSchema) -> str:
    """Write the schema as a profile config of theirs."""
    topics = [
        {
            "topic": group.id.rpartition(".")[2],
            "description": category.title,
            "sub_topics": [{"name": slot.path.rpartition(".")[2], "description": slot.description} for slot in group.slots],
        }
        for category in schema.categories
        for group in category.groups
    ]
    return yaml.safe_dump(
        {"profile_strict_mode": True, "overwrite_user_profiles": topics}, sort_keys=False, allow_unicode=True, width=120
    )
