"""Which webhooks are refused when they are named, before anything is looked up."""

import httpx
import pytest

from app.resources import Resources
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import job_body, ready_model


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/", "https://user:pw@example.org/", "https://localhost/", "https://localhost./",
        "https://a.localhost/", "https://printer.local/", "https://metadata.google.internal./", "https://redis:6379/",
        "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.1/",
        "https://169.254.169.254/", "https://168.63.129.16/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/", "https://[fd00:ec2::254]/", "https://127。0。0。1/", "https://①②⑦.0.0.1/",
    ],
)  # fmt: skip
async def test_webhook_that_is_plainly_not_public_is_refused(
    client: httpx.AsyncClient, worker: ActingWorker, address: str
) -> None:
    model = await ready_model(client, worker)

    answer = await client.post("/v1/jobs", json=job_body(model, webhook=address))

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (422, "url-forbidden")
    assert answer.json()["errors"][0]["pointer"] == "/webhook"


async def test_public_webhook_is_taken(client: httpx.AsyncClient, worker: ActingWorker, resources: Resources) -> None:
    model = await ready_model(client, worker)

    answer = await client.post("/v1/jobs", json=job_body(model, webhook="https://hooks.example.org:8443/x"))

    assert answer.status_code == 202
