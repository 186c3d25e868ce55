"""Whether what a user said may be trained on, and which sessions they have reviewed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from personalagent.store.tables import UtcTime

revision = "v0002"
down_revision: str | None = "v0001"


def upgrade() -> None:
    """Add the columns; nobody has consented yet."""
    op.add_column("users", sa.Column("training_consent_at", UtcTime))
    op.add_column("sessions", sa.Column("reviewed_at", UtcTime))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("sessions", "reviewed_at")
    op.drop_column("users", "training_consent_at")
