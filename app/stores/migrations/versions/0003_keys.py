"""API keys, and indexes for taking turns between tenants."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(100), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("last_used_at", sa.Float()),
        sa.Column("expires_at", sa.Float()),
        sa.Column("revoked_at", sa.Float()),
    )
    op.create_index("ix_keys_tenant", "keys", ["tenant"])
    op.create_index("work_by_turn", "work", ["queue", "state", "tenant", "created_at"])
    op.create_index("work_by_start", "work", ["queue", "tenant", "started_at"])


def downgrade() -> None:
    """Take the change back."""
    op.drop_index("work_by_start", "work")
    op.drop_index("work_by_turn", "work")
    op.drop_table("keys")
