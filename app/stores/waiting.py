"""How much waits: for quotas, and for the sweeper. Put together once: that takes longer than running it."""

from sqlalchemy import Connection, bindparam, func, select

from app.contracts.job import JobState
from app.contracts.tasks import Queue
from app.stores.tables import work
from app.stores.work import UNENDED

_ANY_QUEUE = work.c.queue.in_(list(Queue))  # naming them lets an index that begins with the queue answer alone
_UNFINISHED = select(func.count()).where(_ANY_QUEUE, work.c.state.in_(UNENDED), work.c.tenant == bindparam("of_tenant"))
_QUEUED_PER_QUEUE = (
    select(work.c.queue, func.count()).where(_ANY_QUEUE, work.c.state == JobState.QUEUED).group_by(work.c.queue)
)


def per_queue(tx: Connection) -> dict[str, int]:
    """Return how many rows wait in each queue."""
    return {row[0]: row[1] for row in tx.execute(_QUEUED_PER_QUEUE)}


def of_tenant(tx: Connection, tenant: str) -> int:
    """Return how many pieces of work of this tenant have not ended."""
    return tx.execute(_UNFINISHED, {"of_tenant": tenant}).scalar_one()
