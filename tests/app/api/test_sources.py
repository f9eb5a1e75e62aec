"""Models and data sets by `source`: what is refused at once, what is shown, and what is never shown."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.contracts.tasks import WorkKind
from app.errors import NotFound, SourceRefused
from app.outside import MlflowServer, SourceStore
from app.resources import Resources
from app.settings import Settings
from app.stores import fetches, work
from app.stores.sinks import Stored
from tests.app.acting_worker import ActingWorker

SIGNED = "https://models.example.com/deep/m.onnx?X-Signature=s3cr3t#part"
HTTPS = {"type": "https", "url": SIGNED}
SECRET = "very-hidden"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    lab = SourceStore(url="s3://bucket/models", options={"aws_secret_access_key": SecretStr(SECRET)})
    return settings.model_copy(
        update={
            "source_stores": {"lab": lab, "theirs": SourceStore(url="s3://other", tenants=["b"])},
            "mlflow_servers": {"theirs": MlflowServer(url="https://mlflow.example.com", tenants=["b"])},
        }
    )


def fetch(resources: Resources, worker: ActingWorker, work_id: str) -> None:
    held = worker.claim(work_id)
    assert held.kind == WorkKind.FETCH
    with resources.database.transaction() as tx:
        assert fetches.hand_on(tx, held, Stored("e" * 64, 77), {}, 120)


async def made(client: httpx.AsyncClient, source: dict[str, Any], noun: str = "models") -> dict[str, Any]:
    answer = await client.post(f"/v1/{noun}", json={"source": source, "name": "m"})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("noun", ["models", "datasets"])
async def test_what_is_pulled_is_fetched_then_checked(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker, noun: str
) -> None:
    found = await made(client, HTTPS, noun)
    assert (found["state"], found["sha256"], found["size_bytes"]) == ("checking", None, 0)
    origin = {name: value for name, value in found["origin"].items() if value is not None}
    assert origin == {"type": "https", "url": "https://models.example.com/deep/m.onnx"}
    fetch(resources, worker, found["id"])
    read = (await client.get(f"/v1/{noun}/{found['id']}")).json()
    assert (read["state"], read["sha256"], read["size_bytes"]) == ("checking", "e" * 64, 77)
    (worker.accept_model if noun == "models" else worker.accept_dataset)(found["id"])
    assert (await client.get(f"/v1/{noun}/{found['id']}")).json()["state"] == "ready"


async def test_stage_and_progress_are_those_of_the_pulling(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    found = await made(client, HTTPS)
    held = worker.claim(found["id"])
    with resources.database.transaction() as tx:
        work.progress(tx, held, {"stage": "fetching", "progress": 0.5}, [])
    read = (await client.get(f"/v1/models/{found['id']}")).json()
    assert (read["state"], read["stage"], read["progress"]) == ("checking", "fetching", 0.5)


async def test_lineage_names_where_a_model_came_from(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    found = await made(client, {"type": "s3", "store": "lab", "key": "/deep//./m.onnx"})
    fetch(resources, worker, found["id"])
    lineage = (await client.get(f"/v1/models/{found['id']}/lineage")).json()
    assert (lineage["origin"]["store"], lineage["origin"]["key"]) == ("lab", "deep/m.onnx")
    assert lineage["sha256"] == "e" * 64


async def test_a_signature_in_the_address_is_shown_nowhere_and_gone_once_fetched(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    found = await made(client, HTTPS)
    for path in ("models", f"models/{found['id']}", f"models/{found['id']}/lineage"):
        assert "s3cr3t" not in (await client.get(f"/v1/{path}")).text
    with resources.database.reading() as tx:
        assert fetches.source_of(tx, found["id"])["url"] == SIGNED
    fetch(resources, worker, found["id"])
    with resources.database.reading() as tx, pytest.raises(NotFound):
        fetches.source_of(tx, found["id"])


@pytest.mark.parametrize(
    ("source", "name", "pointer"),
    [
        ({"type": "https", "url": "http://example.com/m.onnx"}, "url-forbidden", "/source/url"),
        ({"type": "https", "url": "https://a:b@example.com/m.onnx"}, "url-forbidden", "/source/url"),
        ({"type": "https", "url": "https://127.0.0.1/m.onnx"}, "url-forbidden", "/source/url"),
        ({"type": "https", "url": "https://metadata.internal/m.onnx"}, "url-forbidden", "/source/url"),
        ({"type": "https", "url": "ftp://example.com/m"}, "validation-error", "/source/url"),
        ({"type": "s3", "store": "unknown", "key": "m.onnx"}, "validation-error", "/source/store"),
        ({"type": "s3", "store": "theirs", "key": "m.onnx"}, "validation-error", "/source/store"),
        ({"type": "s3", "store": "lab", "key": "../m.onnx"}, "validation-error", "/source/key"),
        ({"type": "s3", "store": "lab", "key": "a/..\\m"}, "validation-error", "/source/key"),
        ({"type": "s3", "store": "lab", "key": "//"}, "validation-error", "/source/key"),
        ({"type": "s3", "store": "s3://bucket", "key": "m"}, "validation-error", "/source/store"),
        ({"type": "git"}, "validation-error", "/source"),
        ({"type": "mlflow", "server": "theirs", "name": "m", "version": "1"}, "validation-error", "/source/server"),
        ({"type": "mlflow", "name": "m"}, "validation-error", "/source"),
        ({"type": "mlflow", "name": "m", "version": "1", "alias": "a"}, "validation-error", "/source"),
        ({"type": "mlflow", "name": "m/../x", "version": "1"}, "validation-error", "/source/name"),
        ({"type": "mlflow", "name": "m", "version": "1/../2"}, "validation-error", "/source/version"),
    ],
)
async def test_a_source_that_may_not_be_asked_is_pointed_at(
    client: httpx.AsyncClient, source: dict[str, Any], name: str, pointer: str
) -> None:
    answer = await client.post("/v1/models", json={"source": source})

    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].endswith(f"/{name}")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await client.get("/v1/models")).json()["items"] == []


async def test_a_pickle_is_refused_by_its_name(client: httpx.AsyncClient) -> None:
    for source in (
        {"type": "https", "url": "https://example.com/m.pkl"},
        {"type": "s3", "store": "lab", "key": "m.pt"},
    ):
        assert (await client.post("/v1/models", json={"source": source})).status_code == 415


@pytest.mark.parametrize("body", [{}, {"upload": f"upl_{'0' * 26}", "source": HTTPS}])
async def test_either_an_upload_or_a_source_is_named(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    for noun in ("models", "datasets"):
        assert (await client.post(f"/v1/{noun}", json=body)).status_code == 422


async def test_a_failed_fetch_rejects_the_model_and_forgets_the_address(
    client: httpx.AsyncClient, resources: Resources, worker: ActingWorker
) -> None:
    found = await made(client, HTTPS)
    worker.reject(found["id"], SourceRefused("The source answers 404."))
    read = (await client.get(f"/v1/models/{found['id']}")).json()
    assert (read["state"], read["error"]["detail"]) == ("rejected", "The source answers 404.")
    with resources.database.reading() as tx, pytest.raises(NotFound):
        fetches.source_of(tx, found["id"])


def test_options_of_a_store_are_not_printed(gateway: FastAPI) -> None:
    assert SECRET not in repr(gateway.state.resources.settings)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {}),
        ({"token": "t"}, {"authorization": "Bearer t"}),
        ({"token": "t", "username": "u"}, {"authorization": "Basic dTp0"}),
    ],
)
def test_a_server_is_asked_with_what_the_operator_gave(given: dict[str, str], sent: dict[str, str]) -> None:
    server = MlflowServer.model_validate({"url": "https://mlflow.example.com/", **given})
    assert (server.url, server.headers()) == ("https://mlflow.example.com", sent)


@pytest.mark.parametrize("url", ["https://a:b@example.com", "ftp://example.com", "example.com"])
def test_a_server_is_an_address_without_credentials(url: str) -> None:
    with pytest.raises(ValueError, match="a server is"):
        MlflowServer(url=url)


@pytest.mark.parametrize("url", ["/srv/models", "file:///srv", "https://example.com/x", "s3://"])
def test_a_store_is_a_bucket(url: str) -> None:
    with pytest.raises(ValueError, match="a source store is"):
        SourceStore(url=url)
