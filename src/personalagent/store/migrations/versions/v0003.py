"""For the server: jobs, API keys, idempotency keys, the version of a profile, messages that come twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from personalagent.store.tables import UtcTime

OF_USERS = (
    "users", "sessions", "turns", "slot_operations", "profiles", "consents", "slot_asks", "jobs", "idempotency_keys",
)  # fmt: skip
SEEN = (
    "current_setting('personalagent.tenant', true) = '*' OR "
    "CASE WHEN strpos(user_id, chr(31)) = 0 THEN 'default' ELSE split_part(user_id, chr(31), 1) END"
    " = current_setting('personalagent.tenant', true)"
)
"""Whether a transaction may see a row: that of its tenant, all where it says so, none where it says nothing."""

revision = "v0003"
down_revision: str | None = "v0002"


def upgrade() -> None:
    """Add columns and tables; a profile that exists has version 0."""
    op.add_column("turns", sa.Column("withheld", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("turns", sa.Column("message_key", sa.String(64)))
    op.create_index("ix_turns_user_id_session_id_message_key", "turns", ["user_id", "session_id", "message_key"], unique=True)
    op.add_column("profiles", sa.Column("version", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "jobs",
        sa.Column("user_id", sa.String(200), sa.ForeignKey("users.user_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_after", UtcTime, nullable=False),
        sa.Column("enqueued_at", UtcTime, nullable=False),
        sa.Column("leased_until", UtcTime),
        sa.Column("worker", sa.String(64)),
        sa.Column("reason", sa.String(64)),
    )
    op.create_index("ix_jobs_state_run_after", "jobs", ["state", "run_after"])
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(200)),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime),
        sa.Column("last_used_at", UtcTime),
        sa.Column("revoked_at", UtcTime),
    )
    op.create_index("ix_api_keys_prefix", "api_keys", ["prefix"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.String(200), primary_key=True),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("at", UtcTime, nullable=False),
    )

    if op.get_bind().dialect.name == "postgresql":
        for table in OF_USERS:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({SEEN}) WITH CHECK ({SEEN})")


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "postgresql":
        for table in OF_USERS:
            op.execute(f"DROP POLICY tenant ON {table}")
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for table in ("idempotency_keys", "api_keys", "jobs"):
        op.drop_table(table)
    op.drop_column("profiles", "version")
    op.drop_index("ix_turns_user_id_session_id_message_key", "turns")
    op.drop_column("turns", "message_key")
    op.drop_column("turns", "withheld")
