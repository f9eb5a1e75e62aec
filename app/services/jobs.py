"""Jobs: submitted, read, listed, cancelled, followed. The row first, then the doorbell."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.contracts.base import Page, new_id
from app.contracts.checkpoint import Checkpoint
from app.contracts.job import Event, Job, JobCreate, JobState
from app.contracts.tasks import Queue, WorkKind
from app.errors import Conflict, IdempotencyKeyInFlight, IdempotencyKeyReused
from app.services.addresses import refuse_forbidden
from app.services.caller import Caller, timestamp
from app.services.quotas import refuse_over_quota
from app.services.recipes import refuse_impossible
from app.stores import histories, records, searches, work
from app.stores.tables import jobs

_ACCEPTED = 202
_ONCE = "A search for a goal is not resumed: submit it again. What its candidates left stays."
_NOTHING_KEPT = (
    "It left no checkpoint to go on from: it ended too early, or long ago, or for a reason that would end it again. "
    "Submit it again, corrected if its error asks for that."
)


@dataclass(frozen=True)
class Origin:
    """Where a submission comes from: the client's idempotency key, and the trigger that made it.

    `brings` records the model in the same transaction, and the job waits for its check.
    """

    key: str | None = None
    trigger: str | None = None
    brings: Callable[[records.Transaction], work.Ticket] | None = None
    after: Callable[[records.Transaction, str], None] | None = None  # records what follows from the job of this id


@dataclass(frozen=True)
class Recorded:
    """A job in a transaction that may still be rolled back."""

    job: Job
    ticket: work.Ticket

    def ring(self, caller: Caller) -> None:
        """Ring for it, after the commit."""
        caller.resources.broker.ring(self.ticket.kind, self.ticket.id, self.ticket.queue, self.ticket.trace)


@dataclass(frozen=True)
class Submission:
    """A job, and whether it was answered before under the same key."""

    job: Job
    replayed: bool = False


def submit(caller: Caller, request: JobCreate, origin: Origin = Origin()) -> Submission:
    """Record a job and ring for it.

    With a key, the same request answers the same job and no second one; raises IdempotencyKeyReused for another
    request, IdempotencyKeyInFlight while the first is being handled. A refused request gives its key back.
    """
    if origin.key is None:
        return Submission(_record(caller, request, origin))
    # The model that a submission brings has another id each time, so it is not what makes two requests one.
    asked = request if origin.brings is None else request.model_copy(update={"model": f"mdl_{'0' * 26}"})
    known = _reserve(caller, origin.key, asked)
    if known is not None:
        return Submission(known, replayed=True)
    try:
        return Submission(_record(caller, request, origin))
    except Exception:
        with caller.resources.database.transaction() as tx:
            records.free_key(tx, caller.tenant, origin.key)
        raise


def read(caller: Caller, job_id: str) -> Job:
    """Return a job; raises NotFound."""
    with caller.resources.database.reading() as tx:
        return job_of(records.get(tx, jobs, caller.tenant, job_id))


def page(caller: Caller, cursor: records.Cursor, filters: Mapping[str, str | None] | None = None) -> Page[Job]:
    """Return one page of the tenant's jobs, newest first.

    `filters`: `state`, which may be several with commas between, `model`, and `parent`, the search that they belong to.
    """
    with caller.resources.database.reading() as tx:
        rows = records.page(tx, jobs, caller.tenant, cursor, filters)
    shown = [job_of(row) for row in rows[: cursor.limit]]
    return Page[Job](items=shown, next=shown[-1].id if len(rows) > cursor.limit else None)


def cancel(caller: Caller, job_id: str) -> Job:
    """Ask for the job's end, and for that of its candidates; raises Conflict when it has ended."""
    with caller.resources.database.transaction() as tx:
        records.get(tx, jobs, caller.tenant, job_id)
        work.request_cancel(tx, job_id)
        job = job_of(records.get(tx, jobs, caller.tenant, job_id))
        woken = searches.bell_of(tx, job.parent) if job.parent is not None else None
    if woken is not None:
        caller.resources.broker.ring(woken.kind, woken.id, woken.queue, woken.trace)
    return job


def resume(caller: Caller, job_id: str) -> Job:
    """Let a failed or cancelled job go on from its checkpoint.

    Raises Conflict when it has not ended, has succeeded, or left nothing to go on from, and QuotaExceeded.
    """
    with caller.resources.database.transaction() as tx:
        before = job_of(records.get(tx, jobs, caller.tenant, job_id))
        if before.state in {JobState.FAILED, JobState.CANCELLED} and before.checkpoint is None:
            raise Conflict(_NOTHING_KEPT if before.goal is None else _ONCE)
        refuse_over_quota(tx, caller)
        bell = work.resume(tx, job_id)
        job = job_of(records.get(tx, jobs, caller.tenant, job_id))
    caller.resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace)
    return job


def history(caller: Caller, job_id: str, after: int, limit: int) -> tuple[list[Event], bool]:
    """Return events after number `after`, and whether the job has ended, so that no more than these will come."""
    with caller.resources.database.reading() as tx:
        row = records.get(tx, jobs, caller.tenant, job_id)
        found = histories.entries_after(tx, job_id, after, limit)
    ended = JobState(row["state"]).final and len(found) < limit
    return [Event(id=event.id, at=timestamp(event.at), **event.document) for event in found], ended


def job_of(row: records.Record) -> Job:
    """Return the contract of a row."""
    return Job(
        id=row["id"],
        **row["document"],
        state=row["state"],
        parent=row["parent_id"],
        trigger=row["trigger_id"],
        attempt=row["attempt"],
        stage=row["stage"],
        progress=row["progress"],
        eta_s=row["eta_s"],
        sandbox=row["sandbox"],
        artifact=row["artifact_id"],
        checkpoint=_checkpoint_of(row),
        error=row["error"],
        created_at=timestamp(row["created_at"]),
        started_at=timestamp(row["started_at"]) if row["started_at"] else None,
        ended_at=timestamp(row["ended_at"]) if row["ended_at"] else None,
    )


def _checkpoint_of(row: records.Record) -> Checkpoint | None:
    if row["checkpoint_at"] is None:
        return None
    return Checkpoint(
        attempt=row["checkpoint_attempt"],
        size_bytes=row["checkpoint_size_bytes"],
        position=row["checkpoint_position"],
        at=timestamp(row["checkpoint_at"]),
    )


def _reserve(caller: Caller, key: str, request: JobCreate) -> Job | None:
    # Without a goal the text is that of versions that knew none, so that keys hold over an upgrade.
    left_out = {"goal"} if request.goal is None else None
    digest = hashlib.sha256(request.model_dump_json(exclude=left_out).encode()).hexdigest()
    with caller.resources.database.transaction() as tx:
        held = records.reserve_key(tx, caller.tenant, key, digest)
    if held is None:
        return None
    if held["request_sha256"] != digest:
        raise IdempotencyKeyReused
    if held["status"] is None:
        raise IdempotencyKeyInFlight(retry_after_s=1)
    return Job.model_validate(held["body"])


def _record(caller: Caller, request: JobCreate, origin: Origin) -> Job:
    with caller.resources.database.transaction() as tx:
        recorded = record(tx, caller, request, origin)
    recorded.ring(caller)
    return recorded.job


def record(tx: records.Transaction, caller: Caller, request: JobCreate, origin: Origin) -> Recorded:
    """Record a job as queued, and under the key that was reserved for it; ring after the commit.

    Raises BadInput, Conflict while an input is still being checked, QuotaExceeded and ServiceBusy.
    """
    refuse_forbidden(request.webhook, caller.resources.settings, "/webhook")
    job_id = new_id("job")
    queue = Queue.GPU if request.device == "cuda" else Queue.CPU
    limits, kind = request.limits, WorkKind.COMPRESS if request.goal is None else WorkKind.SEARCH
    times_s = (limits.max_run_s, limits.max_queue_s)
    awaits = None if origin.brings is None else request.model
    ticket = work.Ticket(job_id, caller.tenant, kind, queue, *times_s, trace=caller.trace, awaits=awaits)
    first = ticket if origin.brings is None else origin.brings(tx)
    refuse_impossible(tx, caller, request, awaits=awaits)
    refuse_over_quota(tx, caller)
    columns = {"document": request.model_dump(mode="json"), "trigger_id": origin.trigger}
    records.add(tx, jobs, caller.tenant, job_id, columns)
    work.enqueue(tx, ticket)
    if origin.after is not None:
        origin.after(tx, job_id)
    job = job_of(records.get(tx, jobs, caller.tenant, job_id))
    if origin.key is not None:
        answer = {"status": _ACCEPTED, "location": f"/v1/jobs/{job_id}", "body": job.model_dump(mode="json")}
        records.answer_key(tx, caller.tenant, origin.key, answer)
    return Recorded(job, first)
