"""Starts the jobs of schedules that are due; run by the sweeper. Each due time starts at most one job."""

from dataclasses import dataclass

import structlog

from app.contracts.job import Job
from app.contracts.trigger import Schedule, ScheduleOutcome, Trigger
from app.errors import DependencyUnavailable, ModelpressError
from app.interruptions import reach
from app.resources import Resources
from app.schedules import missed, next_after
from app.services import jobs
from app.services.caller import Caller, timestamp
from app.services.triggers import request_of, trigger_of
from app.stores import records, schedules
from app.traces import Opening

_WAIT_S = 30.0  # before what stood against a job is asked again, at least; and after a fault of ours
_log = structlog.get_logger()


@dataclass(frozen=True)
class _Due:
    """A due time of a trigger, and the database's time; in Unix seconds."""

    trigger: Trigger
    schedule: Schedule
    model: str
    at: float
    clock: float

    @property
    def following(self) -> float | None:
        return next_after(self.schedule, self.clock)

    def outcome(self, job: Job | None = None, reason: str = "") -> ScheduleOutcome:
        return ScheduleOutcome(
            due_at=timestamp(self.at),
            at=timestamp(self.clock),
            accepted=job is not None,
            job=job and job.id,
            reason=reason,
            missed=missed(self.schedule, self.at, self.clock),
        )


def fire_due(resources: Resources) -> int:
    """Start the jobs of the schedules that are due; return how many.

    However many due times have passed since the last look, one job stands for them. Any number of sweepers may look:
    one of them takes a due time, in the transaction that records the job. Raises DependencyUnavailable.
    """
    with resources.database.reading() as tx:
        found = schedules.due(tx)
    return sum(_see_to(resources, row) for row in found)


def _see_to(resources: Resources, row: records.Record) -> bool:
    try:
        due = _due(row)
        told = {"modelpress.trigger.id": due.trigger.id, "modelpress.tenant.id": row["tenant"]}
        with resources.traces.begin(Opening("start schedule", None, attributes=told, root=True)) as span:
            return _start(Caller(row["tenant"], resources, trace=span.traceparent), due)
    except DependencyUnavailable:
        raise
    except Exception:  # noqa: BLE001 - of one schedule, such as one that a newer version wrote; the others must go on
        _log.exception("a schedule broke", trigger=row["id"])
    with resources.database.transaction() as tx:
        schedules.put_off(tx, row["id"], row["next_at"], row["clock"] + _WAIT_S, None)
    return False


def _start(caller: Caller, due: _Due) -> bool:
    try:
        return _fire(caller, due)
    except DependencyUnavailable:
        raise
    except ModelpressError as refusal:
        _refuse(caller, due, refusal)
        return False


def _due(row: records.Record) -> _Due:
    trigger = trigger_of(row)
    if trigger.schedule is None or trigger.model is None:
        msg = "a schedule without due times or model was stored"
        raise ValueError(msg)
    return _Due(trigger, trigger.schedule, trigger.model, row["next_at"], row["clock"])


def _fire(caller: Caller, due: _Due) -> bool:
    with caller.resources.database.transaction() as tx:
        if not schedules.take(tx, due.trigger.id, due.at, due.following):
            return False
        reach(caller.resources.settings, "taken")
        recorded = jobs.record(tx, caller, request_of(due.trigger, due.model), jobs.Origin(trigger=due.trigger.id))
        outcome = due.outcome(recorded.job)
        schedules.tell(tx, due.trigger.id, outcome.model_dump(mode="json"))
    recorded.ring(caller)
    told = {"trigger": due.trigger.id, "job": recorded.job.id, "due_at": outcome.due_at.isoformat()}
    _log.info("schedule fired", missed=outcome.missed, **told)
    return True


def _refuse(caller: Caller, due: _Due, refusal: ModelpressError) -> None:
    """Keep why there is no job; what a later try may cure (a full quota, a check) is tried again until the next time.

    After the next due time the same job stands for both.
    """
    outcome = due.outcome(reason=refusal.detail).model_dump(mode="json")
    with caller.resources.database.transaction() as tx:
        if refusal.retry_after_s is not None:
            until = due.clock + max(_WAIT_S, refusal.retry_after_s)
            noted = schedules.put_off(tx, due.trigger.id, due.at, until, outcome)
        else:
            noted = schedules.take(tx, due.trigger.id, due.at, due.following)
            if noted:
                schedules.tell(tx, due.trigger.id, outcome)
    if noted:
        _log.warning("schedule started nothing", trigger=due.trigger.id, problem=refusal.slug, detail=refusal.detail)
