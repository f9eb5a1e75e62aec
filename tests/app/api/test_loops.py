"""Deliveries of MLflow that bring their own model: the job waits for it, and what is ours starts none."""

import json
from typing import Any

import httpx
import pytest

from app.contracts.job import JobState
from app.contracts.tasks import WorkKind
from app.errors import SourceRefused
from app.resources import Resources
from app.stores import fetches, registrations, turns, work
from app.stores.sinks import Stored
from app.stores.tables import hook_deliveries
from app.stores.tables import registrations as table
from app.stores.tables import work as work_table
from tests.app.acting_worker import ActingWorker
from tests.app.api.test_triggers import MLFLOW_EVENT, RECIPE, SECRET, mlflow

ALIAS_EVENT = {
    "entity": "model_version_alias",
    "action": "created",
    "data": {"name": "spam", "alias": "candidate", "version": "3"},
}


async def made(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    given = {"name": "loop", "kind": "mlflow", "secret": SECRET, "recipe": RECIPE, "mlflow": {}, **body}
    answer = await client.post("/v1/triggers", json=given)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def delivered(
    client: httpx.AsyncClient, trigger: dict[str, Any], event: dict[str, Any], delivery: str = "one"
) -> httpx.Response:
    body = json.dumps(event).encode()
    return await client.post(trigger["hook"], content=body, headers=mlflow(body, delivery))


async def started(client: httpx.AsyncClient, event: dict[str, Any] = MLFLOW_EVENT, **body: Any) -> dict[str, Any]:
    answer = await delivered(client, await made(client, **body), event)
    assert answer.status_code == 202, answer.text
    return dict((await client.get(answer.headers["Location"])).json())


def next_claim(resources: Resources, rung_for: str) -> work.Claim | None:
    with resources.database.transaction() as tx:
        return turns.claim_next(tx, rung_for, "worker", 30, 3)


def fetch(resources: Resources, worker: ActingWorker, model: str) -> None:
    held = worker.claim(model)
    assert held.kind == WorkKind.FETCH
    with resources.database.transaction() as tx:
        assert fetches.hand_on(tx, held, Stored("e" * 64, 7), {"version": "3"}, 60)


@pytest.mark.parametrize("event", [MLFLOW_EVENT, ALIAS_EVENT])
async def test_the_job_waits_for_the_version_that_was_delivered(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker, event: dict[str, Any]
) -> None:
    job = await started(client, event)
    model = (await client.get(f"/v1/models/{job['model']}")).json()
    assert (job["state"], model["state"]) == ("queued", "checking")
    assert (model["origin"]["type"], model["origin"]["name"], model["origin"]["version"]) == ("mlflow", "spam", "3")
    assert next_claim(resources, job["id"]) is None
    fetch(resources, worker, job["model"])
    assert next_claim(resources, job["id"]) is None
    worker.accept_model(job["model"])
    held = next_claim(resources, job["id"])
    assert held is not None
    assert held.id == job["id"]


async def test_the_sweeper_rings_for_a_waiting_job_once_its_model_is_ready(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    job = await started(client)
    with resources.database.transaction() as tx:
        tx.execute(work_table.update().values(rung_at=0))
        assert work.stale(tx, 0.0) == [job["model"]]
    fetch(resources, worker, job["model"])
    worker.accept_model(job["model"])
    with resources.database.reading() as tx:
        assert work.stale(tx, 30.0) == [job["id"]]


async def test_a_waiting_job_whose_time_in_the_queue_is_over_fails(
    client: httpx.AsyncClient, resources: Resources
) -> None:
    job = await started(client)
    with resources.database.transaction() as tx:
        tx.execute(work_table.update().values(rung_at=0, queue_deadline=0))
        work.sweep(tx, work.stale(tx, 0.0), 0.0, 3)
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["error"]["type"].endswith("/time-limit-exceeded")


async def test_a_rejected_model_fails_the_job_with_its_problem(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    job = await started(client)
    worker.reject(job["model"], SourceRefused("The source answers 404."))
    read = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert (read["state"], read["error"]["detail"]) == ("failed", "The source answers 404.")
    with resources.database.reading() as tx:
        assert registrations.take_due(tx, 60) == []


async def test_a_waiting_job_can_be_cancelled(client: httpx.AsyncClient) -> None:
    job = await started(client)
    assert (await client.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 202
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["state"] == "cancelled"


async def test_the_model_of_a_waiting_job_is_kept(client: httpx.AsyncClient) -> None:
    job = await started(client)
    assert (await client.delete(f"/v1/models/{job['model']}")).status_code == 409


async def test_a_delivery_that_is_repeated_starts_one_job_and_one_model(
    client: httpx.AsyncClient, resources: Resources
) -> None:
    trigger = await made(client)
    first = await delivered(client, trigger, MLFLOW_EVENT)
    with resources.database.transaction() as tx:
        tx.execute(hook_deliveries.update().values(outcome=None))  # as if the gateway had died before its answer
    again = await delivered(client, trigger, MLFLOW_EVENT)
    assert first.headers["Location"] == again.headers["Location"]
    assert (
        len((await client.get("/v1/jobs")).json()["items"])
        == len((await client.get("/v1/models")).json()["items"])
        == 1
    )


async def test_a_refused_job_brings_no_model(client: httpx.AsyncClient) -> None:
    steps = {"steps": [{"technique": "retrain"}]}  # needs data, and the trigger names none
    answer = await delivered(client, await made(client, recipe=steps), MLFLOW_EVENT)
    assert answer.json()["accepted"] is False
    assert (await client.get("/v1/models")).json()["items"] == []


async def test_the_result_is_due_once_the_job_has_succeeded(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    job = await started(client, mlflow={"result": {"name": "small-{name}", "alias": None, "tags": {"a": "b"}}})
    fetch(resources, worker, job["model"])
    worker.accept_model(job["model"])
    with resources.database.transaction() as tx:
        assert registrations.take_due(tx, 60) == []
    worker.end(worker.claim(job["id"]), JobState.SUCCEEDED)
    with resources.database.transaction() as tx:
        (due,) = registrations.take_due(tx, 60)
        assert registrations.take_due(tx, 60) == []  # it is leased
    assert (due.job_id, due.result_name, due.alias, due.tags) == (job["id"], "small-spam", None, {"a": "b"})
    assert (due.source_name, due.source_version, due.server) == ("spam", "3", "default")


async def test_a_registration_that_fails_waits_longer_each_time(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    job = await started(client)
    fetch(resources, worker, job["model"])
    worker.accept_model(job["model"])
    worker.end(worker.claim(job["id"]), JobState.SUCCEEDED)
    waits = []
    while True:
        with resources.database.transaction() as tx:
            tx.execute(table.update().where(table.c.next_at.is_not(None)).values(next_at=0))
            due = registrations.take_due(tx, 60)
            if not due:
                break
            registrations.record(tx, due[0], None)
            row = tx.execute(table.select()).one()
            waits.append((row.next_at or work.read(tx, job["id"]).ended_at) - work.read(tx, job["id"]).ended_at)
    assert len(waits) == 10
    assert waits[:6] == sorted(waits[:6])


async def test_no_result_is_registered_when_none_is_wanted(client: httpx.AsyncClient, resources: Resources) -> None:
    await started(client, mlflow={"result": None})
    with resources.database.reading() as tx:
        assert tx.execute(table.select()).all() == []


@pytest.mark.parametrize(
    "event",
    [
        {**MLFLOW_EVENT, "data": {"name": "spam", "version": "3", "tags": {"modelpress.job": "job_1"}}},
        {
            "entity": "model_version_tag",
            "action": "set",
            "data": {"name": "s", "version": "1", "key": "modelpress.job"},
        },
        {"entity": "model_version_alias", "action": "created", "data": {"name": "ours", "alias": "a", "version": "7"}},
        {"entity": "model_version_alias", "action": "deleted", "data": {"name": "spam", "alias": "a"}},
        {"entity": "registered_model", "action": "created", "data": {"name": "spam"}},
        {"entity": "model_version", "action": "created", "data": {"name": "spam", "version": "../3"}},
    ],
)
async def test_what_names_no_version_of_somebody_elses_starts_nothing(
    client: httpx.AsyncClient, resources: Resources, event: dict[str, Any]
) -> None:
    job = await started(client, mlflow={"result": {"name": "ours"}})
    with resources.database.transaction() as tx:
        registrations.note_version(tx, job["id"], "7")
    answer = await delivered(client, await made(client), event, "two")
    assert (answer.status_code, answer.json()["accepted"]) == (200, False), answer.text
    assert len((await client.get("/v1/jobs")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "standard"}, ""),
        ({"model": f"mdl_{'0' * 26}"}, ""),
        ({"mlflow": {"server": "https://x"}}, "/mlflow/server"),
        ({"mlflow": {"result": {"name": "{other}"}}}, "/mlflow/result/name"),
        ({"mlflow": {"result": {"alias": "a b"}}}, "/mlflow/result/alias"),
    ],
)
async def test_a_loop_that_cannot_work_is_pointed_at(
    client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    body = {"name": "loop", "kind": "mlflow", "secret": SECRET, "recipe": RECIPE, "mlflow": {}, **changes}
    answer = await client.post("/v1/triggers", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
