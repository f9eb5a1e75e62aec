"""Checkpoints of work: recorded with the fence, found by the next attempt, forgotten when of no more use."""

import pytest

from app.contracts.base import new_id
from app.contracts.checkpoint import Position
from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.errors import (
    Conflict,
    DependencyUnavailable,
    GuardNotMet,
    InsufficientStorage,
    LimitReached,
    ModelpressError,
    NotFound,
    PoisonQuarantined,
    RuntimeCrashed,
    TimeLimitExceeded,
)
from app.problems import problem_of
from app.stores import checkpoints, work
from app.stores.database import Database
from app.stores.sinks import Stored

POSITION = Position(step=2, steps=3, technique="retrain", epoch=2.96, epochs=8)
WEEK_S = 7 * 86_400.0


def claimed(database: Database) -> work.Claim:
    ticket = work.Ticket(new_id("job"), "tenant", WorkKind.COMPRESS, Queue.CPU, max_run_s=60)
    with database.transaction() as tx:
        work.enqueue(tx, ticket)
        held = work.claim(tx, ticket.id, "worker", lease_s=30, max_losses=3)
    assert held is not None
    return held


def left(database: Database, held: work.Claim, sha256: str) -> checkpoints.Recorded:
    with database.transaction() as tx:
        return checkpoints.record(tx, held, Stored(sha256 * 64, 5), POSITION)


def found(database: Database, held: work.Claim) -> str | None:
    with database.reading() as tx:
        checkpoint = checkpoints.find(tx, held.id)
    return checkpoint.sha256[0] if checkpoint else None


def end(database: Database, held: work.Claim, state: JobState = JobState.CANCELLED) -> None:
    with database.transaction() as tx:
        assert work.finish(tx, held, state, problem_of(TimeLimitExceeded()) if state == JobState.FAILED else None)


def test_position_is_told_in_words() -> None:
    assert POSITION.words == "step 2 of 3 (retrain), epoch 3 of 8"
    control = Position(step=1, steps=2, technique="distill", control="without_teacher")
    assert control.words == "the end of step 1 of 2 (distill) of the control without teacher"


def test_latest_checkpoint_is_found_and_the_one_before_is_named(database: Database) -> None:
    held = claimed(database)
    assert left(database, held, "a") == checkpoints.Recorded(still_ours=True)
    assert left(database, held, "b") == checkpoints.Recorded(still_ours=True, replaced="a" * 64)
    assert left(database, held, "b") == checkpoints.Recorded(still_ours=True)
    assert found(database, held) == "b"


def test_stale_attempt_records_nothing(database: Database) -> None:
    held = claimed(database)
    left(database, held, "a")
    with database.transaction() as tx:
        work.release(tx, held)
    assert not left(database, held, "b").still_ours
    assert found(database, held) == "a"


def test_checkpoint_of_ended_work_is_forgotten_after_a_time(database: Database) -> None:
    running, ended = claimed(database), claimed(database)
    for held in (running, ended):
        left(database, held, held.id[-1])
    end(database, ended)

    with database.transaction() as tx:
        assert checkpoints.forget_old(tx, WEEK_S) == []
        assert checkpoints.forget_old(tx, -1.0) == [ended.id[-1] * 64]
    assert found(database, running) is not None
    assert found(database, ended) is None


@pytest.mark.parametrize(
    ("error", "leads_on"),
    [
        (TimeLimitExceeded(), True),
        (PoisonQuarantined(), True),
        (InsufficientStorage(), True),
        (DependencyUnavailable(), True),
        (GuardNotMet(), False),
        (RuntimeCrashed(), False),
        (LimitReached(), False),
    ],
)
def test_failure_leads_on_when_another_attempt_may_not_meet_it(error: ModelpressError, *, leads_on: bool) -> None:
    assert checkpoints.leads_on(JobState.FAILED, problem_of(error)) is leads_on


def test_cancelled_work_leads_on_and_what_has_succeeded_does_not() -> None:
    assert checkpoints.leads_on(JobState.CANCELLED, None)
    assert not checkpoints.leads_on(JobState.SUCCEEDED, None)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_ended_work_goes_back_to_the_queue_with_a_clean_slate(state: JobState, database: Database) -> None:
    held = claimed(database)
    with database.transaction() as tx:
        work.release(tx, held, lost=True)
        again = work.claim(tx, held.id, "worker", lease_s=30, max_losses=3)
        assert again is not None
        if state == JobState.CANCELLED:
            work.request_cancel(tx, held.id)
    end(database, again, state)

    with database.transaction() as tx:
        assert work.resume(tx, held.id) == work.Bell(held.id, WorkKind.COMPRESS, Queue.CPU)
        row = work.read(tx, held.id)
        assert row is not None
        assert (row.state, row.losses, row.cancel_requested, row.error, row.ended_at) == (
            "queued",
            0,
            False,
            None,
            None,
        )
        third = work.claim(tx, held.id, "worker", lease_s=30, max_losses=3)
    assert third is not None
    assert third.attempt == 3


def test_work_is_not_resumed_before_its_end_nor_after_success(database: Database) -> None:
    held = claimed(database)
    for prepare in (lambda: None, lambda: end(database, held, JobState.SUCCEEDED)):
        prepare()
        with database.transaction() as tx, pytest.raises(Conflict):
            work.resume(tx, held.id)
    with database.transaction() as tx, pytest.raises(NotFound):
        work.resume(tx, new_id("job"))
