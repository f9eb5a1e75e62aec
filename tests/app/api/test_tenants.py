"""Every call of the API with another tenant's ids, in path, query and body: each answers as for an unknown id.

The calls come from the OpenAPI description. A new route with an id, a new filter or a new reference in a body fails
here until it is told how to be called.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.access import ID_LIKE
from app.api.openapi import operations
from app.signatures import signed_headers
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import UNKNOWN, job_body, published, ready_dataset, ready_model
from tests.app.tenants import OURS, THEIRS, Tenants

# Path parameters that are ids, and whose. What is none is in NO_IDS.
PARAMETERS = {
    "upload_id": "upl",
    "model_id": "mdl",
    "dataset_id": "dst",
    "job_id": "job",
    "artifact_id": "art",
    "benchmark_id": "bmk",
    "trigger_id": "trg",
    "key_id": "key",
}
NO_IDS = {"/v1/techniques/{name}"}
# What a call needs beside its path to get as far as the id. A signature opens hooks, so no key's tenant is asked.
NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/v1/artifacts/{artifact_id}/benchmarks"): {"json": {}},
    ("post", "/v1/keys/{key_id}/rotate"): {"json": {}},
    ("patch", "/v1/uploads/{upload_id}"): {
        "headers": {"Upload-Offset": "0", "Content-Type": "application/partial-upload"},
        "content": b"x",
    },
}
SIGNED = {"/v1/hooks/{trigger_id}"}
UNDESCRIBED = [("head", "/v1/artifacts/{artifact_id}/content")]
ID_PATTERN = re.compile(r"\^(upl|mdl|dst|job|art|bmk|trg|key)_")
Operation = tuple[str, str]


@pytest.fixture
async def ours(tenants: Tenants) -> Any:
    async with tenants.client(OURS) as client:
        yield client


@pytest.fixture
async def theirs(tenants: Tenants) -> Any:
    async with tenants.client(THEIRS) as client:
        yield client


@pytest.fixture
async def ids(ours: httpx.AsyncClient, worker: ActingWorker) -> dict[str, str]:
    """One thing of every kind, all of the first tenant."""
    artifact = await published(ours, worker)
    read = (await ours.get(f"/v1/artifacts/{artifact}")).json()
    found = {"art": artifact, "job": read["job"], "mdl": read["model"], "dst": await ready_dataset(ours, worker)}
    headers = {"Upload-Complete": "?0"}
    found["upl"] = (await ours.post("/v1/uploads", headers=headers)).json()["id"]
    found["bmk"] = (await ours.post(f"/v1/artifacts/{artifact}/benchmarks", json={})).json()["id"]
    found["trg"] = (await ours.post("/v1/triggers", json={"name": "a", "recipe": read["recipe"]})).json()["id"]
    found["key"] = (await ours.post("/v1/keys", json={"name": "a"})).json()["id"]
    return found


def unknown(ids: dict[str, str]) -> dict[str, str]:
    return {kind: f"{kind}_{UNKNOWN}" for kind in ids}


def filled(path: str, ids: dict[str, str]) -> str:
    """Return the path with ids; KeyError names a parameter that nobody has told this test about."""
    return re.sub(r"\{(\w+)\}", lambda found: ids[PARAMETERS[found[1]]], path)


def with_an_id(gateway: FastAPI) -> list[Operation]:
    described = [(method, path) for path, method, _ in operations(gateway.openapi()) if "{" in path]
    return [*(found for found in described if found[1] not in NO_IDS), *UNDESCRIBED]


def told(answer: httpx.Response, ids: dict[str, str]) -> tuple[int, bytes]:
    """Return what an answer says, without its own request id and without the ids that were asked for."""
    said = answer.content.replace(answer.headers["X-Request-Id"].encode(), b"")
    for kind, found in ids.items():
        said = said.replace(found.encode(), kind.encode())
    return answer.status_code, said


async def test_every_call_with_the_others_id_answers_as_for_an_unknown_one(
    gateway: FastAPI, ours: httpx.AsyncClient, theirs: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    calls, none = with_an_id(gateway), unknown(ids)
    looks = [path for method, path in calls if method == "get"]
    before = [told(await ours.get(filled(path, ids)), {}) for path in looks]
    assert {status for status, _ in before} == {200}

    for method, path in calls:
        needs = NEEDS.get((method, path), {})
        answer = await theirs.request(method, filled(path, ids), **needs)
        nobody = await theirs.request(method, filled(path, none), **needs)

        assert (method, path, answer.status_code) == (method, path, 401 if path in SIGNED else 404)
        assert told(answer, ids) == told(nobody, none)
        assert answer.headers.keys() == nobody.headers.keys()

    assert [told(await ours.get(filled(path, ids)), {}) for path in looks] == before


async def test_every_call_of_the_walk_reaches_its_owners_thing(
    gateway: FastAPI, ours: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    last = sorted(with_an_id(gateway), key=lambda call: call[0] == "delete")
    for method, path in last:
        if path not in SIGNED:
            answer = await ours.request(method, filled(path, ids), **NEEDS.get((method, path), {}))
            assert (method, path, answer.status_code) != (method, path, 404)


async def test_lists_and_filters_show_nothing_of_the_other(
    gateway: FastAPI, theirs: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    lists = [
        (path, operation)
        for path, method, operation in operations(gateway.openapi())
        if method == "get" and path.startswith("/v1/") and "{" not in path and path != "/v1/techniques"
    ]
    assert len(lists) >= 6
    for path, operation in lists:
        filters = [given["name"] for given in operation["parameters"] if ID_LIKE in str(given["schema"])]
        queries = [{}, *({name: found} for name in filters for found in ids.values())]
        for query in queries:
            assert (await theirs.get(path, params=query)).json() == {"items": [], "next": None}, (path, query)


# Bodies that name an id of another resource, by the operation and the place in its schema.
JOB = ("post", "/v1/jobs")
TRIGGER = ("post", "/v1/triggers")
BENCHMARK = ("post", "/v1/artifacts/{artifact_id}/benchmarks")


def named(ids: dict[str, str], **own: str) -> dict[tuple[Operation, str], Any]:
    """Return a body for each place, which names a thing of `ids` there and what is `own` elsewhere."""

    def distilled(option: str) -> dict[str, Any]:
        step = {"technique": "distill", option: ids["mdl"]}
        return job_body(own["mdl"], dataset=own["dst"], recipe={"steps": [step]})

    def triggered(option: str) -> dict[str, Any]:
        step = {"technique": "distill", option: ids["mdl"]}
        return {"name": "a", "dataset": own["dst"], "recipe": {"steps": [step]}}

    recipe = {"steps": [{"technique": "share_weights"}]}
    return {
        (JOB, "/model"): job_body(ids["mdl"]),
        (JOB, "/dataset"): job_body(own["mdl"], dataset=ids["dst"]),
        (JOB, "/recipe/steps/teacher"): distilled("teacher"),
        (JOB, "/recipe/steps/student"): distilled("student"),
        (TRIGGER, "/model"): {"name": "a", "recipe": recipe, "model": ids["mdl"]},
        (TRIGGER, "/dataset"): {"name": "a", "recipe": recipe, "dataset": ids["dst"]},
        (TRIGGER, "/recipe/steps/teacher"): triggered("teacher"),
        (TRIGGER, "/recipe/steps/student"): triggered("student"),
        (("post", "/v1/models"), "/upload"): {"upload": ids["upl"]},
        (("post", "/v1/datasets"), "/upload"): {"upload": ids["upl"], "format": "npz"},
        (BENCHMARK, "/against"): {"against": ids["mdl"]},
    }


def references(gateway: FastAPI) -> set[tuple[Operation, str]]:
    schema = gateway.openapi()
    found = set()
    for path, method, operation in operations(schema):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content:
            found |= {((method, path), place) for place in _places(schema, content["schema"], "", ())}
    return found


def _places(schema: dict[str, Any], node: Any, place: str, above: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, list):
        for inner in node:
            yield from _places(schema, inner, place, above)
    if not isinstance(node, dict):
        return
    if ID_PATTERN.match(str(node.get("pattern", ""))):
        yield place
    reference = node.get("$ref", "")
    if reference and reference not in above:
        kind = schema["components"]["schemas"][reference.rsplit("/", 1)[-1]]
        yield from _places(schema, kind, place, (*above, reference))
    for name, inner in node.get("properties", {}).items():
        yield from _places(schema, inner, f"{place}/{name}", above)
    for key in ("anyOf", "oneOf", "allOf", "items", "additionalProperties", "prefixItems", "propertyNames"):
        yield from _places(schema, node.get(key), place, above)


async def test_every_reference_in_a_body_is_covered(gateway: FastAPI, ids: dict[str, str]) -> None:
    assert references(gateway) == set(named(ids, **ids))


async def test_body_that_names_the_others_thing_answers_as_for_an_unknown_one(
    tenants: Tenants, ids: dict[str, str], theirs: httpx.AsyncClient, worker: ActingWorker
) -> None:
    own = {"mdl": await ready_model(theirs, worker), "dst": await ready_dataset(theirs, worker)}
    own["art"] = await published(theirs, worker, tenant="other")
    none = unknown(ids)
    other, nobody = named(ids, **own), named(none, **own)

    for (method, path), place in other:
        url = filled(path, own)
        answer = await theirs.request(method, url, json=other[(method, path), place])
        as_unknown = await theirs.request(method, url, json=nobody[(method, path), place])

        assert (path, place, answer.status_code) == (path, place, 422)
        assert told(answer, ids) == told(as_unknown, none), (path, place)


async def test_delivery_of_ones_own_trigger_starts_nothing_on_the_others_model(
    ids: dict[str, str], theirs: httpx.AsyncClient
) -> None:
    body = {"name": "a", "recipe": {"steps": [{"technique": "share_weights"}]}}
    trigger = (await theirs.post("/v1/triggers", json=body)).json()
    outcomes = []
    for number, model in enumerate((ids["mdl"], f"mdl_{UNKNOWN}")):
        content = b'{"type": "x", "data": {"model": "%s"}}' % model.encode()
        headers = signed_headers(trigger["secret"], f"delivery-{number}", content)
        outcomes.append((await theirs.post(trigger["hook"], content=content, headers=headers)).json())

    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["accepted"] is False
    assert (await theirs.get("/v1/jobs")).json()["items"] == []
