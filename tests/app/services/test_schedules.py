"""Schedules that are due, on SQLite and PostgreSQL: one job for each due time, whoever looks and whatever dies."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.contracts.base import new_id
from app.contracts.job import Job
from app.contracts.tasks import Queue, WorkKind
from app.contracts.trigger import Schedule, Trigger, TriggerCreate
from app.errors import BadInput
from app.resources import Resources, connect
from app.services import jobs, triggers
from app.services.caller import Caller
from app.services.schedules import fire_due
from app.settings import Settings
from app.stores import records, work
from app.stores import schedules as due_times
from app.stores.migrate import upgrade
from app.stores.tables import metadata, models, schedules
from app.stores.tables import triggers as rows
from tests.app.acting_worker import ActingWorker

RECIPE = {"steps": [{"technique": "share_weights"}]}
HOUR_S = 3_600.0


@pytest.fixture
def resources(url: str, tmp_path: Path) -> Iterator[Resources]:
    settings = Settings(data_dir=tmp_path, database_url=url, blob_url="memory:///", max_queued_per_tenant=2)
    with connect(settings) as found:
        upgrade(found.database)
        with found.database.transaction() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.execute(table.delete())
        yield found


@pytest.fixture
def caller(resources: Resources) -> Caller:
    return Caller("tenant", resources)


@pytest.fixture
def model(resources: Resources) -> str:
    return added_model(resources, checked=True)


def added_model(resources: Resources, *, checked: bool) -> str:
    model_id = new_id("mdl")
    with resources.database.transaction() as tx:
        document = {"name": "m", "format": "onnx", "tags": {}, "size_bytes": 1}
        records.add(tx, models, "tenant", model_id, {"document": document, "sha256": "a" * 64})
        work.enqueue(tx, work.Ticket(model_id, "tenant", WorkKind.CHECK_MODEL, Queue.CHECKS, 60))
    if checked:
        ActingWorker(resources).accept_model(model_id)
    return model_id


def scheduled(caller: Caller, model_id: str, **changes: Any) -> str:
    body = {"name": "nightly", "kind": "schedule", "model": model_id, "recipe": RECIPE}
    schedule = {"cron": "0 * * * *", "timezone": "Europe/Berlin"}
    return triggers.create(caller, TriggerCreate.model_validate({**body, "schedule": schedule, **changes})).id


def shift(resources: Resources, trigger_id: str, hours: float) -> None:
    """Put the due time into the past, or take it from there."""
    with resources.database.transaction() as tx:
        changed = {"next_at": schedules.c.next_at - hours * HOUR_S, "try_at": schedules.c.try_at - hours * HOUR_S}
        tx.execute(schedules.update().where(schedules.c.trigger_id == trigger_id).values(**changed))


def shown(caller: Caller, trigger_id: str) -> Trigger:
    return triggers.read(caller, trigger_id)


def started(caller: Caller) -> list[Job]:
    return list(jobs.page(caller, records.Cursor(50)).items)


def test_schedule_that_is_due_starts_its_job_once(caller: Caller, model: str) -> None:
    trigger = scheduled(caller, model)
    assert fire_due(caller.resources) == 0
    shift(caller.resources, trigger, 1)

    assert [fire_due(caller.resources) for _ in range(2)] == [1, 0]

    (job,) = started(caller)
    assert (job.model, job.trigger, job.recipe and job.recipe.steps[0].technique) == (model, trigger, "share_weights")
    found = shown(caller, trigger)
    assert found.last is not None
    assert (found.last.accepted, found.last.job, found.last.missed) == (True, job.id, 0)
    assert found.next_at is not None
    assert 0 < found.next_at.timestamp() - found.last.at.timestamp() <= HOUR_S


def test_one_job_stands_for_all_times_that_were_missed(caller: Caller, model: str) -> None:
    trigger = scheduled(caller, model)
    shift(caller.resources, trigger, 72)

    with structlog.testing.capture_logs() as told:
        assert [fire_due(caller.resources) for _ in range(2)] == [1, 0]

    last = shown(caller, trigger).last
    assert last is not None
    assert last.missed == 71
    assert [(line["event"], line["missed"]) for line in told if line["event"] == "schedule fired"] == [
        ("schedule fired", 71)
    ]


def test_sweepers_that_look_together_start_one_job(caller: Caller, model: str, url: str) -> None:
    trigger = scheduled(caller, model)
    shift(caller.resources, trigger, 1)
    at_once, counts = threading.Barrier(6), []

    def sweeper() -> None:
        with connect(caller.resources.settings) as own:
            at_once.wait()
            counts.append(fire_due(own))

    threads = [threading.Thread(target=sweeper) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(counts) == [0, 0, 0, 0, 0, 1]
    assert len(started(caller)) == 1


def test_sweeper_that_looked_before_another_fired_starts_nothing(caller: Caller, model: str) -> None:
    trigger = scheduled(caller, model)
    shift(caller.resources, trigger, 1)
    with caller.resources.database.reading() as tx:
        (row,) = due_times.due(tx)
    fire_due(caller.resources)

    with caller.resources.database.transaction() as tx:
        assert not due_times.take(tx, trigger, row["next_at"], None)
        assert not due_times.put_off(tx, trigger, row["next_at"], 0.0, None)


def test_full_quota_is_waited_for_and_then_one_job_starts(caller: Caller, model: str) -> None:
    trigger = scheduled(caller, model)
    waiting = [added_model(caller.resources, checked=False) for _ in range(2)]
    shift(caller.resources, trigger, 2)

    assert [fire_due(caller.resources) for _ in range(2)] == [0, 0]
    refused = shown(caller, trigger)
    assert refused.last is not None
    assert (refused.last.accepted, refused.last.job) == (False, None)
    assert "unfinished" in refused.last.reason
    assert refused.next_at == refused.last.due_at

    for model_id in waiting:
        ActingWorker(caller.resources).accept_model(model_id)
    with caller.resources.database.transaction() as tx:
        tx.execute(schedules.update().values(try_at=0.0))
    assert fire_due(caller.resources) == 1
    last = shown(caller, trigger).last
    assert last is not None
    assert (last.accepted, last.missed) == (True, 1)


def test_schedule_whose_model_is_gone_says_why_and_waits_for_its_next_time(caller: Caller, model: str) -> None:
    trigger = scheduled(caller, model)
    with caller.resources.database.transaction() as tx:
        records.remove(tx, models, model)
    shift(caller.resources, trigger, 1)

    assert fire_due(caller.resources) == 0

    found = shown(caller, trigger)
    assert found.last is not None
    assert found.last.reason == "/model: there is no model with this id"
    assert found.next_at is not None
    assert found.next_at > found.last.at


def test_schedule_that_cannot_be_read_holds_up_no_other(caller: Caller, model: str) -> None:
    broken, well = (scheduled(caller, model) for _ in range(2))
    with caller.resources.database.transaction() as tx:
        row = records.get(tx, rows, "tenant", broken)
        records.change(tx, rows, broken, {"document": {**row["document"], "of a newer version": 1}})
    for trigger in (broken, well):
        shift(caller.resources, trigger, 1)

    assert [fire_due(caller.resources) for _ in range(2)] == [1, 0]
    assert [job.trigger for job in started(caller)] == [well]


def test_deleted_schedule_is_never_due(caller: Caller, model: str) -> None:
    trigger = scheduled(caller, model)
    shift(caller.resources, trigger, 1)

    triggers.remove(caller, trigger)

    assert fire_due(caller.resources) == 0
    with caller.resources.database.reading() as tx:
        assert tx.execute(schedules.select()).all() == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"schedule": None}, "/schedule"),
        ({"schedule": {"cron": "0 3 * *"}}, "/schedule/cron"),
        ({"schedule": {"cron": "0 3 * * *", "timezone": "Mars/Base"}}, "/schedule/timezone"),
        ({"model": None}, "/model"),
        ({"match": {"name": "spam"}}, "/match"),
        ({"kind": "standard"}, "/schedule"),
        ({"recipe": {"steps": [{"technique": "distill"}]}}, "/dataset"),
    ],
)
def test_schedule_that_cannot_work_is_pointed_at(
    caller: Caller, model: str, changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(BadInput) as refused:
        scheduled(caller, model, **changes)

    assert refused.value.errors[0][0] == pointer


def test_schedule_without_a_zone_is_in_utc() -> None:
    assert Schedule(cron="0 3 * * *").timezone == "UTC"
