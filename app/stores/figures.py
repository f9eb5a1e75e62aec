"""Figures over all tenants, for whoever runs the service: leases, ends, bytes, and who takes what from the queues.

Each is one or two statements. Knows no metric's name, no level of alarm and no tenant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    Table,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
)

from app.contracts.artifact import VariantName
from app.contracts.job import JobState
from app.stores import tables
from app.stores.database import now
from app.stores.records import Record
from app.stores.work import UNENDED

work = tables.work
_OPEN = (JobState.RUNNING, JobState.CANCELLING)
_VARIANTS: tuple[VariantName, ...] = ("packed", "dense")
_HELD = and_(work.c.state.in_(_OPEN), work.c.paused.is_not(True))  # a paused search has no worker whose lease runs
_QUARANTINED = and_(work.c.state == JobState.FAILED, work.c.error["type"].as_string().like("%/poison-quarantined"))


@dataclass(frozen=True)
class Ended:
    """How many pieces of work of one kind the database holds in one final state."""

    kind: str
    state: str
    count: int


@dataclass(frozen=True)
class Tally:
    """Ended work by kind and state, and the attempts that work of any state has lost."""

    ended: list[Ended]
    lost: int


@dataclass(frozen=True)
class Outbox:
    """What goes out: how much waits, for how many seconds the longest is overdue, how much was refused or given up."""

    waiting: int
    overdue_s: float
    refused: int
    given_up: int


def lease_ages(tx: Connection, lease_s: float) -> dict[str, float]:
    """Return, by queue, the seconds since the lease that has gone longest without renewal was renewed.

    A row keeps when its lease ends; `lease_s` is how long the workers' leases last. Reads the running rows alone.
    """
    oldest = func.min(work.c.lease_until)
    chosen = select(work.c.queue, (now() + lease_s - oldest).label("age_s")).where(_HELD).group_by(work.c.queue)
    return {row.queue: max(0.0, row.age_s) for row in tx.execute(chosen)}


def tally(tx: Connection) -> Tally:
    """Count ended work and lost attempts: one pass over all of `work`."""
    count, lost = func.count().label("count"), func.sum(work.c.losses).label("lost")
    rows = tx.execute(select(work.c.kind, work.c.state, count, lost).group_by(work.c.kind, work.c.state)).mappings()
    found = rows.all()
    ended = [Ended(row["kind"], row["state"], row["count"]) for row in found if JobState(row["state"]).final]
    return Tally(ended, sum(int(row["lost"]) for row in found))


def stored_bytes(tx: Connection) -> dict[str, int]:
    """Return the bytes that records of each noun name: one pass over each table.

    Models, data sets and uploads as they came, each content once within a noun. Artifacts as published, both files, and
    the same file twice where two jobs made it: to tell those apart costs three times as much. No zstd copies.
    """
    uploads, files = tables.uploads, tables.artifacts.c.document["variants"]
    # An upload that has no digest yet is a content of its own.
    arrived = select(func.coalesce(uploads.c.sha256, uploads.c.id).label("content"), uploads.c.offset.label("size"))
    published = sum((func.coalesce(_size_in(files[name]), 0.0) for name in _VARIANTS), literal(0.0))
    return {
        "models": _each_once(tx, _uploaded(tables.models)),
        "datasets": _each_once(tx, _uploaded(tables.datasets)),
        "uploads": _each_once(tx, arrived),
        "artifacts": int(tx.execute(select(func.sum(published)).select_from(tables.artifacts)).scalar_one() or 0),
    }


def _uploaded(table: Table) -> Select[Any]:
    return select(table.c.sha256.label("content"), _size_in(table.c.document).label("size"))


def _size_in(document: ColumnElement[Any]) -> ColumnElement[float]:
    size: ColumnElement[float] = document["size_bytes"].as_float()
    return size


def _each_once(tx: Connection, sized: Select[Any]) -> int:
    named = sized.subquery()
    each = select(cast(func.max(named.c.size), Float).label("size")).group_by(named.c.content).subquery()
    return int(tx.execute(select(func.sum(each.c.size))).scalar_one() or 0)


def queues(tx: Connection) -> Sequence[Record]:
    """Return for each queue that holds unfinished work what waits, what runs, and when work was last taken from it.

    `waiting`, `running`, `oldest_s` of what waits (None when nothing does), `lost` attempts of what is unfinished, and
    `idle_s` since a worker last began anything of this queue (None: never).
    """
    waits = work.c.state == JobState.QUEUED
    begun = work.alias()
    last = select(func.max(begun.c.started_at)).where(begun.c.queue == work.c.queue).correlate(work).scalar_subquery()
    columns = (
        work.c.queue,
        func.sum(case((waits, 1), else_=0)).label("waiting"),
        func.sum(case((_HELD, 1), else_=0)).label("running"),
        (now() - func.min(case((waits, work.c.created_at)))).label("oldest_s"),
        func.sum(work.c.losses).label("lost"),
        (now() - last).label("idle_s"),
    )
    chosen = select(*columns).where(work.c.state.in_(UNENDED)).group_by(work.c.queue)
    return tx.execute(chosen.order_by(work.c.queue)).mappings().all()


def expired(tx: Connection, for_s: float, limit: int = 100) -> list[str]:
    """Return the ids of running work whose lease ended more than `for_s` seconds ago and that nobody has taken back."""
    chosen = select(work.c.id).where(work.c.state.in_(_OPEN), work.c.lease_until < now() - for_s)
    return list(tx.execute(chosen.order_by(work.c.lease_until).limit(limit)).scalars())


def quarantined(tx: Connection, limit: int = 100) -> list[str]:
    """Return the ids of quarantined work, latest first."""
    return list(
        tx.execute(select(work.c.id).where(_QUARANTINED).order_by(work.c.ended_at.desc()).limit(limit)).scalars()
    )


def webhooks(tx: Connection) -> Outbox:
    """Count the webhooks by what became of them: one pass over them all."""
    return _outbox(tx, tables.webhooks, tables.webhooks.c.last_status.between(200, 299))


def registrations(tx: Connection) -> Outbox:
    """Count the results that go back to a registry by what became of them: one pass over them all."""
    return _outbox(tx, tables.registrations, tables.registrations.c.result_version.is_not(None))


def _outbox(tx: Connection, table: Table, arrived: ColumnElement[bool]) -> Outbox:
    unsent, free = table.c.next_at.is_not(None), or_(table.c.lease_until.is_(None), table.c.lease_until < now())
    failed = and_(table.c.tries > 0, func.coalesce(arrived, false()).is_(false()))
    columns = (
        func.sum(case((unsent, 1), else_=0)).label("waiting"),
        (now() - func.min(case((and_(unsent, free), table.c.next_at)))).label("overdue_s"),
        func.sum(case((and_(unsent, table.c.tries > 0), 1), else_=0)).label("refused"),
        func.sum(case((and_(table.c.next_at.is_(None), failed), 1), else_=0)).label("given_up"),
    )
    row = tx.execute(select(*columns)).one()
    return Outbox(row.waiting or 0, max(0.0, row.overdue_s or 0.0), row.refused or 0, row.given_up or 0)
