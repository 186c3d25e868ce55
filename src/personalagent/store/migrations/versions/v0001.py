"""Users, sessions, turns, slot operations, profiles, consents and asked slots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from personalagent.store.tables import UtcTime

revision = "v0001"
down_revision: str | None = None


def _of_user() -> sa.Column[str]:
    return sa.Column("user_id", sa.String(200), sa.ForeignKey("users.user_id", ondelete="CASCADE"), primary_key=True)


def _of_session(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id", "session_id"],
        ["sessions.user_id", "sessions.session_id"],
        name=f"fk_{table}_user_id_session_id",
        ondelete="CASCADE",
    )


def upgrade() -> None:
    """Create the tables."""
    _create_dialogue()
    _create_profiles()
    _create_permissions()


def _create_dialogue() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(200), primary_key=True),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("last_said", sa.Integer, nullable=False),
    )
    op.create_table(
        "sessions",
        _of_user(),
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_table(
        "turns",
        sa.Column("user_id", sa.String(200), primary_key=True),
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("turn_index", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("said", sa.Integer, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("utterance", sa.Text, nullable=False),
        sa.Column("response", sa.Text),
        sa.Column("inference", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("redacted", sa.Boolean, nullable=False),
        _of_session("turns"),
    )
    op.create_index("ix_turns_user_id_said", "turns", ["user_id", "said"], unique=True)


def _create_profiles() -> None:
    op.create_table(
        "slot_operations",
        _of_user(),
        sa.Column("said", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("op", sa.String(16), nullable=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("polarity", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("cardinality", sa.String(16), nullable=False),
        sa.Column("quote", sa.Text),
        sa.Column("session_id", sa.String(200)),
        sa.Column("turn_index", sa.Integer),
    )
    op.create_index("ix_slot_operations_user_id_path", "slot_operations", ["user_id", "path"])
    op.create_table(
        "profiles",
        _of_user(),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("operation_count", sa.Integer, nullable=False),
        sa.Column("last_said", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )


def _create_permissions() -> None:
    op.create_table(
        "consents",
        _of_user(),
        sa.Column("category", sa.String(200), primary_key=True),
        sa.Column("is_granted", sa.Boolean, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
    )
    op.create_table(
        "slot_asks",
        _of_user(),
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("path", sa.String(200), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        _of_session("slot_asks"),
    )


def downgrade() -> None:
    """Drop the tables, and what is in them."""
    for table in ("slot_asks", "consents", "profiles", "slot_operations", "turns", "sessions", "users"):
        op.drop_table(table)
