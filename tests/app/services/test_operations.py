"""What operators change, on SQLite and PostgreSQL: who may write afterwards, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.errors import Conflict, NotFound, QuotaExceeded, WorkerLost
from app.problems import problem_of
from app.resources import Resources, connect
from app.services import operations
from app.settings import Settings
from app.stores import work
from app.stores.database import Database
from app.stores.migrate import upgrade


@pytest.fixture
def resources(url: str, tmp_path: Path) -> Iterator[Resources]:
    settings = Settings(data_dir=tmp_path, database_url=url, blob_url="memory:///", max_queued_per_tenant=2)
    with connect(settings) as found:
        upgrade(found.database)
        with found.database.transaction() as tx:
            tx.execute(work.work.delete())
        yield found


def added(database: Database, kind: WorkKind = WorkKind.COMPRESS, parent: str | None = None) -> str:
    work_id = new_id("job")
    with database.transaction() as tx:
        work.enqueue(tx, work.Ticket(work_id, "tenant", kind, Queue.CPU, 60, parent_id=parent))
    return work_id


def claimed(database: Database, work_id: str) -> work.Claim:
    with database.transaction() as tx:
        held = work.claim(tx, work_id, "host:1", 30.0, 3)
    assert held is not None
    return held


def failed(database: Database, kind: WorkKind = WorkKind.COMPRESS) -> str:
    work_id = added(database, kind)
    held = claimed(database, work_id)
    with database.transaction() as tx:
        assert work.finish(tx, held, JobState.FAILED, problem_of(WorkerLost()))
    return work_id


def test_worker_whose_work_is_set_aside_may_write_no_more(resources: Resources) -> None:
    held = claimed(resources.database, added(resources.database))

    after = operations.quarantine(resources, held.id, "it fills the disk")

    assert (after.state, after.error and after.error.name) == (JobState.FAILED, "poison-quarantined")
    assert after.error is not None
    assert after.error.detail == "The operator set the work aside: it fills the disk"
    with resources.database.transaction() as tx:
        assert not work.renew(tx, held, 30.0).still_ours
        assert not work.finish(tx, held, JobState.SUCCEEDED)


def test_work_that_waits_is_set_aside_and_put_back(resources: Resources) -> None:
    work_id = added(resources.database)
    operations.quarantine(resources, work_id, "")

    after = operations.requeue(resources, work_id)

    assert (after.state, after.error, after.losses) == (JobState.QUEUED, None, 0)
    assert claimed(resources.database, work_id).attempt == 1
    told = [event.entry["message"] for event in operations.standing(resources, work_id).events]
    assert told == ["queued", "failed", "queued", "running"]


def test_failed_work_without_a_checkpoint_is_put_back(resources: Resources) -> None:
    assert operations.requeue(resources, failed(resources.database)).state == JobState.QUEUED


def test_search_that_loses_its_last_candidate_to_quarantine_goes_on(resources: Resources) -> None:
    search = claimed(resources.database, added(resources.database, WorkKind.SEARCH))
    candidate = added(resources.database, parent=search.id)
    with resources.database.transaction() as tx:
        assert work.pause(tx, search, {})

    operations.quarantine(resources, candidate, "")

    assert operations.standing(resources, search.id).state == JobState.QUEUED


def test_candidates_go_with_a_search_that_is_set_aside(resources: Resources) -> None:
    search = claimed(resources.database, added(resources.database, WorkKind.SEARCH))
    candidate = added(resources.database, parent=search.id)

    operations.quarantine(resources, search.id, "")

    assert operations.standing(resources, candidate).state == JobState.CANCELLED


def test_what_the_states_do_not_allow_is_refused_with_what_would_do(resources: Resources) -> None:
    database = resources.database
    waiting, cancelled = added(database), added(database)
    with database.transaction() as tx:
        work.request_cancel(tx, cancelled)
    with pytest.raises(Conflict, match="goes on by itself"):
        operations.requeue(resources, waiting)
    with pytest.raises(Conflict, match="resume"):
        operations.requeue(resources, cancelled)
    with pytest.raises(Conflict, match="already ended as cancelled"):
        operations.quarantine(resources, cancelled, "")
    with pytest.raises(Conflict, match="submit it again"):
        operations.requeue(resources, failed(database, WorkKind.SEARCH))
    held = claimed(database, waiting)
    with database.transaction() as tx:
        work.request_cancel(tx, held.id)
    with pytest.raises(Conflict, match="being cancelled"):
        operations.quarantine(resources, held.id, "")
    with pytest.raises(NotFound):
        operations.standing(resources, "job_none")


def test_putting_back_keeps_to_the_tenants_quota(resources: Resources) -> None:
    work_id = failed(resources.database)
    for _ in range(2):
        added(resources.database)

    with pytest.raises(QuotaExceeded):
        operations.requeue(resources, work_id)

    assert operations.standing(resources, work_id).state == JobState.FAILED


def test_queues_tell_what_waits_runs_and_was_lost(resources: Resources) -> None:
    lost, _running, _waiting = (added(resources.database) for _ in range(3))
    with resources.database.transaction() as tx:
        work.release(tx, claimed_in(tx, lost), lost=True)
        claimed_in(tx, _running)

    (found,) = operations.queues(resources)

    assert (found.queue, found.waiting, found.running, found.lost) == (Queue.CPU, 2, 1, 1)
    assert found.idle_s is not None
    assert found.idle_s < 60


def claimed_in(tx: object, work_id: str) -> work.Claim:
    held = work.claim(tx, work_id, "host:1", 30.0, 3)  # type: ignore[arg-type] # a connection
    assert held is not None
    return held
