"""Searches and their candidates, on SQLite and PostgreSQL: waiting, waking, cancel."""

import threading
import time

import pytest

from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.stores import histories, records, searches, work
from app.stores.database import Database
from app.stores.tables import jobs, webhooks
from app.stores.waiting import of_tenant
from tests.app.stores.searching import (
    REQUEST,
    SURVEY,
    alter,
    begun,
    cancel,
    claim,
    end,
    let_go,
    read,
    states,
    sweep,
    waiting,
)


def test_candidates_wait_as_jobs_of_the_search(database: Database) -> None:
    search, ids = waiting(database, "a", "b")

    rows = [read(database, job) for job in ids]
    assert [(row.kind, row.queue, row.state, row.parent_id, row.tenant) for row in rows] == [
        ("compress", "cpu", "queued", search, "tenant")
    ] * 2
    with database.reading() as tx:
        assert [one.planned.name for one in searches.standing(tx, search).entered] == ["a", "b"]
        listed = records.page(tx, jobs, "tenant", records.Cursor(10), {"parent": search})
        assert sorted(row["id"] for row in listed) == sorted(ids)
        assert of_tenant(tx, "tenant") == 3


def test_search_that_waits_is_running_without_a_worker(database: Database) -> None:
    search, _ids = waiting(database, "a")

    row = read(database, search)
    assert (row.state, row.owner, row.fence, row.stage) == ("running", None, None, "round 0, 1 candidates")
    assert sweep(database) == []
    with database.transaction() as tx:
        assert work.claim(tx, search, "another", 30, 3) is None
    assert read(database, search).losses == 0


def test_worker_that_let_go_may_write_no_more(database: Database) -> None:
    held = begun(database)
    let_go(database, held, "a")

    with database.transaction() as tx:
        assert not work.renew(tx, held, 30).still_ours
        assert not work.finish(tx, held, JobState.SUCCEEDED)
        assert searches.let_go(tx, held, [searches.Planned(REQUEST, "b", 1)]) is None


def test_nothing_is_entered_when_another_attempt_has_the_search(database: Database) -> None:
    stale = begun(database)
    alter(database, stale.id, lease_until=0.0)
    claim(database, stale.id)

    with database.transaction() as tx:
        assert searches.let_go(tx, stale, [searches.Planned(REQUEST, "a", 0)]) is None


def test_search_that_is_being_cancelled_enters_nothing(database: Database) -> None:
    held = begun(database)
    cancel(database, held.id)

    with database.transaction() as tx:
        assert searches.let_go(tx, held, [searches.Planned(REQUEST, "a", 0)]) is None


@pytest.mark.parametrize("last", ["succeeded", "failed", "cancelled", "released", "quarantined", "waited too long"])
def test_search_is_woken_by_the_end_of_its_last_candidate(database: Database, last: str) -> None:
    search, (first, second) = waiting(database, "a", "b")
    end(database, claim(database, first))
    assert read(database, search).state == "running"

    if last in {"succeeded", "failed"}:
        end(database, claim(database, second), JobState(last))
    elif last == "cancelled":
        cancel(database, second)
    elif last == "released":
        held = claim(database, second)
        cancel(database, second)
        with database.transaction() as tx:
            assert work.release(tx, held) is None
    elif last == "quarantined":
        for _ in range(3):
            claim(database, second, lease_s=-1)
            sweep(database)
    else:
        alter(database, second, queue_deadline=0.0, rung_at=0.0)
        sweep(database)

    row = read(database, search)
    assert read(database, second).state in {"succeeded", "failed", "cancelled"}
    assert (row.state, row.rung_at, row.lease_until) == ("queued", None, None)


def test_search_that_was_woken_is_rung_for_at_the_next_sweep(database: Database) -> None:
    search, (job,) = waiting(database, "a")
    end(database, claim(database, job))

    with database.reading() as tx:
        assert searches.bell_of(tx, search) == work.Bell(search, WorkKind.SEARCH, Queue.CPU)
    assert [bell.id for bell in sweep(database)] == [search]
    assert sweep(database) == []


def test_going_on_is_no_new_attempt_and_no_loss_and_has_no_queue_deadline(database: Database) -> None:
    search, (job,) = waiting(database, "a")
    alter(database, search, queue_deadline=0.0, losses=1)
    end(database, claim(database, job))

    held = claim(database, search)

    row = read(database, search)
    assert (held.attempt, row.attempt, row.losses, row.state, row.stage) == (
        1,
        1,
        1,
        "running",
        "round 0, 1 candidates",
    )
    alter(database, search, lease_until=0.0)
    assert claim(database, search).attempt == 2
    assert read(database, search).losses == 2


def test_two_rounds_keep_their_order(database: Database) -> None:
    search, ids = waiting(database, "a", "b")
    for job in ids:
        end(database, claim(database, job))

    ids += let_go(database, claim(database, search), "c", round_number=1)

    with database.reading() as tx:
        found = searches.standing(tx, search)
    assert [(one.job, one.planned.name, one.planned.round) for one in found.entered] == [
        (ids[0], "a", 0), (ids[1], "b", 0), (ids[2], "c", 1),
    ]  # fmt: skip
    assert (found.survey, found.over) == (SURVEY, False)
    assert read(database, search).progress == pytest.approx(2 / 3)


def test_search_is_woken_once_when_its_candidates_end_together(database: Database) -> None:
    search, ids = waiting(database, *"abcdef")
    claims, barrier = [claim(database, job) for job in ids], threading.Barrier(6)

    def race(held: work.Claim) -> None:
        barrier.wait()
        end(database, held)

    threads = [threading.Thread(target=race, args=(held,)) for held in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading() as tx:
        told = [row.document["message"] for row in histories.entries_after(tx, search)]
    assert (read(database, search).state, told.count("queued")) == ("queued", 2)


def test_last_two_candidates_that_end_at_once_wake_the_search(database: Database) -> None:
    """On PostgreSQL neither transaction sees the other's end unless they take turns at the search's row."""
    search, ids = waiting(database, "a", "b")
    first, second = [claim(database, job) for job in ids]
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")

    with database.transaction() as tx:
        assert work.finish(tx, first, JobState.SUCCEEDED)
        other = threading.Thread(target=end, args=(database, second))
        other.start()
        time.sleep(0.3)
    other.join()

    assert read(database, search).state == "queued"


def test_search_without_an_unfinished_candidate_does_not_wait(database: Database) -> None:
    held = begun(database)

    assert let_go(database, held) == []

    assert read(database, held.id).state == "queued"


def test_sweep_wakes_a_search_that_an_old_worker_did_not_wake(database: Database) -> None:
    search, (job,) = waiting(database, "a")
    alter(database, job, state="succeeded")

    assert [bell.id for bell in sweep(database)] == [search]


def test_cancel_ends_a_search_that_waits_and_its_candidates(database: Database) -> None:
    search, (queued, running, done) = waiting(database, "a", "b", "c")
    held = claim(database, running)
    end(database, claim(database, done))

    assert cancel(database, search) == JobState.CANCELLED

    assert states(database, [search, queued, running, done]) == ["cancelled", "cancelled", "cancelling", "succeeded"]
    end(database, held, JobState.CANCELLED)
    assert read(database, search).state == "cancelled"


def test_cancel_of_a_search_that_a_worker_has_waits_for_it(database: Database) -> None:
    search, (job,) = waiting(database, "a")
    end(database, claim(database, job))
    held = claim(database, search)

    assert cancel(database, search) == JobState.CANCELLING

    assert not searches_end(database, held, JobState.SUCCEEDED)
    assert searches_end(database, held, JobState.CANCELLED)


def searches_end(database: Database, held: work.Claim, state: JobState) -> bool:
    with database.transaction() as tx:
        return work.finish(tx, held, state)


def test_candidates_go_with_a_search_that_fails(database: Database) -> None:
    search, (job, other) = waiting(database, "a", "b")
    cancel(database, job)
    cancel(database, other)
    held = claim(database, search)
    with database.transaction() as tx:
        work.resume(tx, job)

    end(database, held, JobState.FAILED)

    assert states(database, [search, job]) == ["failed", "cancelled"]


def test_end_of_a_search_is_announced(database: Database) -> None:
    search, _ids = waiting(database, "a")
    cancel(database, search)

    with database.reading() as tx:
        assert [row.url for row in tx.execute(webhooks.select())] == ["https://example.org/h"]


def test_survey_is_kept_once(database: Database) -> None:
    held = begun(database)

    with database.transaction() as tx:
        searches.keep_survey(tx, held.id, SURVEY.model_copy(update={"rows": 99}), 1.0)

    with database.reading() as tx:
        assert searches.standing(tx, held.id).survey == SURVEY


def test_racing_ends_and_cancels_leave_nothing_unfinished(database: Database) -> None:
    for _ in range(5):
        search, ids = waiting(database, *"abcd")
        claims = [claim(database, job) for job in ids]

        def finish(held: work.Claim) -> None:
            with database.transaction() as tx:
                if not work.finish(tx, held, JobState.SUCCEEDED):
                    work.finish(tx, held, JobState.CANCELLED)

        threads = [threading.Thread(target=finish, args=(held,)) for held in claims]
        threads.insert(2, threading.Thread(target=cancel, args=(database, search)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert read(database, search).state == "cancelled"
        assert set(states(database, ids)) <= {"succeeded", "cancelled"}
