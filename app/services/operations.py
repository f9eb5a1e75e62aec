"""What operators do beside the database, over all tenants: look at queues and work, put work back, set it aside.

The rules are those of REST; what changes here changes in one transaction and is rung for after it.
"""

from app.contracts.job import JobState
from app.contracts.operations import QueueStanding, RetentionStanding, WorkEvent, WorkStanding
from app.contracts.tasks import WorkKind
from app.errors import Conflict, NotFound
from app.resources import Resources
from app.services.caller import Caller, timestamp
from app.services.quotas import refuse_over_quota
from app.stores import checkpoints, figures, histories, records, retention, searches, work
from app.stores.records import Transaction

_LATEST_EVENTS = 10
_COLUMNS = (
    "id", "tenant", "kind", "queue", "state", "attempt", "losses", "owner", "stage", "progress", "error",
)  # fmt: skip
_ONCE = "A search for a goal is not taken up again; submit it again. What its candidates left stays."
_OWN_WISH = "Its tenant cancelled it, and may resume it with POST /v1/jobs/{id}/resume; only failed work is put back."


def queues(resources: Resources) -> list[QueueStanding]:
    """Return how every queue with unfinished work stands."""
    with resources.database.reading() as tx:
        return [QueueStanding.model_validate(dict(row)) for row in figures.queues(tx)]


def standing(resources: Resources, work_id: str) -> WorkStanding:
    """Return one piece of work with its latest events; raises NotFound."""
    with resources.database.reading() as tx:
        return _standing(tx, work_id)


def requeue(resources: Resources, work_id: str) -> WorkStanding:
    """Put failed work back into its queue: it goes on from its checkpoint, or begins anew where there is none.

    Unlike REST's resume this asks for no checkpoint, since an operator knows that the cause is cured. Raises NotFound,
    Conflict when it has not failed or is a search, and QuotaExceeded as a submission of its tenant would.
    """
    with resources.database.transaction() as tx:
        before = _standing(tx, work_id)
        if before.state is JobState.CANCELLED:
            raise Conflict(_OWN_WISH)
        if before.state is JobState.FAILED and before.kind is WorkKind.SEARCH:
            raise Conflict(_ONCE)
        refuse_over_quota(tx, Caller(before.tenant, resources))
        bell = work.resume(tx, work_id)
        after = _standing(tx, work_id)
    resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace)
    return after


def quarantine(resources: Resources, work_id: str, reason: str) -> WorkStanding:
    """Set waiting or running work aside as after its last loss; its worker finds that it has lost it within a second.

    `reason` is told to the tenant. Raises NotFound, and Conflict when the work has ended or is being cancelled.
    """
    detail = f"The operator set the work aside: {reason}" if reason else "The operator set the work aside."
    with resources.database.transaction() as tx:
        work.quarantine(tx, work_id, detail)
        after = _standing(tx, work_id)
        woken = searches.bell_of(tx, after.parent) if after.parent is not None else None
    if woken is not None:
        resources.broker.ring(woken.kind, woken.id, woken.queue, woken.trace)
    return after


def retire(resources: Resources, *, dry_run: bool) -> list[RetentionStanding]:
    """Remove what the rules of retention let go, as the sweeper does, or only tell what that would be."""
    look = retention.foreseen if dry_run else retention.apply
    counts: dict[tuple[str, retention.Noun], tuple[int, int]] = {}
    for gone in look(resources.database, resources.settings.retention):
        count, size = counts.get((gone.tenant, gone.noun), (0, 0))
        counts[gone.tenant, gone.noun] = count + len(gone.ids), size + gone.bytes
    return [
        RetentionStanding(tenant=tenant, noun=noun, count=count, bytes=size)
        for (tenant, noun), (count, size) in sorted(counts.items())
        if count
    ]


def _standing(tx: Transaction, work_id: str) -> WorkStanding:
    row, clock = work.read(tx, work_id), records.clock(tx)
    if row is None:
        msg = "There is no work with this id: it is that of a model, data set, job or benchmark."
        raise NotFound(msg)
    left, times = checkpoints.left_at(tx, work_id), ("created_at", "started_at", "ended_at")
    held = row.lease_until is not None and not row.paused
    return WorkStanding(
        **{name: getattr(row, name) for name in _COLUMNS},
        **{name: getattr(row, name) and timestamp(getattr(row, name)) for name in times},
        lease_left_s=row.lease_until - clock if held else None,
        paused=bool(row.paused),
        parent=row.parent_id,
        checkpoint_at=None if left is None else timestamp(left),
        events=[
            WorkEvent(id=event.id, at=timestamp(event.at), entry=event.document)
            for event in histories.latest(tx, work_id, _LATEST_EVENTS)
        ],
    )
