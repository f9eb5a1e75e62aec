"""The latest checkpoint of each piece of work: recorded with the fence, forgotten when nothing can go on from it.

Nobody but this row names its blob, so the blob may go as soon as the row names another. Knows no blobs.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from app.contracts.checkpoint import Position
from app.contracts.job import JobState
from app.contracts.problem import Problem
from app.stores import work
from app.stores.database import now
from app.stores.sinks import Stored
from app.stores.tables import checkpoints
from app.stores.tables import work as work_table

# Failures that a later attempt may not meet, beside those that call themselves retryable.
_CURABLE = frozenset({"time-limit-exceeded", "poison-quarantined", "worker-lost", "insufficient-storage"})


@dataclass(frozen=True)
class Found:
    """A checkpoint: its blob's digest, and how far the work had come."""

    sha256: str
    position: Position


@dataclass(frozen=True)
class Recorded:
    """Whether the claim held, and the digest that no row names any more."""

    still_ours: bool
    replaced: str | None = None


def record(tx: Connection, held: work.Claim, stored: Stored, position: Position) -> Recorded:
    """Make this the work's latest checkpoint, if the claim still holds."""
    if not work.progress(tx, held, {}, []):
        return Recorded(still_ours=False)
    replaced = forget(tx, held.id)
    row = {
        "work_id": held.id,
        "attempt": held.attempt,
        "sha256": stored.sha256,
        "size_bytes": stored.size_bytes,
        "position": position.model_dump(mode="json"),
        "at": now(),
    }
    tx.execute(checkpoints.insert().values(**row))
    return Recorded(still_ours=True, replaced=replaced if replaced != stored.sha256 else None)


def find(tx: Connection, work_id: str) -> Found | None:
    """Return the latest checkpoint, or None."""
    row = tx.execute(select(checkpoints).where(checkpoints.c.work_id == work_id)).one_or_none()
    return None if row is None else Found(row.sha256, Position.model_validate(row.position))


def left_at(tx: Connection, work_id: str) -> float | None:
    """Return when the latest checkpoint was recorded, in Unix seconds, or None."""
    return tx.execute(select(checkpoints.c.at).where(checkpoints.c.work_id == work_id)).scalar_one_or_none()


def forget(tx: Connection, work_id: str) -> str | None:
    """Forget the checkpoint; return the digest that no row names any more."""
    found = tx.execute(select(checkpoints.c.sha256).where(checkpoints.c.work_id == work_id)).scalar_one_or_none()
    tx.execute(delete(checkpoints).where(checkpoints.c.work_id == work_id))
    return found


def forget_old(tx: Connection, keep_s: float, limit: int = 1_000) -> list[str]:
    """Forget what ended work left more than `keep_s` ago; return the digests that no row names any more."""
    ended = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
    old = select(checkpoints.c.work_id, checkpoints.c.sha256).join(work_table, work_table.c.id == checkpoints.c.work_id)
    old = old.where(work_table.c.state.in_(ended), work_table.c.ended_at < now() - keep_s).limit(limit)
    rows = tx.execute(old.with_for_update(skip_locked=True)).all()
    tx.execute(delete(checkpoints).where(checkpoints.c.work_id.in_([row.work_id for row in rows])))
    return [row.sha256 for row in rows]


def leads_on(state: JobState, error: Problem | None) -> bool:
    """Whether work that ended so may go on from its checkpoint: cancelled, or failed for what may be cured."""
    if state == JobState.FAILED:
        return error is not None and (error.retryable or error.name in _CURABLE)
    return state == JobState.CANCELLED
