"""One piece of work from its doorbell to its end: claim, prepare, supervise, publish. Celery's tasks are three lines.

The one place that decides what becomes of a row of `work`; every write carries the claim's fence.
"""

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog
from celery import Celery

from app.contracts.job import JobState
from app.contracts.problem import Problem
from app.contracts.tasks import Done, Failed, WorkKind
from app.errors import DependencyUnavailable, InsufficientStorage, ModelpressError, ServiceFault
from app.interruptions import reach
from app.problems import problem_of
from app.resources import Resources
from app.stores import checkpoints, fetches, results, searches, turns, work
from app.stores.blobs import address
from app.stores.records import Transaction
from app.traces import NoSpan, logged
from workers import searching
from workers.fetching.pull import Leave, Pulled, pull
from workers.heartbeat import Heartbeat
from workers.keeping import Keeper, with_earlier
from workers.kinds import benchmark, check_dataset, check_model, compress, search
from workers.kinds.base import Kind, Record
from workers.scratch import attempt_folder
from workers.spans import begin_attempt
from workers.supervisor import End, Rules, supervise

KINDS: dict[WorkKind, Kind] = {
    WorkKind.CHECK_MODEL: check_model.KIND,
    WorkKind.CHECK_DATASET: check_dataset.KIND,
    WorkKind.COMPRESS: compress.KIND,
    WorkKind.BENCHMARK: benchmark.KIND,
    WorkKind.SEARCH: search.KIND,
}
_MAX_DETAIL_CHARS = 2_000
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LONGEST_WAIT_S = 15.0
# How long the last checkpoint may take to be stored: a drain has 25 s in all, a cancel 10.
_LAST_S, _LAST_CANCELLED_S = 8.0, 3.0

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")


class Displaced(Exception):
    """The claim no longer holds; roll back and leave the work alone."""


@dataclass(frozen=True)
class Worker:
    """What this process works with."""

    resources: Resources
    rules: Rules
    owner: str  # host and process, for people


def register(app: Celery, worker: Worker) -> None:
    """Give the Celery app one task per kind of work; each takes one id.

    A task does whatever waits in the queue of that id, so every worker knows every kind.
    """

    def add(kind: WorkKind) -> None:
        @app.task(name=kind.task, shared=False)  # type: ignore[untyped-decorator] # Celery has no types
        def _task(work_id: str) -> None:
            perform(worker, work_id)

    for kind in WorkKind:
        add(kind)


def perform(worker: Worker, work_id: str) -> None:
    """Do the work whose turn it is where the row `work_id` waits, or waited.

    Raises nothing: whatever happens is recorded, or left to the sweeper.
    """
    with structlog.contextvars.bound_contextvars(rung_for=work_id):
        if worker.rules.drain.is_set():
            return
        try:
            held = _claim(worker, work_id)
            if held is not None:
                _attempt(worker, held)
        except DependencyUnavailable:
            log.warning("left to the sweeper: a part of the service does not answer")


def _claim(worker: Worker, work_id: str) -> work.Claim | None:
    settings = worker.resources.settings
    with worker.resources.database.transaction() as tx:
        return turns.claim_next(tx, work_id, worker.owner, settings.lease_s, settings.max_losses)


def _attempt(worker: Worker, held: work.Claim) -> None:
    settings, database = worker.resources.settings, worker.resources.database
    name = f"{held.id}-{held.attempt}-{held.fence[:8]}"
    with (
        structlog.contextvars.bound_contextvars(work=held.id, attempt=held.attempt, **logged(held.trace)),
        Heartbeat(database, held, settings.lease_s, settings.outage_s) as pulse,
    ):
        try:
            pulse.span = begin_attempt(worker.resources, held)
            with attempt_folder(settings.scratch.resolve(), name) as folder:
                _run(worker, held, pulse, folder)
        except Displaced:
            # A cancel may have come first; if not, this changes nothing, because the fence is another attempt's.
            _settle(worker, held, pulse, End.CANCELLED)
        except DependencyUnavailable as error:
            drained = worker.rules.drain.is_set()
            _settle(worker, held, pulse, End.DRAINED if drained else Failed(problem=problem_of(error)))
        except ModelpressError as error:
            _settle(worker, held, pulse, Failed(problem=problem_of(error)))
        except OSError as error:
            log.exception("the attempt broke")
            cause = InsufficientStorage() if error.errno in _NO_ROOM else ServiceFault()
            _settle(worker, held, pulse, Failed(problem=problem_of(cause)))
        except Exception:  # the last resort: a fault of ours must end the work, not the worker
            log.exception("the attempt broke")
            _settle(worker, held, pulse, Failed(problem=problem_of(ServiceFault())))
        pulse.span.end()


def _run(worker: Worker, held: work.Claim, pulse: Heartbeat, folder: Path) -> None:
    settings = worker.resources.settings
    reach(settings, "claimed")
    if held.kind == WorkKind.FETCH:
        _fetch(worker, held, pulse, folder)
        return
    if held.kind == WorkKind.SEARCH and _insist(worker, pulse, lambda: _is_surveyed(worker, held)):
        _go_on(worker, held, pulse)
        return
    computed = _compute(worker, held, pulse, folder)
    if computed is None:
        return
    done, record = computed
    reach(settings, "stored")
    _insist(worker, pulse, pulse.flush)
    if held.kind == WorkKind.SEARCH:
        _insist(worker, pulse, lambda: _note(worker, held, record))
        _go_on(worker, held, pulse)
        return
    _insist(worker, pulse, lambda: _finish(worker, held, JobState.SUCCEEDED, None, record))
    if held.kind == WorkKind.COMPRESS and done.report is not None:
        worker.rules.figures.succeeded(done.report)
    reach(settings, "ended")
    log.info("done")


def _compute(worker: Worker, held: work.Claim, pulse: Heartbeat, folder: Path) -> tuple[Done, Record] | None:
    """Run the child; return its answer and what to record, its files stored, or None for what was settled without."""
    kind, settings = KINDS[held.kind], worker.resources.settings
    with pulse.span.begin("prepare"):
        order = _insist(worker, pulse, lambda: kind.prepare(worker.resources, held, folder))
        order = _insist(worker, pulse, lambda: with_earlier(worker.resources, held, order, folder, pulse))
    reach(settings, "prepared")
    with Keeper(worker.resources, held, folder) as keeper:
        outcome = supervise(worker.rules, order, folder, held.max_run_s, pulse, keeper.take)
        if not isinstance(outcome, Done):
            keeper.close(_LAST_CANCELLED_S if outcome == End.CANCELLED else _LAST_S)
    if not isinstance(outcome, Done):
        _settle(worker, held, pulse, outcome)
        return None
    reach(settings, "answered")
    with pulse.span.begin("store"):
        return outcome, _insist(worker, pulse, lambda: kind.publish(worker.resources, held, outcome, folder))


def _fetch(worker: Worker, held: work.Claim, pulse: Heartbeat, folder: Path) -> None:
    """Pull what the work is made of, store it, and hand the work on to its check."""
    resources = worker.resources
    leave = Leave(pulse, worker.rules.drain, resources.settings, held.max_run_s)
    pulled = _insist(worker, pulse, lambda: pull(resources, held, folder, leave))
    if not isinstance(pulled, Pulled):
        _settle(worker, held, pulse, pulled)
        return
    _insist(worker, pulse, lambda: resources.blobs.put_file(pulled.path))
    reach(resources.settings, "stored")
    _insist(worker, pulse, pulse.flush)
    bell = _insist(worker, pulse, lambda: _hand_on(worker, held, pulled))
    resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace)
    reach(resources.settings, "ended")
    log.info("fetched", size_bytes=pulled.stored.size_bytes, sha256=pulled.stored.sha256)


def _hand_on(worker: Worker, held: work.Claim, pulled: Pulled) -> work.Bell:
    with worker.resources.database.transaction() as tx:
        bell = fetches.hand_on(tx, held, pulled.stored, pulled.origin, worker.resources.settings.check_seconds)
        if bell is None:
            raise Displaced
        reach(worker.resources.settings, "recorded")
        return bell


def _go_on(worker: Worker, held: work.Claim, pulse: Heartbeat) -> None:
    """Take the next step of a search that was surveyed: let candidates run without it, or end it."""
    ruling = _insist(worker, pulse, lambda: searching.decide(worker.resources, held))
    if isinstance(ruling, Failed):
        _settle(worker, held, pulse, ruling)
    elif isinstance(ruling, searching.Round):
        _insist(worker, pulse, lambda: _let_go(worker, held, ruling, pulse.span.traceparent or held.trace))
        pulse.span.note({"modelpress.outcome": "waits for candidates"})
        log.info("candidates", planned=len(ruling.planned))
    else:
        _insist(worker, pulse, lambda: _finish(worker, held, JobState.SUCCEEDED, None, ruling))
        log.info("done")


def _is_surveyed(worker: Worker, held: work.Claim) -> bool:
    with worker.resources.database.reading() as tx:
        return searches.surveyed(tx, held.id)


def _note(worker: Worker, held: work.Claim, record: Record) -> None:
    """Record what is not the end."""
    with worker.resources.database.transaction() as tx:
        if not work.progress(tx, held, {}, []):
            raise Displaced
        record(tx)


def _let_go(worker: Worker, held: work.Claim, following: searching.Round, trace: str | None) -> None:
    with worker.resources.database.transaction() as tx:
        bells = searches.let_go(tx, held, following.planned, trace)
        if bells is None:
            raise Displaced
        reach(worker.resources.settings, "recorded")
    for bell in bells:
        worker.resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace)


def _settle(worker: Worker, held: work.Claim, pulse: Heartbeat, outcome: Failed | End) -> None:
    """Record an attempt that published nothing."""
    named = outcome.problem.name if isinstance(outcome, Failed) else str(outcome)
    log.info("ended", outcome=named)
    if isinstance(outcome, Failed):
        pulse.span.fail(named)
    pulse.span.note({"modelpress.outcome": named})
    goes_on = outcome == End.DISPLACED
    try:
        if not goes_on:
            _insist(worker, pulse, pulse.flush)
            goes_on = _insist(worker, pulse, lambda: _record_end(worker, held, outcome))
    except Displaced:
        log.info("displaced")
        goes_on = True
    if goes_on and outcome != End.DRAINED:
        pulse.span = NoSpan()  # lost, by the record: the next attempt tells of it


def _record_end(worker: Worker, held: work.Claim, outcome: Failed | End) -> bool:
    """Return whether another attempt follows."""
    if outcome == End.CANCELLED:
        _finish(worker, held, JobState.CANCELLED, None, None)
    elif isinstance(outcome, Failed):
        _fail(worker, held, outcome)
    else:
        return _give_back(worker, held, lost=outcome == End.LOST)
    return False


def _fail(worker: Worker, held: work.Claim, failed: Failed) -> None:
    problem = failed.problem.model_copy(update={"detail": failed.problem.detail[:_MAX_DETAIL_CHARS]})
    report = failed.report

    def record(tx: Transaction) -> None:
        if report is not None:
            results.record_report(tx, held.id, report)

    try:
        _finish(worker, held, JobState.FAILED, problem, record)
    except Displaced:
        # A cancel came first, so that is how it ended.
        _finish(worker, held, JobState.CANCELLED, None, None)


def _finish(worker: Worker, held: work.Claim, state: JobState, problem: Problem | None, record: Record | None) -> None:
    with worker.resources.database.transaction() as tx:
        if not work.standing(tx, held).still_ours:
            raise Displaced
        if record is not None:
            record(tx)
        if not work.finish(tx, held, state, problem):
            raise Displaced
        gone = None if checkpoints.leads_on(state, problem) else checkpoints.forget(tx, held.id)
        reach(worker.resources.settings, "recorded")
    _ring_search(worker, held)
    if gone is not None:
        with suppress(DependencyUnavailable):  # nobody names it now, so it is collected some day
            worker.resources.blobs.delete([address(gone)])


def _ring_search(worker: Worker, held: work.Claim) -> None:
    """Ring for the search that this was the last candidate of, if it was; else the sweeper would, seconds later."""
    if held.parent_id is None:
        return
    with suppress(DependencyUnavailable):
        with worker.resources.database.reading() as tx:
            bell = searches.bell_of(tx, held.parent_id)
        if bell is not None:
            worker.resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace)


def _give_back(worker: Worker, held: work.Claim, *, lost: bool) -> bool:
    """Return whether it waits again: it does not once it was lost too often, or was being cancelled."""
    with worker.resources.database.transaction() as tx:
        bell = work.release(tx, held, lost=lost, max_losses=worker.resources.settings.max_losses)
    if bell is not None:
        worker.resources.broker.ring(bell.kind, bell.id, bell.queue, bell.trace)
    else:
        _ring_search(worker, held)
    return bell is not None


def _insist(worker: Worker, pulse: Heartbeat, action: Callable[[], Answer]) -> Answer:
    """Repeat `action` while a part of the service is away, up to `outage_s`. Raises what it raises otherwise."""
    until, wait_s = time.monotonic() + worker.resources.settings.outage_s, 0.5
    while True:
        try:
            return action()
        except DependencyUnavailable:
            if pulse.displaced or worker.rules.drain.is_set() or time.monotonic() + wait_s > until:
                raise
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
