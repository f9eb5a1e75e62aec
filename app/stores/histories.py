"""The history of each piece of work: entries 1, 2, 3 … per id, appended and never changed. Knows no rules of work."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from app.contracts.job import JobState
from app.stores.database import now
from app.stores.tables import events, work


@dataclass(frozen=True)
class Claimed:
    """A claim: the number of its entry, when the wait before it began, when it was made; times in Unix seconds."""

    entry: int
    attempt: int
    waited_since: float
    at: float
    lost_at: float | None = None  # when it was known that its worker is gone
    heard_at: float | None = None  # when its child first said something, of a lost one alone


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


def claims(tx: Connection, work_id: str) -> list[Claimed]:
    """Return how often the work was claimed, and how long it had waited each time, in order."""
    told = events.c.document["kind"].as_string() == "state"
    chosen = select(events).where(events.c.work_id == work_id, told).order_by(events.c.id)
    found: list[Claimed] = []
    since, losses = 0.0, 0
    for row in tx.execute(chosen).all():
        state, detail = row.document["message"], row.document.get("detail", {})
        if state == JobState.RUNNING:
            found.append(Claimed(row.id, detail.get("attempt", 0), since, row.at))
        elif state == JobState.QUEUED:
            counted = detail.get("losses", 0 if "resumed" in detail else losses)
            if found and counted > losses:
                between = (events.c.id > found[-1].entry, events.c.id < row.id)
                first = select(func.min(events.c.at)).where(events.c.work_id == work_id, *between)
                found[-1] = replace(found[-1], lost_at=row.at, heard_at=tx.execute(first).scalar_one())
            since, losses = row.at, counted
    return found
