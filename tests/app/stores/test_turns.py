"""Turns between tenants, on SQLite and PostgreSQL."""

import threading
import time
from collections import Counter

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.tasks import Queue, WorkKind
from app.stores import turns, work
from app.stores.database import Database


def queue(
    database: Database, tenant: str, count: int, queue_name: Queue = Queue.CPU, max_queue_s: int = 60
) -> list[str]:
    ids = [new_id("job") for _ in range(count)]
    for work_id in ids:
        with database.transaction() as tx:
            work.enqueue(tx, work.Ticket(work_id, tenant, WorkKind.BENCHMARK, queue_name, 60, max_queue_s))
        time.sleep(0.002)  # the database's clock has milliseconds
    return ids


def ring(database: Database, work_id: str, lease_s: float = 30.0) -> work.Claim | None:
    time.sleep(0.002)
    with database.transaction() as tx:
        return turns.claim_next(tx, work_id, "worker", lease_s, 3)


def served(database: Database, bells: list[str]) -> list[str]:
    """Let one worker answer the bells one after the other; return the ids in the order in which they ran."""
    order = []
    for bell in bells:
        held = ring(database, bell)
        assert held is not None
        order.append(held.id)
        with database.transaction() as tx:
            assert work.finish(tx, held, JobState.SUCCEEDED)
    return order


def test_three_tenants_take_turns_and_each_keeps_its_order(database: Database) -> None:
    many, some, few = queue(database, "many", 20), queue(database, "some", 3), queue(database, "few", 2)

    order = served(database, [*many, *some, *few])

    assert order == [
        many[0], some[0], few[0],
        many[1], some[1], few[1],
        many[2], some[2],
        *many[3:],
    ]  # fmt: skip


def test_newcomer_waits_for_one_start_of_the_others(database: Database) -> None:
    many = queue(database, "many", 10)
    served(database, many[:5])
    late = queue(database, "late", 1)

    assert served(database, many[5:7])[0] == late[0]


def test_tenant_with_less_running_goes_first(database: Database) -> None:
    first = queue(database, "first", 2)
    assert ring(database, first[0])
    second = queue(database, "second", 2)
    served(database, second[:1])

    held = ring(database, first[1])

    assert held is not None
    assert held.id == second[1]


def test_bell_of_work_that_is_done_serves_who_waits(database: Database) -> None:
    done, waiting = queue(database, "a", 1), queue(database, "b", 1)
    served(database, done)

    held = ring(database, done[0])

    assert held is not None
    assert held.id == waiting[0]
    assert ring(database, waiting[0]) is None


def test_bell_serves_its_own_queue_alone(database: Database) -> None:
    (waiting,) = queue(database, "a", 1, Queue.GPU)
    (other,) = queue(database, "a", 1, Queue.CPU)
    served(database, [other])

    assert ring(database, other) is None
    assert ring(database, waiting) is not None


def test_bell_of_unknown_work_takes_nothing(database: Database) -> None:
    queue(database, "a", 1)

    assert ring(database, new_id("job")) is None


def test_work_whose_worker_is_gone_is_taken_over(database: Database) -> None:
    (lost,) = queue(database, "a", 1)
    assert ring(database, lost, lease_s=-1)
    queue(database, "b", 1)

    held = ring(database, lost)

    assert held is not None
    assert (held.id, held.attempt) == (lost, 2)


def test_work_that_waited_too_long_gives_its_turn_away(database: Database) -> None:
    (stale,) = queue(database, "a", 1, max_queue_s=-1)
    (fresh,) = queue(database, "a", 1)

    held = ring(database, stale)

    assert held is not None
    assert held.id == fresh
    with database.reading() as tx:
        assert work.read(tx, stale).state == JobState.FAILED  # type: ignore[union-attr]


def test_racing_workers_take_each_row_once(database: Database) -> None:
    bells = [found for tenant in "abc" for found in queue(database, tenant, 6)]
    taken: list[str] = []

    def answer(own: list[str]) -> None:
        for bell in own:
            held = ring(database, bell)
            assert held is not None
            taken.append(held.id)

    threads = [threading.Thread(target=answer, args=(bells[number::3],)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(taken) == Counter(bells)
