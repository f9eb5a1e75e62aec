"""Jobs that wait for their model, and results that go back to a registry."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change: a column that may be null and a new table alone, so that what serves beside it goes on."""
    op.add_column("work", sa.Column("awaits", sa.String(40)))
    op.create_index("ix_work_awaits", "work", ["awaits"])
    op.create_table(
        "registrations",
        sa.Column("job_id", sa.String(40), sa.ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tenant", sa.String(100), nullable=False),
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("source_name", sa.String(256), nullable=False),
        sa.Column("source_version", sa.String(10), nullable=False),
        sa.Column("result_name", sa.String(300), nullable=False),
        sa.Column("result_version", sa.String(10)),
        sa.Column("alias", sa.String(255)),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float()),
        sa.Column("lease_until", sa.Float()),
    )
    op.create_index("registrations_by_result", "registrations", ["server", "result_name", "result_version"])


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("registrations")
    op.drop_index("ix_work_awaits", "work")
    op.drop_column("work", "awaits")
