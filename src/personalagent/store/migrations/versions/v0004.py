"""A rate limit and a quota of a key's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision: str | None = "v0003"


def upgrade() -> None:
    """Add the columns; for a key that exists the server's settings hold."""
    op.add_column("api_keys", sa.Column("rate_limit", sa.String(40)))
    op.add_column("api_keys", sa.Column("quota", sa.String(40)))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("api_keys", "quota")
    op.drop_column("api_keys", "rate_limit")
