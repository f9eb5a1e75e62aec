"""The truth about work: who may do what to a row of `work`, one transaction per step.

    queued → running → succeeded | failed | cancelled, with running → queued after a drain or a lost worker
    running → cancelling → cancelled
    failed | cancelled → queued, when somebody resumes what left a checkpoint
    queued, running → failed, when an operator sets work aside; failed → queued, when one puts it back
    running, paused → queued, when the last candidate of a search has ended

A worker claims by compare-and-set and gets a random fence; each of its writes names the fence and changes nothing
once another attempt has begun. Times are the database's. Knows no broker, no Celery and no blobs.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Row, and_, bindparam, func, or_, select, update

from app.contracts.job import JobState
from app.contracts.problem import Problem
from app.contracts.tasks import Queue, WorkKind
from app.errors import Conflict, NotFound, PoisonQuarantined, TimeLimitExceeded
from app.problems import problem_of
from app.stores import histories, registrations, webhooks
from app.stores.claims import Bell, Claim, Standing, Ticket
from app.stores.database import now
from app.stores.tables import fetches, work

__all__ = ["Bell", "Claim", "Standing", "Ticket"]  # beside what this module defines
_WAITED = "The work waited in the queue past limits.max_queue_s; submit it again when the service is less busy."
_OPEN = (JobState.RUNNING, JobState.CANCELLING)
UNENDED = (JobState.QUEUED, *_OPEN)
# A paused search is running for the outside and has no worker whose lease could run out, so its lease ends in the year
# 33658. With a time and not null, whoever compares leases needs to know nothing of searches, old workers among them.
_NEVER = 1e12
_RESUMABLE = (JobState.FAILED, JobState.CANCELLED)
_GOES_ON = "It is {state}: it goes on by itself, also after a lost worker."
_NOT_RESUMABLE = {
    JobState.SUCCEEDED: "It has succeeded: there is nothing left to do. Submit another job to run it again.",
    JobState.CANCELLING: "It is being cancelled: resume it once its state is cancelled.",
}
_NOT_SET_ASIDE = {JobState.CANCELLING: "It is being cancelled, and ends as cancelled within seconds."}

# Put together once: that takes longer than running them.
_ENQUEUE = work.insert().values(
    state=JobState.QUEUED,
    attempt=0,
    losses=0,
    cancel_requested=False,
    queue_deadline=now() + bindparam("waits_s", type_=Float),
    rung_at=now(),
    stage="",
    progress=0.0,
    created_at=now(),
)
_REREAD = select(work, now().label("clock")).where(work.c.id == bindparam("work_id"))
_LOCKED = _REREAD.with_for_update()
_LOCK = select(work.c.id).where(work.c.id == bindparam("work_id")).with_for_update()
_LOCK_CANDIDATES = (
    select(work.c.id)
    .where(work.c.parent_id == bindparam("of_search"), work.c.state.in_(UNENDED))
    .order_by(work.c.id)
    .with_for_update()
)


def enqueue(tx: Connection, ticket: Ticket) -> None:
    """Record new work as queued and rung; ring its doorbell after the commit."""
    columns = asdict(ticket)
    waits_s = columns.pop("max_queue_s")
    tx.execute(_ENQUEUE, {**columns, "waits_s": waits_s})
    histories.begin(tx, ticket.id)


def claim(tx: Connection, work_id: str, owner: str, lease_s: float, max_losses: int) -> Claim | None:
    """Take the work for `lease_s` seconds, or return None: gone, done, taken, or ended here.

    Ended here: cancelled on request; time-limit-exceeded when it waited past its queue deadline; poison-quarantined
    after `max_losses` attempts whose worker vanished.
    """
    row = _locked(tx, work_id)
    if row is None or JobState(row.state).final:
        return None
    if row.state in _OPEN and row.lease_until >= row.clock:
        return None
    if row.state in _OPEN:
        row = _lose(tx, row, max_losses)
    if row.state != JobState.QUEUED:
        return None
    if row.queue_deadline < row.clock and row.attempt == 0:
        _end(tx, row, JobState.FAILED, problem_of(TimeLimitExceeded(_WAITED)))
        return None
    if row.awaits is not None:
        return None
    return _take(tx, row, owner, lease_s)


def _take(tx: Connection, row: Row[Any], owner: str, lease_s: float) -> Claim:
    # A search that was woken goes on with the attempt that paused it, and from where that stood.
    fence, attempt = secrets.token_hex(16), row.attempt if row.paused else row.attempt + 1
    begun = {} if row.paused else {"stage": "", "progress": 0.0, "eta_s": None}
    tx.execute(
        update(work)
        .where(work.c.id == row.id)
        .values(
            state=JobState.RUNNING,
            attempt=attempt,
            fence=fence,
            owner=owner,
            lease_until=now() + lease_s,
            started_at=func.coalesce(work.c.started_at, now()),
            paused=None,
            **begun,
        )
    )
    histories.append(tx, row.id, histories.of_state(JobState.RUNNING, attempt=attempt))
    kind, queue = WorkKind(row.kind), Queue(row.queue)
    return Claim(row.id, row.tenant, kind, queue, attempt, fence, row.max_run_s, row.parent_id, row.trace)


def renew(tx: Connection, held: Claim, lease_s: float) -> Standing:
    """Extend the lease and report how the claim stands."""
    changed = tx.execute(update(work).where(_ours(held)).values(lease_until=now() + lease_s)).rowcount
    if not changed:
        return Standing(still_ours=False, cancel_requested=False)
    asked = tx.execute(select(work.c.cancel_requested).where(work.c.id == held.id)).scalar_one()
    return Standing(still_ours=True, cancel_requested=bool(asked))


def standing(tx: Connection, held: Claim) -> Standing:
    """Report how the claim stands without writing."""
    asked = tx.execute(select(work.c.cancel_requested).where(_ours(held))).scalar_one_or_none()
    return Standing(still_ours=asked is not None, cancel_requested=bool(asked))


def progress(tx: Connection, held: Claim, figures: Mapping[str, object], entries: list[dict[str, Any]]) -> bool:
    """Store `figures` (stage, progress, eta_s, sandbox) and append events; return whether the claim still holds."""
    values = {"id": held.id, **figures}  # never empty, so that the update always tests the fence
    if not tx.execute(update(work).where(_ours(held)).values(**values)).rowcount:
        return False
    for entry in entries:
        histories.append(tx, held.id, entry)
    return True


def finish(tx: Connection, held: Claim, state: JobState, error: Problem | None = None) -> bool:
    """End the work as succeeded, failed or cancelled; return False, changing nothing, when the claim does not hold.

    Once a cancel was asked for, only `cancelled` is accepted, so nothing ever succeeds after it. Roll back whatever
    else the transaction holds when the answer is False. What a search ends with unfinished candidates of is cancelled.
    """
    if held.kind == WorkKind.SEARCH:
        _lock_candidates(tx, held.id)
    row = _locked(tx, held.id)
    if row is None or row.fence != held.fence or row.state not in _OPEN:
        return False
    if row.state == JobState.CANCELLING and state != JobState.CANCELLED:
        return False
    _end(tx, row, state, error)
    return True


def release(tx: Connection, held: Claim, *, lost: bool = False, max_losses: int = 3) -> Bell | None:
    """Give the work back to the queue and return the bell to ring after the commit.

    A drain does not count against the work; `lost` (its child died) does, and ends it after `max_losses`.
    """
    row = _locked(tx, held.id)
    if row is None or row.fence != held.fence or row.state not in _OPEN:
        return None
    if lost or row.state == JobState.CANCELLING:
        row = _lose(tx, row, max_losses)
    else:
        _requeue(tx, row, losses=row.losses)
        return _bell(row)
    return _bell(row) if row.state == JobState.QUEUED else None


def request_cancel(tx: Connection, work_id: str) -> JobState:
    """Ask for an end: queued work and a paused search are cancelled at once, running work is cancelling.

    With a search go its candidates. Returns the new state; raises NotFound, and Conflict when the work has ended.
    """
    _lock_candidates(tx, work_id)
    row = _locked(tx, work_id)
    if row is None:
        raise NotFound
    if JobState(row.state).final:
        msg = f"It has already ended as {row.state}."
        raise Conflict(msg)
    return _cancel(tx, row)


def _cancel(tx: Connection, row: Row[Any]) -> JobState:
    if row.state == JobState.QUEUED or row.paused:
        _end(tx, row, JobState.CANCELLED)
        return JobState.CANCELLED
    if row.state == JobState.RUNNING:
        tx.execute(update(work).where(work.c.id == row.id).values(state=JobState.CANCELLING, cancel_requested=True))
        histories.append(tx, row.id, histories.of_state(JobState.CANCELLING))
        cancel_candidates(tx, row.id, UNENDED)
    return JobState.CANCELLING


def cancel_candidates(tx: Connection, search_id: str, states: Sequence[JobState]) -> None:
    """Ask for the end of a search's candidates in these states."""
    chosen = select(work, now().label("clock")).where(work.c.parent_id == search_id, work.c.state.in_(states))
    for row in tx.execute(chosen.order_by(work.c.id).with_for_update()).all():
        _cancel(tx, row)


def pause(tx: Connection, held: Claim, figures: Mapping[str, object]) -> bool:
    """Let go of a search until `wake`: it stays running, and no worker holds it. Return whether the claim held.

    `figures` are those of `progress`. Call `wake` in the same transaction, after the candidates are there.
    """
    values = {**figures, "paused": True, "owner": None, "fence": None, "lease_until": _NEVER}
    ours = and_(_ours(held), work.c.state == JobState.RUNNING)
    return bool(tx.execute(update(work).where(ours).values(**values)).rowcount)


def wake(tx: Connection, search_id: str) -> bool:
    """Put a paused search back into the queue unless a candidate of it is unfinished; return whether that was done.

    It was not rung for, so the sweeper rings at its next look. This is no new attempt and no loss.
    """
    tx.execute(_LOCK, {"work_id": search_id})  # of candidates that end together, the last one sees all the others' ends
    sibling = work.alias()
    left = select(sibling.c.id).where(sibling.c.parent_id == search_id, sibling.c.state.in_(UNENDED))
    waits = and_(work.c.id == search_id, work.c.state == JobState.RUNNING, work.c.paused.is_(True), ~left.exists())
    values = {"state": JobState.QUEUED, "lease_until": None, "rung_at": None}
    if not tx.execute(update(work).where(waits).values(**values)).rowcount:
        return False
    histories.append(tx, search_id, histories.of_state(JobState.QUEUED, candidates="ended"))
    return True


def resume(tx: Connection, work_id: str) -> Bell:
    """Put ended work back into the queue, as if it had never lost a worker; return the bell to ring after the commit.

    The caller has made sure that there is something to go on from. Raises Conflict when the work has not ended, or has
    succeeded.
    """
    row = _locked(tx, work_id)
    if row is None:
        raise NotFound
    if row.state not in _RESUMABLE:
        raise Conflict(_NOT_RESUMABLE.get(row.state, _GOES_ON.format(state=row.state)))
    again = {"state": JobState.QUEUED, "losses": 0, "cancel_requested": False, "error": None, "ended_at": None}
    tx.execute(update(work).where(work.c.id == row.id).values(**again, rung_at=now()))
    histories.append(tx, row.id, histories.of_state(JobState.QUEUED, resumed=True))
    return _bell(row)


def quarantine(tx: Connection, work_id: str, detail: str) -> None:
    """Set work aside as it is after its last loss, whether it waits or runs; whoever holds it may write no more.

    Raises NotFound, and Conflict when the work has ended or is being cancelled.
    """
    _lock_candidates(tx, work_id)
    row = _locked(tx, work_id)
    if row is None:
        raise NotFound
    if row.state not in {JobState.QUEUED, JobState.RUNNING}:
        raise Conflict(_NOT_SET_ASIDE.get(row.state, f"It has already ended as {row.state}."))
    _end(tx, row, JobState.FAILED, problem_of(PoisonQuarantined(detail)))


def stale(tx: Connection, ring_again_s: float, limit: int = 500) -> list[str]:
    """Return the ids of what there is to sweep: lost leases, however long the queue, then what waits. Only reads."""
    order = (work.c.state == JobState.QUEUED, work.c.created_at)
    return list(tx.execute(select(work.c.id).where(_is_stale(ring_again_s)).order_by(*order).limit(limit)).scalars())


def sweep(tx: Connection, ids: Sequence[str], ring_again_s: float, max_losses: int) -> list[Bell]:
    """Take back expired leases, end what waited too long, and return the doorbells to ring after the commit.

    Looks at the given rows, and at those alone that are still stale. Several sweepers may run; a row is swept by one of
    them at a time.
    """
    wanted = and_(work.c.id.in_(ids), _is_stale(ring_again_s))
    chosen = select(work, now().label("clock")).where(wanted).order_by(work.c.created_at)
    rung: list[Bell] = []
    for found in tx.execute(chosen.with_for_update(skip_locked=True)).all():
        row = _lose(tx, found, max_losses) if found.state in _OPEN else found
        if row.state == JobState.QUEUED and row.attempt == 0 and row.queue_deadline < row.clock:
            _end(tx, row, JobState.FAILED, problem_of(TimeLimitExceeded(_WAITED)))
        elif row.state == JobState.QUEUED:
            rung.append(replace(_bell(row), again=found.state == JobState.QUEUED))
    if rung:
        tx.execute(update(work).where(work.c.id.in_([bell.id for bell in rung])).values(rung_at=now()))
    return rung


def _is_stale(ring_again_s: float) -> ColumnElement[bool]:
    may_ring = or_(work.c.awaits.is_(None), work.c.queue_deadline < now())
    return or_(
        and_(work.c.state.in_(_OPEN), work.c.lease_until < now()),
        and_(work.c.state == JobState.QUEUED, func.coalesce(work.c.rung_at, 0.0) < now() - ring_again_s, may_ring),
    )


def read(tx: Connection, work_id: str) -> Row[Any] | None:
    """Return the row of `work`, or None."""
    return tx.execute(select(work).where(work.c.id == work_id)).one_or_none()


def _ours(held: Claim) -> ColumnElement[bool]:
    return and_(work.c.id == held.id, work.c.fence == held.fence, work.c.state.in_(_OPEN))


def _lock_candidates(tx: Connection, work_id: str) -> None:
    """Lock what a search's end will cancel ahead of the search: a candidate that ends locks them in this order too."""
    tx.execute(_LOCK_CANDIDATES, {"of_search": work_id})


def _locked(tx: Connection, work_id: str) -> Row[Any] | None:
    return tx.execute(_LOCKED, {"work_id": work_id}).one_or_none()


def _lose(tx: Connection, row: Row[Any], max_losses: int) -> Row[Any]:
    """Take the work away from a worker that is gone: back to the queue, cancelled, or quarantined."""
    if row.state == JobState.CANCELLING:
        _end(tx, row, JobState.CANCELLED)
    elif row.losses + 1 >= max_losses:
        tx.execute(update(work).where(work.c.id == row.id).values(losses=row.losses + 1))
        detail = f"{row.losses + 1} attempts ended with their worker gone; the work is not tried again."
        _end(tx, row, JobState.FAILED, problem_of(PoisonQuarantined(detail)))
    else:
        _requeue(tx, row, losses=row.losses + 1)
    return tx.execute(_REREAD, {"work_id": row.id}).one()


def _requeue(tx: Connection, row: Row[Any], losses: int) -> None:
    values = {"state": JobState.QUEUED, "losses": losses, "fence": None, "owner": None, "lease_until": None}
    tx.execute(update(work).where(work.c.id == row.id).values(**values, rung_at=now()))
    histories.append(tx, row.id, histories.of_state(JobState.QUEUED, losses=losses))


def _end(tx: Connection, row: Row[Any], state: JobState, error: Problem | None = None) -> None:
    document = error.model_dump(mode="json") if error else None
    values = {"state": state, "error": document, "ended_at": now(), "paused": None}
    values |= {"lease_until": None, "fence": None, "eta_s": None}
    reached = 1.0 if state == JobState.SUCCEEDED else row.progress
    tx.execute(update(work).where(work.c.id == row.id).values(**values, progress=reached))
    histories.append(tx, row.id, histories.of_state(state, **{"error": document} if document else {}))
    if row.kind in {WorkKind.COMPRESS, WorkKind.SEARCH}:
        webhooks.announce(tx, row.id, state, document)
        registrations.settle(tx, row.id, state)
    if row.kind in {WorkKind.FETCH, WorkKind.CHECK_MODEL}:
        _release_waiting(tx, row.id, state, error)
    if row.kind == WorkKind.SEARCH:
        cancel_candidates(tx, row.id, UNENDED)
    if row.kind == WorkKind.FETCH and not (error and error.name == PoisonQuarantined.slug):  # that may be put back
        tx.execute(fetches.delete().where(fetches.c.work_id == row.id))
    if row.parent_id is not None:
        wake(tx, row.parent_id)


def _release_waiting(tx: Connection, model_id: str, state: JobState, error: Problem | None) -> None:
    """Let go what waits for a model's check, or end it with what the model was rejected for.

    What may go on was not rung for, so the sweeper rings at its next look.
    """
    waiting = select(work, now().label("clock")).where(work.c.awaits == model_id, work.c.state == JobState.QUEUED)
    for row in tx.execute(waiting.order_by(work.c.id).with_for_update()).all():
        if state == JobState.SUCCEEDED:
            tx.execute(update(work).where(work.c.id == row.id).values(awaits=None, rung_at=None))
        else:
            _end(tx, row, JobState.FAILED, error or problem_of(Conflict("The check of its model was cancelled.")))


def _bell(row: Row[Any]) -> Bell:
    return Bell(row.id, WorkKind(row.kind), Queue(row.queue), trace=row.trace)
