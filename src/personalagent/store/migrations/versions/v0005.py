"""Data of the application's own about a user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision: str | None = "v0004"


def upgrade() -> None:
    """Add the column; a user who exists has no data."""
    op.add_column("users", sa.Column("data", sa.Text))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("users", "data")
