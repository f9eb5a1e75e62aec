import asyncio
import base64
import hashlib
import json

import httpx

from app.errors import ModelMalformed
from tests.app.acting_worker import ActingWorker

ONNX = b"\x08\x0a" + b"model bytes" * 100
RAW = {"Content-Type": "application/octet-stream"}


async def test_model_is_made_of_a_raw_body(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models?name=tiny", content=ONNX, headers=RAW)

    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/models/{answer.json()['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["state"] == "checking"
    assert answer.json()["size_bytes"] == len(ONNX)


def stating(content: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return RAW | {"Content-Digest": f"sha-256=:{digest}:"}


async def test_raw_body_is_taken_when_it_has_the_stated_digest(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/models", content=ONNX, headers=stating(ONNX))).status_code == 202


async def test_raw_body_is_refused_when_it_has_another_digest_than_stated(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models", content=ONNX, headers=stating(b"other"))

    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/digest-mismatch")
    assert (await client.get("/v1/models")).json()["items"] == []


async def test_model_is_made_of_an_upload(client: httpx.AsyncClient) -> None:
    upload = (await client.post("/v1/uploads", content=ONNX, headers={"Upload-Complete": "?1"})).json()

    answer = await client.post("/v1/models", json={"upload": upload["id"], "name": "tiny", "tags": {"team": "a"}})

    assert answer.status_code == 202, answer.text
    read = (await client.get(answer.headers["Location"])).json()
    assert read["tags"] == {"team": "a"}
    assert read["sha256"] == upload["sha256"]


async def test_model_is_made_of_a_form(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models", files={"file": ("a.onnx", ONNX)}, data={"tags": json.dumps({"a": "b"})})

    assert answer.status_code == 202, answer.text
    assert answer.json()["name"] == "a.onnx"
    assert answer.json()["tags"] == {"a": "b"}
    assert answer.json()["size_bytes"] == len(ONNX)


async def test_checked_model_is_ready(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()
    worker.accept_model(model["id"])

    read = (await client.get(f"/v1/models/{model['id']}")).json()

    assert read["state"] == "ready"
    assert read["summary"]["parameters"] == 10


async def test_waiting_answers_201_when_the_check_succeeds(client: httpx.AsyncClient, worker: ActingWorker) -> None:
    waiting = asyncio.create_task(client.post("/v1/models", content=ONNX, headers={**RAW, "Prefer": "wait=5"}))
    await _until_listed(client)
    worker.accept_model((await client.get("/v1/models")).json()["items"][0]["id"])

    answer = await waiting

    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "wait=5"
    assert answer.json()["state"] == "ready"


async def test_waiting_answers_the_problem_when_the_check_fails(
    client: httpx.AsyncClient, worker: ActingWorker
) -> None:
    waiting = asyncio.create_task(client.post("/v1/models", content=ONNX, headers={**RAW, "Prefer": "wait=5"}))
    await _until_listed(client)
    worker.reject((await client.get("/v1/models")).json()["items"][0]["id"], ModelMalformed("It ends in a tensor."))

    answer = await waiting

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/model-malformed")
    assert answer.json()["instance"] == answer.headers["X-Request-Id"]


async def _until_listed(client: httpx.AsyncClient) -> None:
    while not (await client.get("/v1/models")).json()["items"]:
        await asyncio.sleep(0.02)
