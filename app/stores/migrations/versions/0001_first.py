"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NOUNS = ("uploads", "models", "datasets", "jobs", "artifacts", "benchmarks", "triggers")


def upgrade() -> None:
    """Apply the change."""
    _create_work()
    _create_nouns()
    _create_parts()
    _create_hooks()
    _create_webhooks()


def downgrade() -> None:
    """Take the change back."""
    for table in ("upload_parts", "events", "work", "webhooks", "idempotency_keys", "hook_deliveries", *_NOUNS):
        op.drop_table(table)


def _create_work() -> None:
    op.create_table(
        "work",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("queue", sa.String(20), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(200)),
        sa.Column("fence", sa.String(40)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("max_run_s", sa.Integer(), nullable=False),
        sa.Column("queue_deadline", sa.Float(), nullable=False),
        sa.Column("rung_at", sa.Float()),
        sa.Column("stage", sa.String(100), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("eta_s", sa.Float()),
        sa.Column("sandbox", sa.String(10)),
        sa.Column("error", sa.JSON()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
    )
    op.create_index("work_by_state", "work", ["state", "lease_until"])
    op.create_table(
        "events",
        sa.Column("work_id", sa.String(40), sa.ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
    )


def _create_noun(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(100), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        *columns,
    )
    op.create_index(f"ix_{name}_tenant", name, ["tenant"])


def _create_nouns() -> None:
    _create_noun(
        "uploads",
        sa.Column("length", sa.BigInteger()),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("expires_at", sa.Float(), nullable=False),
    )
    _create_noun(
        "models",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("onnx_sha256", sa.String(64)),
        sa.Column("tokenizer_sha256", sa.String(64)),
        sa.Column("summary", sa.JSON()),
    )
    _create_noun("datasets", sa.Column("sha256", sa.String(64), nullable=False), sa.Column("summary", sa.JSON()))
    _create_noun(
        "jobs",
        sa.Column("artifact_id", sa.String(40)),
        sa.Column("trigger_id", sa.String(40)),
        sa.Column("report", sa.JSON()),
    )
    _create_noun("artifacts", sa.Column("job_id", sa.String(40), nullable=False, unique=True))
    _create_noun(
        "benchmarks",
        sa.Column("artifact_id", sa.String(40), nullable=False),
        sa.Column("result", sa.JSON()),
    )
    op.create_index("ix_benchmarks_artifact_id", "benchmarks", ["artifact_id"])
    _create_noun("triggers", sa.Column("secret", sa.Text(), nullable=False))


def _create_parts() -> None:
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(40), sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("offset", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
    )


def _create_hooks() -> None:
    op.create_table(
        "hook_deliveries",
        sa.Column("trigger_id", sa.String(40), primary_key=True),
        sa.Column("delivery_id", sa.String(200), primary_key=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("outcome", sa.JSON()),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.String(100), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("location", sa.Text()),
        sa.Column("body", sa.JSON()),
    )


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(100), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float()),
        sa.Column("lease_until", sa.Float()),
        sa.Column("last_status", sa.Integer()),
    )
