"""The time that a search has, and its turns, on SQLite and PostgreSQL."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.stores import searches, turns, work
from app.stores.database import Database
from tests.app.stores.searching import (
    alter,
    begun,
    claim,
    end,
    let_go,
    pass_deadline,
    read,
    states,
    sweep,
    waiting,
)


def test_nothing_is_hurried_before_the_time_is_up(database: Database) -> None:
    search, (job, running) = waiting(database, "a", "b")
    claim(database, running)

    sweep(database)

    assert states(database, [search, job, running]) == ["running", "queued", "running"]


def test_what_is_unfinished_is_cancelled_when_the_time_is_up(database: Database) -> None:
    search, (done, running, queued) = waiting(database, "a", "b", "c")
    end(database, claim(database, done))
    held = claim(database, running)
    pass_deadline(database, search)

    sweep(database)

    assert states(database, [search, done, running, queued]) == ["running", "succeeded", "cancelling", "cancelled"]
    end(database, held, JobState.CANCELLED)
    assert read(database, search).state == "queued"
    with database.reading() as tx:
        assert searches.standing(tx, search).over


def test_those_that_run_may_end_when_nothing_was_measured_in_time(database: Database) -> None:
    search, (first, second, queued) = waiting(database, "a", "b", "c")
    running = [claim(database, first), claim(database, second)]
    pass_deadline(database, search)

    sweep(database)
    assert states(database, [search, first, second, queued]) == ["running", "running", "running", "cancelled"]
    end(database, running[0])
    sweep(database)
    assert states(database, [search, second]) == ["running", "running"]

    end(database, running[1])

    assert read(database, search).state == "queued"


def test_search_whose_candidates_all_waited_ends_without_any_when_the_time_is_up(database: Database) -> None:
    search, ids = waiting(database, "a", "b")
    pass_deadline(database, search)

    assert [bell.id for bell in sweep(database)] == [search]

    assert states(database, ids) == ["cancelled", "cancelled"]


def test_round_that_is_late_is_cancelled_as_it_is_entered(database: Database) -> None:
    held = begun(database, budget_s=-1)

    ids = let_go(database, held, "a")

    assert states(database, [held.id, *ids]) == ["queued", "cancelled"]


def submit(database: Database, tenant: str, count: int) -> list[str]:
    ids = [new_id("job") for _ in range(count)]
    for job in ids:
        with database.transaction() as tx:
            work.enqueue(tx, work.Ticket(job, tenant, WorkKind.COMPRESS, Queue.CPU, 60))
        time.sleep(0.002)
    return ids


def next_turn(database: Database, rung_for: str) -> str:
    time.sleep(0.002)
    with database.transaction() as tx:
        held = turns.claim_next(tx, rung_for, "worker", 30, 3)
    assert held is not None
    end(database, held)
    return held.id


def test_search_and_its_candidates_go_before_what_its_tenant_submitted_later(database: Database) -> None:
    held = begun(database)
    backlog = submit(database, "tenant", 3)
    (job,) = let_go(database, held, "a")

    assert [next_turn(database, backlog[2]) for _ in range(3)] == [job, held.id, backlog[0]]


def test_search_that_waits_does_not_count_as_running_in_turns(database: Database) -> None:
    begun_by_both = {tenant: begun(database, tenant=tenant) for tenant in ("a", "b")}
    let_go(database, begun_by_both["a"], "one")
    end(database, begun_by_both["b"])
    late = submit(database, "b", 1)
    alter(database, begun_by_both["a"].id, started_at=1.0)

    # Both run nothing; a's last start is longer ago.
    assert next_turn(database, late[0]) != late[0]


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_end_of_an_ordinary_job_asks_nothing_about_searches(database: Database) -> None:
    (job,) = submit(database, "tenant", 1)
    held = claim(database, job)

    with statements(database) as seen:
        end(database, held)

    assert not [statement for statement in seen if "parent_id =" in statement or "candidates" in statement]
