"""Searches for a goal: what is known of them, their candidates, and the time they have.

    claimed → surveyed → paused with candidates → woken when the last of them has ended → claimed …

A search holds no worker while its candidates run, and each transaction leaves it either claimed, or queued, or paused
with a candidate that is unfinished; so whichever worker is lost, somebody goes on with it. Knows no planning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from app.contracts.base import new_id
from app.contracts.job import JobCreate, JobState
from app.contracts.problem import Problem
from app.contracts.report import Report
from app.contracts.survey import Survey
from app.contracts.tasks import Queue, WorkKind
from app.stores import histories, records, work
from app.stores.database import now
from app.stores.tables import candidates, jobs, searches
from app.stores.tables import work as work_table

_BEHIND_S = 1e-6  # from one candidate to the next; ids of one millisecond are in no order
_PAUSED = and_(work_table.c.state == JobState.RUNNING, work_table.c.paused.is_(True))


@dataclass(frozen=True)
class Planned:
    """A candidate to run: its job, and what the search calls it."""

    request: JobCreate
    name: str
    round: int
    predicted_p50_ms: float | None = None


@dataclass(frozen=True)
class Entered:
    """A candidate that was put into the queue, and what became of it."""

    job: str
    planned: Planned
    state: JobState
    report: Report | None
    artifact: str | None
    error: Problem | None


@dataclass(frozen=True)
class Standing:
    """How a search stands: what the survey found, whether its time is over, its candidates in the order of planning."""

    survey: Survey
    over: bool
    entered: list[Entered]


def keep_survey(tx: Connection, search_id: str, survey: Survey, budget_s: float) -> None:
    """Keep what the survey found, once; the budget counts from the first start of the search."""
    if surveyed(tx, search_id):
        return  # a commit whose answer was lost is tried again
    started = select(work_table.c.started_at + budget_s).where(work_table.c.id == search_id).scalar_subquery()
    tx.execute(insert(searches).values(work_id=search_id, survey=survey.model_dump(mode="json"), deadline=started))


def surveyed(tx: Connection, search_id: str) -> bool:
    """Return whether there is a survey."""
    return tx.execute(select(searches.c.work_id).where(searches.c.work_id == search_id)).one_or_none() is not None


def logits_of(tx: Connection, search_id: str) -> str | None:
    """Return the digest of what the survey of a search has left for its candidates, if anything."""
    row = tx.execute(select(searches.c.survey).where(searches.c.work_id == search_id)).one_or_none()
    return Survey.model_validate(row.survey).logits if row is not None else None


def standing(tx: Connection, search_id: str) -> Standing:
    """Return how a search stands that was surveyed."""
    known = select(searches.c.survey, (searches.c.deadline < now()).label("over"))
    row = tx.execute(known.where(searches.c.work_id == search_id)).one()
    return Standing(Survey.model_validate(row.survey), bool(row.over), _entered(tx, search_id))


def let_go(
    tx: Connection, held: work.Claim, planned: Sequence[Planned], trace: str | None = None
) -> list[work.Bell] | None:
    """Put candidates into the queue, under `trace`, and pause the search until all of its have ended.

    Returns the bells to ring after the commit, or None when the claim does not hold: then roll back.
    """
    if not work.pause(tx, held, _figures(tx, held.id, planned)):
        return None
    queue = tx.execute(select(work_table.c.queue).where(work_table.c.id == held.id)).scalar_one()
    bells = [_enter(tx, held, one, Queue(queue), trace) for one in planned]
    _inherit_turn(tx, held.id)
    if planned:
        names = ", ".join(one.name for one in planned)
        message = f"round {planned[0].round}: {len(planned)} candidates: {names}"
        histories.append(tx, held.id, {"kind": "log", "message": message})
    hurry(tx, held.id)
    return bells


def hurry(tx: Connection, search_id: str) -> None:
    """End what a paused search may not wait for once its budget is used up; wake it when there is nothing to wait for.

    What is queued is cancelled, and what runs too, unless no candidate had been measured when the time was up: a search
    without one has nothing to tell, so those that run may go on to their ends.
    """
    known = tx.execute(
        select(searches.c.deadline, (searches.c.deadline < now()).label("over")).where(searches.c.work_id == search_id)
    ).one()
    if known.over:
        mine = (work_table.c.parent_id == search_id, work_table.c.state == JobState.SUCCEEDED)
        in_time = select(func.count()).where(*mine, work_table.c.ended_at <= known.deadline)
        measured = tx.execute(in_time).scalar_one() > 0
        work.cancel_candidates(tx, search_id, (JobState.QUEUED, JobState.RUNNING) if measured else (JobState.QUEUED,))
    work.wake(tx, search_id)


def due(tx: Connection) -> list[str]:
    """Return the paused searches to hurry: with a budget that is used up, or with no candidate to wait for.

    The latter has been woken by whoever ended the candidate, unless that was a worker of a version without searches.
    """
    own = work_table.alias()
    waits_for = (
        select(own.c.id).where(own.c.parent_id == work_table.c.id, own.c.state.in_(work.UNENDED)).correlate(work_table)
    )
    both = searches.join(work_table, work_table.c.id == searches.c.work_id)
    chosen = select(searches.c.work_id).select_from(both)
    return list(tx.execute(chosen.where(_PAUSED, or_(searches.c.deadline < now(), ~waits_for.exists()))).scalars())


def bell_of(tx: Connection, search_id: str) -> work.Bell | None:
    """Return the bell of a search that was woken and that nobody has rung for, or None."""
    row = work.read(tx, search_id)
    if row is None or row.state != JobState.QUEUED or row.rung_at is not None:
        return None
    return work.Bell(row.id, WorkKind(row.kind), Queue(row.queue), trace=row.trace)


def _figures(tx: Connection, search_id: str, planned: Sequence[Planned]) -> dict[str, object]:
    if not planned:
        return {}
    ended = tx.execute(select(func.count()).where(candidates.c.parent_id == search_id)).scalar_one()
    stage = f"round {planned[0].round}, {len(planned)} candidates"
    return {"stage": stage, "progress": ended / (ended + len(planned)), "eta_s": None}


def _enter(tx: Connection, held: work.Claim, planned: Planned, queue: Queue, trace: str | None) -> work.Bell:
    """Record a candidate: a job like any other, which counts towards the tenant's quota but is not refused by it."""
    job_id, request = new_id("job"), planned.request
    records.add(tx, jobs, held.tenant, job_id, {"document": request.model_dump(mode="json")})
    limits = request.limits
    waits_s = limits.max_queue_s
    ticket = work.Ticket(job_id, held.tenant, WorkKind.COMPRESS, queue, limits.max_run_s, waits_s, held.id, trace)
    work.enqueue(tx, ticket)
    position = select(func.count()).where(candidates.c.parent_id == held.id).scalar_subquery()
    columns = {"name": planned.name, "round": planned.round, "predicted_p50_ms": planned.predicted_p50_ms}
    tx.execute(insert(candidates).values(job_id=job_id, parent_id=held.id, position=position, **columns))
    return work.Bell(job_id, ticket.kind, ticket.queue, trace=trace)


def _inherit_turn(tx: Connection, search_id: str) -> None:
    """Let candidates wait as long as their search has, and be taken in the order of planning.

    Else its time would run out behind all that its tenant has submitted since, or over the boldest of them.
    """
    own = work_table.alias()
    since = select(own.c.created_at).where(own.c.id == search_id).scalar_subquery()
    position = select(candidates.c.position).where(candidates.c.job_id == work_table.c.id).scalar_subquery()
    mine = (work_table.c.parent_id == search_id, work_table.c.state == JobState.QUEUED)
    tx.execute(update(work_table).where(*mine).values(created_at=since + _BEHIND_S * position))


def _entered(tx: Connection, search_id: str) -> list[Entered]:
    columns = (candidates, jobs.c.document, jobs.c.report, jobs.c.artifact_id, work_table.c.state, work_table.c.error)
    of_jobs = candidates.join(jobs, jobs.c.id == candidates.c.job_id)
    joined = of_jobs.join(work_table, work_table.c.id == candidates.c.job_id)
    chosen = select(*columns).select_from(joined).where(candidates.c.parent_id == search_id)
    found = []
    for row in tx.execute(chosen.order_by(candidates.c.position)).all():
        known = {name: row.document[name] for name in JobCreate.model_fields if name in row.document}
        planned = Planned(JobCreate.model_validate(known), row.name, row.round, row.predicted_p50_ms)
        report = Report.model_validate(row.report) if row.report is not None else None
        error = Problem.model_validate(row.error) if row.error is not None else None
        found.append(Entered(row.job_id, planned, JobState(row.state), report, row.artifact_id, error))
    return found
