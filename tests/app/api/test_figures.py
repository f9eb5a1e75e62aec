"""Figures of the whole service at `/metrics`; again over PostgreSQL by test_postgresql.py."""

import httpx
import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from app.api.figures import Kept
from app.contracts.job import JobState
from app.errors import ModelMalformed
from app.resources import Resources
from app.stores import work
from app.stores.tables import work as work_table
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import ONNX, RAW, published, ready_model, submitted_job

Labels = tuple[str, ...]


async def scraped(client: httpx.AsyncClient, name: str) -> dict[Labels, float]:
    text = (await client.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


async def test_lease_age_tells_of_the_work_longest_without_a_renewal(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    model = await ready_model(client, worker)
    late, fresh = [worker.claim(await submitted_job(client, model)) for _ in range(2)]
    with resources.database.transaction() as tx:
        was_renewed = work_table.c.lease_until - 20.0
        tx.execute(work_table.update().where(work_table.c.id == late.id).values(lease_until=was_renewed))
        work.renew(tx, fresh, resources.settings.lease_s)

    ages = await scraped(client, "modelpress_lease_age_seconds")

    assert ages == {("cpu",): pytest.approx(20.0, abs=3.0)}


async def test_paused_search_has_no_lease_that_ages(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    held = worker.claim(await submitted_job(client, await ready_model(client, worker)))
    with resources.database.transaction() as tx:
        assert work.pause(tx, held, {})

    assert await scraped(client, "modelpress_lease_age_seconds") == {}


async def test_ended_work_is_counted_by_kind_and_state(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = await ready_model(client, worker)
    worker.end(worker.claim(await submitted_job(client, model)), JobState.SUCCEEDED)
    refused = (await client.post("/v1/models", content=b"other", headers=RAW)).json()["id"]
    worker.reject(refused, ModelMalformed())
    await submitted_job(client, model)

    ended = await scraped(client, "modelpress_jobs_ended")

    assert ended == {
        ("check_model", "succeeded"): 1,
        ("check_model", "failed"): 1,
        ("compress", "succeeded"): 1,
    }


async def test_attempts_that_lost_their_worker_are_summed(
    client: httpx.AsyncClient, worker: ActingWorker, resources: Resources
) -> None:
    model = await ready_model(client, worker)
    jobs = [await submitted_job(client, model) for _ in range(2)]
    for job in (jobs[0], jobs[0], jobs[1]):
        held = worker.claim(job)
        with resources.database.transaction() as tx:
            work.release(tx, held, lost=True)

    assert await scraped(client, "modelpress_attempts_lost") == {(): 3}


async def test_stored_bytes_count_a_content_once_within_its_noun(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    await published(client, worker, packed=b"packed", dense=b"dense")
    await client.post("/v1/models", content=ONNX, headers=RAW)
    await client.post("/v1/uploads", content=b"abc", headers={"Upload-Complete": "?0"})

    stored = await scraped(client, "modelpress_stored_bytes")

    assert stored == {("models",): len(ONNX), ("datasets",): 0, ("artifacts",): 11, ("uploads",): len(ONNX) + 3}


def test_what_is_costly_is_asked_for_once_in_its_time() -> None:
    times = iter([0.0, 0.0, 59.0, 60.0, 60.0])
    asked: list[GaugeMetricFamily] = []
    kept = Kept(lambda: [asked.append(GaugeMetricFamily("a", "a")) or asked[-1]], 60.0, lambda: next(times))

    first, second, third = kept(), kept(), kept()

    assert first == second
    assert first is not third
    assert len(asked) == 2
