"""Whose turn it is: between tenants the one that was served least lately, within a tenant the oldest.

A doorbell says that some work waits in a queue, and names the row that it was rung for; which row is taken is decided
here, at the last moment. So a tenant with a thousand queued jobs delays another's first by one job, not by a thousand.
"""

from sqlalchemy import Connection, Select, func, select

from app.contracts.job import JobState
from app.stores import work as rows
from app.stores.tables import work

_OPEN = (JobState.RUNNING, JobState.CANCELLING)


def claim_next(tx: Connection, rung_for: str, owner: str, lease_s: float, max_losses: int) -> rows.Claim | None:
    """Take the work whose turn it is in the queue of the row that was rung for, or return None when nothing waits.

    The row itself is only a hint, unless its worker is gone: then it is taken over. Every ring takes one row at most
    and there is a ring for each row, so nothing waits without one.
    """
    hint = rows.read(tx, rung_for)
    if hint is None:
        return None
    if hint.state in _OPEN and (taken_over := rows.claim(tx, rung_for, owner, lease_s, max_losses)):
        return taken_over
    while (turn := _turn(tx, hint.queue)) is not None:
        claimed = rows.claim(tx, turn, owner, lease_s, max_losses)
        if claimed is not None:
            return claimed
    return None


def _turn(tx: Connection, queue: str) -> str | None:
    """Return the id of the row to take next, locked where the database locks rows."""
    for tenant in tx.execute(_tenants_in_turn(queue)).scalars().all():
        waiting = select(work.c.id).where(
            work.c.queue == queue, work.c.state == JobState.QUEUED, work.c.tenant == tenant
        )
        oldest = waiting.order_by(work.c.created_at, work.c.id).limit(1).with_for_update(skip_locked=True)
        found = tx.execute(oldest).scalar_one_or_none()
        if found is not None:
            return str(found)
    return None


def _tenants_in_turn(queue: str) -> Select[tuple[str]]:
    """Select the tenants with waiting work: fewest running pieces first, then the one whose last start is longest ago.

    With one worker nothing else runs, so the starts alone make the turns.
    """
    since = func.min(work.c.created_at).label("since")
    queued = select(work.c.tenant, since).where(work.c.queue == queue, work.c.state == JobState.QUEUED)
    waiting = queued.group_by(work.c.tenant).subquery()
    same = (work.c.queue == queue, work.c.tenant == waiting.c.tenant)
    running = select(func.count()).where(*same, work.c.state.in_(_OPEN)).correlate(waiting).scalar_subquery()
    started = select(func.max(work.c.started_at)).where(*same).correlate(waiting).scalar_subquery()
    return select(waiting.c.tenant).order_by(running, func.coalesce(started, 0.0), waiting.c.since)
