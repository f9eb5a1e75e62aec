"""What one tenant may take: calls, room, open uploads, and a place in a queue that is not endless."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.rates import Rates
from app.resources import Resources
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import ONNX, RAW, job_body, ready_model
from tests.app.tenants import OURS, THEIRS, Tenants


def allow(resources: Resources, **settings: Any) -> None:
    for name, value in settings.items():
        object.__setattr__(resources.settings, name, value)


def slug(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rsplit("/", 1)[-1])


async def test_more_calls_than_the_bucket_holds_are_429(gateway: FastAPI) -> None:
    clock = [0.0]
    gateway.state.rates = Rates(2, 3, lambda: clock[0])
    tenants = Tenants.of(gateway)
    async with tenants.client(OURS) as ours, tenants.client(THEIRS) as theirs:
        answers = [await ours.get("/v1/models") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert slug(answers[-1]) == "quota-exceeded"
        assert answers[-1].headers["Retry-After"] == "1"
        assert answers[0].headers["RateLimit-Policy"] == '"tenant";q=3;w=2'
        assert [answer.headers["RateLimit"] for answer in answers[::3]] == ['"tenant";r=2;t=1', '"tenant";r=0;t=2']
        assert (await theirs.get("/v1/models")).status_code == 200
        clock[0] = 0.5
        assert [(await ours.get("/v1/models")).status_code for _ in range(2)] == [200, 429]


async def test_probes_are_not_counted(gateway: FastAPI, client: httpx.AsyncClient) -> None:
    gateway.state.rates = Rates(1, 1, lambda: 0.0)

    assert [(await client.get("/healthz")).status_code for _ in range(3)] == [200, 200, 200]


def test_rate_of_zero_limits_nothing() -> None:
    assert Rates(0, 0).take("a") is None


def test_bucket_never_holds_more_than_its_burst() -> None:
    clock = [0.0]
    rates = Rates(100, 2, lambda: clock[0])
    rates.take("a")
    clock[0] = 1_000.0

    assert [rates.take("a").granted for _ in range(3)] == [True, True, False]  # type: ignore[union-attr]


async def test_full_queue_of_all_tenants_is_503(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    model = await ready_model(client, worker)
    await client.post("/v1/jobs", json=job_body(model))
    allow(resources, max_queued=1)

    answer = await client.post("/v1/jobs", json=job_body(model))

    assert (answer.status_code, slug(answer)) == (503, "service-busy")
    assert answer.headers["Retry-After"] == "30"
    assert answer.json()["retryable"]


async def test_full_room_is_429_until_something_is_deleted(client: httpx.AsyncClient, resources: Resources) -> None:
    upload = (await client.post("/v1/uploads", content=ONNX, headers={"Upload-Complete": "?1"})).json()["id"]
    allow(resources, max_stored_bytes_per_tenant=len(ONNX))

    for path, headers in (("/v1/models", RAW), ("/v1/uploads", {"Upload-Complete": "?1"})):
        answer = await client.post(path, content=b"other bytes", headers=headers)
        assert (path, answer.status_code, slug(answer)) == (path, 429, "storage-quota-exceeded")
    await client.delete(f"/v1/uploads/{upload}")
    assert (await client.post("/v1/models", content=ONNX, headers=RAW)).status_code == 202


async def test_same_content_counts_once(client: httpx.AsyncClient, resources: Resources) -> None:
    await client.post("/v1/models", content=ONNX, headers=RAW)
    await client.post("/v1/datasets?format=npz", content=b"PK npz", headers=RAW)
    allow(resources, max_stored_bytes_per_tenant=len(ONNX) + 7)

    assert (await client.post("/v1/uploads", content=b"x", headers={"Upload-Complete": "?1"})).status_code == 201
    assert (await client.post("/v1/uploads", content=b"y", headers={"Upload-Complete": "?1"})).status_code == 429


async def test_growing_upload_is_stopped_at_the_next_part(client: httpx.AsyncClient, resources: Resources) -> None:
    allow(resources, max_stored_bytes_per_tenant=5)
    first = await client.post("/v1/uploads", content=b"12345", headers={"Upload-Complete": "?0"})
    part = {"Upload-Offset": "5", "Content-Type": "application/partial-upload"}

    answer = await client.patch(first.headers["Location"], content=b"6", headers=part)

    assert (answer.status_code, slug(answer)) == (429, "storage-quota-exceeded")


async def test_room_of_one_tenant_is_not_the_others(gateway: FastAPI, resources: Resources) -> None:
    tenants = Tenants.of(gateway)
    allow(resources, max_stored_bytes_per_tenant=len(ONNX))
    async with tenants.client(OURS) as ours, tenants.client(THEIRS) as theirs:
        assert (await ours.post("/v1/models", content=ONNX, headers=RAW)).status_code == 202
        assert (await theirs.post("/v1/models", content=ONNX, headers=RAW)).status_code == 202


async def test_open_uploads_have_a_limit(client: httpx.AsyncClient, resources: Resources) -> None:
    allow(resources, max_open_uploads_per_tenant=1)
    await client.post("/v1/uploads", headers={"Upload-Complete": "?0"})

    answer = await client.post("/v1/uploads", headers={"Upload-Complete": "?0"})

    assert (answer.status_code, slug(answer)) == (429, "quota-exceeded")
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nonsense"])
async def test_refused_key_uses_nothing_up(gateway: FastAPI, path: str) -> None:
    gateway.state.rates = Rates(1, 1, lambda: 0.0)
    tenants = Tenants.of(gateway)
    async with tenants.client("wrong") as nobody, tenants.client(OURS) as ours:
        assert "RateLimit" not in (await nobody.get(path)).headers
        assert (await ours.get("/v1/models")).status_code == 200
