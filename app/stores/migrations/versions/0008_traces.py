"""What asked for each piece of work, for traces."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change: columns that may be null alone, so that workers of the version before go on."""
    op.add_column("work", sa.Column("trace", sa.String(55)))
    op.add_column("webhooks", sa.Column("trace", sa.String(55)))


def downgrade() -> None:
    """Take the change back."""
    op.drop_column("webhooks", "trace")
    op.drop_column("work", "trace")
