"""What is to be pulled from elsewhere, and the step from there to the check, under one row of `work`.

Knows no source, no HTTP and no blob.
"""

from sqlalchemy import Connection, and_, delete, insert, select, update

from app.contracts.job import JobState
from app.contracts.source import Source
from app.contracts.tasks import Queue, WorkKind
from app.errors import NotFound
from app.stores import histories, records
from app.stores.database import now
from app.stores.sinks import Stored
from app.stores.tables import datasets, fetches, models, work
from app.stores.work import Bell, Claim

_NOUNS = {"mdl": (models, WorkKind.CHECK_MODEL), "dst": (datasets, WorkKind.CHECK_DATASET)}


def begin(tx: Connection, work_id: str, source: Source) -> None:
    """Note what to pull."""
    tx.execute(insert(fetches).values(work_id=work_id, source=source.model_dump(mode="json")))


def source_of(tx: Connection, work_id: str) -> dict[str, object]:
    """Return the source as it was noted; raises NotFound when it was deleted meanwhile."""
    found = tx.execute(select(fetches.c.source).where(fetches.c.work_id == work_id)).scalar_one_or_none()
    if found is None:
        raise NotFound
    return dict(found)


def room(tx: Connection, tenant: str, allowed: int) -> int:
    """Return how many more bytes the tenant may store."""
    return max(allowed - records.stored_bytes(tx, tenant), 0)


def hand_on(tx: Connection, held: Claim, stored: Stored, origin: dict[str, object], check_seconds: int) -> Bell | None:
    """Record the bytes that came and put the work into the queue of the check, as a beginning of its own.

    `origin` is what was found out about where they came from. Returns the bell to ring after the commit, or None,
    changing nothing, when the claim does not hold or a cancel was asked for.
    """
    table, kind = _NOUNS[held.id.partition("_")[0]]
    ours = and_(work.c.id == held.id, work.c.fence == held.fence, work.c.state == JobState.RUNNING)
    values = {"kind": kind, "queue": Queue.CHECKS, "state": JobState.QUEUED, "max_run_s": check_seconds, "losses": 0}
    freed = {"fence": None, "owner": None, "lease_until": None, "stage": "", "progress": 0.0, "eta_s": None}
    if not tx.execute(update(work).where(ours).values(**values, **freed, rung_at=now())).rowcount:
        return None
    row = records.get(tx, table, held.tenant, held.id)
    document = {**row["document"], "size_bytes": stored.size_bytes}
    document["origin"] = {**document.get("origin", {}), **origin}
    records.change(tx, table, held.id, {"document": document, "sha256": stored.sha256})
    tx.execute(delete(fetches).where(fetches.c.work_id == held.id))
    histories.append(tx, held.id, histories.of_state(JobState.QUEUED, fetched=stored.size_bytes))
    return Bell(held.id, kind, Queue.CHECKS, trace=held.trace)
