"""Whose turn it is: between tenants the one that was served least lately, within a tenant the oldest.

A doorbell says that some work waits in a queue, and names the row that it was rung for; which row is taken is decided
here, at the last moment. So a tenant with a thousand queued jobs delays another's first by one job, not by a thousand.
"""

from sqlalchemy import CTE, Connection, Select, String, bindparam, func, select

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
    for tenant in tx.execute(_TENANTS_IN_TURN, {"of_queue": queue}).scalars().all():
        found = tx.execute(_OLDEST, {"of_queue": queue, "of_tenant": tenant}).scalar_one_or_none()
        if found is not None:
            return str(found)
    return None


def _tenants_in_turn() -> Select[tuple[str]]:
    """Select the tenants with waiting work: fewest running pieces first, then the one whose last start is longest ago.

    With one worker nothing else runs, so the starts alone make the turns. Costs a few index look-ups for each tenant,
    however much it has waiting.
    """
    tenants = _waiting_tenants()
    same = (work.c.queue == _QUEUE, work.c.tenant == tenants.c.tenant)
    # A paused search runs nowhere; its candidates are counted.
    open_ones = (work.c.state.in_(_OPEN), work.c.paused.is_not(True))
    running = select(func.count()).where(*same, *open_ones).correlate(tenants).scalar_subquery()
    started = select(func.max(work.c.started_at)).where(*same).correlate(tenants).scalar_subquery()
    queued = select(func.min(work.c.created_at)).where(*same, work.c.state == JobState.QUEUED, work.c.awaits.is_(None))
    since = queued.correlate(tenants).scalar_subquery()
    order = (running, func.coalesce(started, 0.0), since)
    return select(tenants.c.tenant).where(tenants.c.tenant.is_not(None)).order_by(*order)


def _waiting_tenants() -> CTE:
    """Step from each tenant with waiting work to the next one by name; the last row is null."""
    first = select(func.min(work.c.tenant).label("tenant")).where(*_WAITING).cte("tenants", recursive=True)
    after = select(func.min(work.c.tenant)).where(*_WAITING, work.c.tenant > first.c.tenant).correlate(first)
    return first.union_all(select(after.scalar_subquery()).where(first.c.tenant.is_not(None)))


# Put together once: that takes longer than running them.
_QUEUE = bindparam("of_queue", type_=String)
_WAITING = (work.c.queue == _QUEUE, work.c.state == JobState.QUEUED, work.c.awaits.is_(None))
_TENANTS_IN_TURN = _tenants_in_turn()
_OLDEST = (
    select(work.c.id)
    .where(*_WAITING, work.c.tenant == bindparam("of_tenant"))
    .order_by(work.c.created_at, work.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
