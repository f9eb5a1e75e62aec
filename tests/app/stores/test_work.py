import threading
import time
from typing import Any

import pytest

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.errors import Conflict, NotFound, RuntimeCrashed
from app.problems import problem_of
from app.stores import histories, records, work
from app.stores.database import Database
from app.stores.tables import jobs, webhooks


def queue(database: Database, *, max_queue_s: int = 60, kind: WorkKind = WorkKind.CHECK_MODEL) -> str:
    work_id = new_id("mdl")
    with database.transaction() as tx:
        work.enqueue(tx, work.Ticket(work_id, "tenant", kind, Queue.CHECKS, 60, max_queue_s))
    return work_id


def claim(database: Database, work_id: str, lease_s: float = 30.0) -> work.Claim | None:
    with database.transaction() as tx:
        return work.claim(tx, work_id, "worker", lease_s, 3)


def held(database: Database, work_id: str, lease_s: float = 30.0) -> work.Claim:
    found = claim(database, work_id, lease_s)
    assert found is not None
    return found


def read(database: Database, work_id: str) -> Any:
    with database.reading() as tx:
        return work.read(tx, work_id)


def finish(database: Database, found: work.Claim, state: JobState) -> bool:
    with database.transaction() as tx:
        return work.finish(tx, found, state)


def cancel(database: Database, work_id: str) -> JobState:
    with database.transaction() as tx:
        return work.request_cancel(tx, work_id)


def sweep(database: Database, ring_again_s: float = 60.0) -> list[work.Bell]:
    with database.transaction() as tx:
        return work.sweep(tx, work.stale(tx, ring_again_s), ring_again_s, 3)


def states(database: Database, work_id: str) -> list[str]:
    with database.reading() as tx:
        return [row.document["message"] for row in histories.entries_after(tx, work_id)]


def test_claim_takes_queued_work(database: Database) -> None:
    found = held(database, queue(database))
    row = read(database, found.id)
    assert (row.state, row.attempt, row.fence, row.owner) == ("running", 1, found.fence, "worker")


def test_claim_is_refused_when_somebody_holds_the_lease(database: Database) -> None:
    found = held(database, queue(database))
    assert claim(database, found.id) is None


def test_claim_is_refused_when_the_work_is_unknown_or_has_ended(database: Database) -> None:
    found = held(database, queue(database))
    finish(database, found, JobState.SUCCEEDED)
    assert claim(database, found.id) is None
    assert claim(database, "mdl_unknown") is None


def test_one_of_many_claims_wins_when_they_race(database: Database) -> None:
    work_id, won = queue(database), []
    barrier = threading.Barrier(6)

    def race() -> None:
        barrier.wait()
        won.append(claim(database, work_id))

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([found for found in won if found]) == 1
    assert read(database, work_id).attempt == 1


def test_claim_counts_a_loss_when_the_lease_has_expired(database: Database) -> None:
    first = held(database, queue(database), lease_s=-1)
    second = held(database, first.id)
    row = read(database, first.id)
    assert (row.attempt, row.losses, row.fence) == (2, 1, second.fence)
    assert first.fence != second.fence


def test_a_stale_claim_changes_nothing_when_another_attempt_runs(database: Database) -> None:
    stale = held(database, queue(database), lease_s=-1)
    held(database, stale.id)
    with database.transaction() as tx:
        assert not work.renew(tx, stale, 30).still_ours
        assert not work.progress(tx, stale, {"stage": "x"}, [{"kind": "log"}])
        assert not work.finish(tx, stale, JobState.SUCCEEDED)
        assert work.release(tx, stale) is None
    row = read(database, stale.id)
    assert (row.state, row.stage, row.attempt) == ("running", "", 2)


def test_work_is_quarantined_after_three_losses(database: Database) -> None:
    work_id = queue(database)
    for _ in range(3):
        held(database, work_id, lease_s=-1)
    assert claim(database, work_id) is None
    row = read(database, work_id)
    assert (row.state, row.losses) == ("failed", 3)
    assert row.error["type"].endswith("/poison-quarantined")


def test_work_fails_when_it_waited_past_its_queue_deadline(database: Database) -> None:
    work_id = queue(database, max_queue_s=-1)
    assert claim(database, work_id) is None
    assert read(database, work_id).error["type"].endswith("/time-limit-exceeded")


def test_renew_extends_the_lease_and_reports_a_cancel(database: Database) -> None:
    found = held(database, queue(database), lease_s=1)
    before = read(database, found.id).lease_until
    cancel(database, found.id)
    with database.transaction() as tx:
        assert work.renew(tx, found, 30) == work.Standing(still_ours=True, cancel_requested=True)
    assert read(database, found.id).lease_until > before + 20


def test_nothing_succeeds_when_a_cancel_came_first(database: Database) -> None:
    found = held(database, queue(database))
    assert cancel(database, found.id) == JobState.CANCELLING
    assert not finish(database, found, JobState.SUCCEEDED)
    assert not finish(database, found, JobState.FAILED)
    assert finish(database, found, JobState.CANCELLED)
    assert states(database, found.id) == ["queued", "running", "cancelling", "cancelled"]


def test_cancel_ends_queued_work_at_once(database: Database) -> None:
    work_id = queue(database)
    assert cancel(database, work_id) == JobState.CANCELLED
    assert claim(database, work_id) is None


def test_cancel_is_refused_when_the_work_has_ended_or_is_unknown(database: Database) -> None:
    found = held(database, queue(database))
    finish(database, found, JobState.SUCCEEDED)
    with pytest.raises(Conflict):
        cancel(database, found.id)
    with pytest.raises(NotFound):
        cancel(database, "mdl_unknown")


def test_a_second_cancel_changes_nothing(database: Database) -> None:
    found = held(database, queue(database))
    assert cancel(database, found.id) == cancel(database, found.id) == JobState.CANCELLING
    assert states(database, found.id).count("cancelling") == 1


def test_finish_keeps_the_problem(database: Database) -> None:
    found = held(database, queue(database))
    with database.transaction() as tx:
        work.finish(tx, found, JobState.FAILED, problem_of(RuntimeCrashed()))
    row = read(database, found.id)
    assert row.error["status"] == 422
    assert row.ended_at >= row.started_at


def test_release_does_not_count_when_the_worker_drains(database: Database) -> None:
    found = held(database, queue(database))
    with database.transaction() as tx:
        bell = work.release(tx, found)
    assert bell == work.Bell(found.id, WorkKind.CHECK_MODEL, Queue.CHECKS)
    assert (read(database, found.id).losses, read(database, found.id).state) == (0, "queued")


def test_release_counts_when_the_child_was_lost(database: Database) -> None:
    found = held(database, queue(database))
    with database.transaction() as tx:
        work.release(tx, found, lost=True)
    assert read(database, found.id).losses == 1


def test_release_cancels_when_a_cancel_was_asked_for(database: Database) -> None:
    found = held(database, queue(database))
    cancel(database, found.id)
    with database.transaction() as tx:
        assert work.release(tx, found) is None
    assert read(database, found.id).state == "cancelled"


def test_sweep_takes_back_work_whose_lease_expired(database: Database) -> None:
    found = held(database, queue(database), lease_s=-1)
    assert sweep(database) == [work.Bell(found.id, WorkKind.CHECK_MODEL, Queue.CHECKS)]
    assert (read(database, found.id).state, read(database, found.id).losses) == ("queued", 1)
    assert sweep(database) == []


def test_sweep_leaves_work_alone_whose_lease_holds(database: Database) -> None:
    held(database, queue(database))
    queue(database)
    assert sweep(database) == []


def test_sweep_leaves_work_alone_that_went_on_since_it_looked(database: Database) -> None:
    found = held(database, queue(database), lease_s=-1)
    with database.reading() as tx:
        stale = work.stale(tx, 60.0)
    assert stale == [found.id]
    with database.transaction() as tx:
        assert work.renew(tx, found, 60.0).still_ours
        assert work.sweep(tx, stale, 60.0, 3) == []
    assert read(database, found.id).losses == 0


def test_stale_names_lost_leases_before_all_that_waits(database: Database) -> None:
    for _ in range(3):
        queue(database)
    lost = held(database, queue(database), lease_s=-1)
    with database.reading() as tx:
        assert work.stale(tx, -1, limit=1) == [lost.id]


def test_sweep_rings_again_when_a_doorbell_may_be_lost(database: Database) -> None:
    work_id = queue(database)
    assert [bell.id for bell in sweep(database, ring_again_s=-1) if bell.again] == [work_id]


def test_sweep_cancels_when_the_worker_vanished_while_cancelling(database: Database) -> None:
    found = held(database, queue(database), lease_s=-1)
    cancel(database, found.id)
    assert sweep(database) == []
    assert read(database, found.id).state == "cancelled"


def test_sweep_quarantines_after_three_losses(database: Database) -> None:
    work_id = queue(database)
    for _ in range(3):
        held(database, work_id, lease_s=-1)
        sweep(database)
    assert read(database, work_id).error["type"].endswith("/poison-quarantined")


def test_sweep_fails_work_that_waited_too_long(database: Database) -> None:
    work_id = queue(database, max_queue_s=-1)
    assert sweep(database, ring_again_s=-1) == []
    assert read(database, work_id).state == "failed"


def test_progress_is_stored_with_numbered_events(database: Database) -> None:
    found = held(database, queue(database))
    with database.transaction() as tx:
        assert work.progress(tx, found, {"stage": "train", "progress": 0.5}, [{"kind": "log"}, {"kind": "curve"}])
    with database.reading() as tx:
        numbers = [row.id for row in histories.entries_after(tx, found.id, after=1)]
    assert numbers == [2, 3, 4]
    assert (read(database, found.id).stage, read(database, found.id).progress) == ("train", 0.5)


def test_events_are_numbered_without_gaps_when_writers_race(database: Database) -> None:
    work_id = queue(database)

    def write() -> None:
        for _ in range(5):
            with database.transaction() as tx:
                histories.append(tx, work_id, {"kind": "log"})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        assert [row.id for row in histories.entries_after(tx, work_id)] == list(range(1, 22))


def test_the_clock_is_the_database_s_and_in_unix_seconds(database: Database) -> None:
    with database.reading() as tx:
        assert records.clock(tx) == pytest.approx(time.time(), abs=2)


def test_the_end_of_a_job_puts_a_webhook_into_the_outbox(database: Database) -> None:
    job_id = new_id("job")
    with database.transaction() as tx:
        records.add(tx, jobs, "tenant", job_id, {"document": {"webhook": "https://example.org/h", "tags": {"a": "b"}}})
        work.enqueue(tx, work.Ticket(job_id, "tenant", WorkKind.COMPRESS, Queue.CPU, 60))
        work.request_cancel(tx, job_id)
    with database.reading() as tx:
        row = tx.execute(webhooks.select()).one()
    assert row.url == "https://example.org/h"
    assert '"type": "dev.modelpress.job.cancelled"' in row.body
