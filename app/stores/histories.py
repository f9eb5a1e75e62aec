"""The history of each piece of work: entries 1, 2, 3 … per id, appended and never changed. Knows no rules of work."""

from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from app.contracts.job import JobState
from app.stores.database import now
from app.stores.tables import events, work


def of_state(state: JobState, **detail: object) -> dict[str, Any]:
    """Return the entry of a new state."""
    entry = {"kind": "state", "message": str(state)}
    return {**entry, "detail": detail} if detail else entry


# Put together once: that takes longer than running them.
_FIRST = events.insert().values(id=1, at=now(), document=of_state(JobState.QUEUED))
_LOCK = select(work.c.id).where(work.c.id == bindparam("work_id")).with_for_update()
_LAST = select(func.coalesce(func.max(events.c.id), 0)).where(events.c.work_id == bindparam("of_work"))
_APPEND = events.insert().values(id=_LAST.scalar_subquery() + 1, at=now())


def begin(tx: Connection, work_id: str) -> None:
    """Note that new work is queued."""
    tx.execute(_FIRST, {"work_id": work_id})


def append(tx: Connection, work_id: str, document: dict[str, Any]) -> None:
    """Append an entry; `document` is a contracts `Event` without id and at."""
    tx.execute(_LOCK, {"work_id": work_id})  # one writer at a time numbers
    tx.execute(_APPEND, {"work_id": work_id, "of_work": work_id, "document": document})


def entries_after(tx: Connection, work_id: str, after: int = 0, limit: int = 1_000) -> list[Row[Any]]:
    """Return up to `limit` rows (id, at, document) after entry number `after`."""
    chosen = select(events).where(events.c.work_id == work_id, events.c.id > after)
    return list(tx.execute(chosen.order_by(events.c.id).limit(limit)).all())


def latest(tx: Connection, work_id: str, limit: int) -> list[Row[Any]]:
    """Return the last `limit` rows (id, at, document), oldest first."""
    chosen = select(events).where(events.c.work_id == work_id).order_by(events.c.id.desc()).limit(limit)
    return list(reversed(tx.execute(chosen).all()))
