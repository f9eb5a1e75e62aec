"""Searches for a goal, and the candidates that they run."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change: columns that may be null and new tables alone, so that workers of the version before go on."""
    op.add_column("work", sa.Column("parent_id", sa.String(40)))
    op.add_column("work", sa.Column("paused", sa.Boolean()))
    op.create_index("ix_work_parent_id", "work", ["parent_id"])
    op.create_table(
        "searches",
        sa.Column("work_id", sa.String(40), sa.ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("survey", sa.JSON(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=False),
    )
    op.create_table(
        "candidates",
        sa.Column("job_id", sa.String(40), sa.ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("parent_id", sa.String(40), sa.ForeignKey("work.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("predicted_p50_ms", sa.Float()),
    )
    op.create_index("ix_candidates_parent_id", "candidates", ["parent_id"])


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("candidates")
    op.drop_table("searches")
    op.drop_index("ix_work_parent_id", "work")
    op.drop_column("work", "paused")
    op.drop_column("work", "parent_id")
