"""What is to be pulled from where it lives."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change: a new table alone, so that what serves beside it goes on."""
    op.create_table(
        "fetches",
        sa.Column("work_id", sa.String(40), sa.ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("source", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("fetches")
