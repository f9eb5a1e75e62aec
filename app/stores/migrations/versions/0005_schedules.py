"""When the triggers of the kind `schedule` are due."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change: a new table alone, which the version before leaves as it is."""
    op.create_table(
        "schedules",
        sa.Column("trigger_id", sa.String(40), sa.ForeignKey("triggers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("next_at", sa.Float()),
        sa.Column("try_at", sa.Float()),
        sa.Column("outcome", sa.JSON()),
    )
    op.create_index("ix_schedules_try_at", "schedules", ["try_at"])


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("schedules")
