"""The tables of the store.

``said`` is the position of a turn, or of an edit, in the order in which one user spoke: a counter per user, never a clock.
The log of a user is ordered by ``(said, position)``, so a turn that was inferred late still stands where it was said.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.types import TypeDecorator

from personalagent.errors import UsageError


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept and read back in UTC by every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone; turn the rest into UTC."""
        if value is not None and value.tzinfo is None:
            raise UsageError(f"expected a time with a time zone, got {value!r}; write datetime.now(UTC)")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put back the zone that SQLite drops."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _of_user() -> Column[str]:
    return Column("user_id", String(200), ForeignKey("users.user_id", ondelete="CASCADE"), primary_key=True)


users = Table(
    "users",
    metadata,
    Column("user_id", String(200), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("last_said", Integer, nullable=False),
    Column("training_consent_at", UtcTime),
    Column("data", Text),
)

sessions = Table(
    "sessions",
    metadata,
    _of_user(),
    Column("session_id", String(200), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("reviewed_at", UtcTime),
)

turns = Table(
    "turns",
    metadata,
    Column("user_id", String(200), primary_key=True),
    Column("session_id", String(200), primary_key=True),
    Column("turn_index", Integer, primary_key=True, autoincrement=False),
    Column("said", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("utterance", Text, nullable=False),
    Column("response", Text),
    Column("inference", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", String(64)),
    Column("redacted", Boolean, nullable=False),
    Column("withheld", Boolean, nullable=False, server_default=false()),
    Column("message_key", String(64)),
    ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.session_id"], ondelete="CASCADE"),
    Index(None, "user_id", "said", unique=True),
    Index(None, "user_id", "session_id", "message_key", unique=True),
)

slot_operations = Table(
    "slot_operations",
    metadata,
    _of_user(),
    Column("said", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("op", String(16), nullable=False),
    Column("path", String(200), nullable=False),
    Column("value", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("polarity", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("cardinality", String(16), nullable=False),
    Column("quote", Text),
    Column("session_id", String(200)),
    Column("turn_index", Integer),
    Index(None, "user_id", "path"),
)

profiles = Table(
    "profiles",
    metadata,
    _of_user(),
    Column("profile", Text, nullable=False),
    Column("operation_count", Integer, nullable=False),
    Column("last_said", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("version", Integer, nullable=False, server_default="0"),
)

consents = Table(
    "consents",
    metadata,
    _of_user(),
    Column("category", String(200), primary_key=True),
    Column("is_granted", Boolean, nullable=False),
    Column("at", UtcTime, nullable=False),
)

slot_asks = Table(
    "slot_asks",
    metadata,
    _of_user(),
    Column("session_id", String(200), primary_key=True),
    Column("path", String(200), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.session_id"], ondelete="CASCADE"),
)

jobs = Table(
    "jobs",
    metadata,
    _of_user(),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("run_after", UtcTime, nullable=False),
    Column("enqueued_at", UtcTime, nullable=False),
    Column("leased_until", UtcTime),
    Column("worker", String(64)),
    Column("reason", String(64)),
    Index(None, "state", "run_after"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("prefix", String(16), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("tenant", String(40), nullable=False),
    Column("user_id", String(200)),
    Column("name", String(200), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("rate_limit", String(40)),
    Column("quota", String(40)),
    Index(None, "prefix"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", String(200), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("answer", Text),
    Column("at", UtcTime, nullable=False),
)
