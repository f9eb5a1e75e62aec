"""The schema. SQLAlchemy Core, the same on SQLite (WAL) and PostgreSQL.

`work` is the truth about everything that a worker does: one row per model check, data set check, job or benchmark,
under the id of the resource itself. Nouns keep what never changes in `document`, a JSON dump of their contract.
All times are Unix seconds by the database's clock.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

Noun = Table  # a table of one kind of resource
metadata = MetaData()

_ID = String(40)
_TENANT = String(100)


def _noun(name: str, *columns: Column[object]) -> Table:
    """Return a table of one kind of resource: id, tenant, creation time, document, and `columns`."""
    return Table(
        name,
        metadata,
        Column("id", _ID, primary_key=True),
        Column("tenant", _TENANT, nullable=False, index=True),
        Column("created_at", Float, nullable=False),
        Column("document", JSON, nullable=False),
        *columns,
    )


work = Table(
    "work",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _TENANT, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("queue", String(20), nullable=False),
    Column("state", String(12), nullable=False),  # app.contracts.job.JobState
    Column("attempt", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),  # attempts that ended with the worker gone
    Column("owner", String(200)),
    Column("fence", String(40)),  # random per attempt: every write of a worker carries it
    Column("lease_until", Float),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("max_run_s", Integer, nullable=False),
    Column("queue_deadline", Float, nullable=False),
    Column("rung_at", Float),
    Column("stage", String(100), nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("eta_s", Float),
    Column("sandbox", String(10)),
    Column("error", JSON),  # app.contracts.problem.Problem
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("parent_id", _ID, index=True),  # the search that this is a candidate of
    Column("paused", Boolean),  # a search has let go of its worker, and none has taken it up again
    Column("trace", String(55)),  # traceparent of what asked for it
    Column("awaits", _ID, index=True),  # the model whose check must have passed before anybody takes this
    Index("work_by_state", "state", "lease_until"),
    Index("work_by_turn", "queue", "state", "tenant", "created_at"),
    Index("work_by_start", "queue", "tenant", "started_at"),
)

events = Table(
    "events",
    metadata,
    Column("work_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3 … per work row
    Column("at", Float, nullable=False),
    Column("document", JSON, nullable=False),  # app.contracts.job.Event without id and at
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("work_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, nullable=False),  # that left it
    Column("sha256", String(64), nullable=False),  # blob `sha256/<hex>`
    Column("size_bytes", BigInteger, nullable=False),
    Column("position", JSON, nullable=False),  # how far the work had come
    Column("at", Float, nullable=False),
)

searches = Table(
    "searches",
    metadata,
    Column("work_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
    Column("survey", JSON, nullable=False),  # app.contracts.survey.Survey
    Column("deadline", Float, nullable=False),  # when its budget is used up
)

candidates = Table(
    "candidates",
    metadata,
    Column("job_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
    Column("parent_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),  # 0, 1, 2 … per search
    Column("round", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("predicted_p50_ms", Float),
)

# What is still to be pulled: gone once its bytes are stored, because the address may hold a signature.
fetches = Table(
    "fetches",
    metadata,
    Column("work_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
    Column("source", JSON, nullable=False),  # app.contracts.source, whole
)

# Outbox of results that go back to a registry: written with the job, due once it has succeeded, sent by a worker.
registrations = Table(
    "registrations",
    metadata,
    Column("job_id", _ID, ForeignKey("work.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant", _TENANT, nullable=False),
    Column("server", String(64), nullable=False),
    Column("source_name", String(256), nullable=False),
    Column("source_version", String(10), nullable=False),
    Column("result_name", String(300), nullable=False),
    Column("result_version", String(10)),  # null: not registered yet
    Column("alias", String(255)),
    Column("tags", JSON, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("next_at", Float),  # null: the job has not ended, or it is registered, or given up
    Column("lease_until", Float),
    Index("registrations_by_result", "server", "result_name", "result_version"),
)

uploads = _noun(
    "uploads",  # document: nothing beyond the columns
    Column("length", BigInteger),
    Column("offset", BigInteger, nullable=False, default=0),
    Column("complete", Boolean, nullable=False, default=False),
    Column("sha256", String(64)),
    Column("expires_at", Float, nullable=False),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", _ID, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("length", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
)

# document: the request (ModelCreate …) with name, format, size; `summary` is set when the check succeeded.
models = _noun(
    "models",
    Column("sha256", String(64), nullable=False),  # of the bytes as they came, blob `sha256/<hex>`; empty: not here yet
    Column("onnx_sha256", String(64)),
    Column("tokenizer_sha256", String(64)),
    Column("summary", JSON),
)
datasets = _noun("datasets", Column("sha256", String(64), nullable=False), Column("summary", JSON))
jobs = _noun("jobs", Column("artifact_id", _ID), Column("trigger_id", _ID), Column("report", JSON))
artifacts = _noun("artifacts", Column("job_id", _ID, nullable=False, unique=True))
benchmarks = _noun("benchmarks", Column("artifact_id", _ID, nullable=False, index=True), Column("result", JSON))
triggers = _noun("triggers", Column("secret", Text, nullable=False))

schedules = Table(
    "schedules",
    metadata,
    Column("trigger_id", _ID, ForeignKey("triggers.id", ondelete="CASCADE"), primary_key=True),
    Column("next_at", Float),  # the due time that is waited for; null: there is none left
    Column("try_at", Float, index=True),  # when to see to it: later than next_at when something stood against the job
    Column("outcome", JSON),  # app.contracts.trigger.ScheduleOutcome
)

# document: name, prefix, scopes. Only the digest of a key is kept; SHA-256 needs no salt and no slow variant here,
# because a key is 160 random bits or more and not a password that could be guessed.
keys = _noun(
    "keys",
    Column("sha256", String(64), nullable=False, unique=True),
    Column("last_used_at", Float),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

hook_deliveries = Table(
    "hook_deliveries",
    metadata,
    Column("trigger_id", _ID, primary_key=True),
    Column("delivery_id", String(200), primary_key=True),
    Column("at", Float, nullable=False),
    Column("outcome", JSON),  # app.contracts.trigger.Delivery
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", _TENANT, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("status", Integer),  # null while in flight
    Column("location", Text),
    Column("body", JSON),
)

# Outbox of signed webhooks: written in the transaction that ends the job, delivered by a worker.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", _ID, primary_key=True),  # also the webhook-id header, stable over tries
    Column("tenant", _TENANT, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("next_at", Float),  # null: delivered, or given up
    Column("lease_until", Float),
    Column("last_status", Integer),
    Column("trace", String(55)),  # that of the work it tells of
)
