"""What every call has in common: problem documents, headers, limits, keys."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.api.access import KeysNeeded, refuse_open_bind
from app.main import create_app
from app.settings import Settings
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import ONNX, RAW, UNKNOWN
from tests.app.tenants import OURS, THEIRS, Tenants


def problem(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["instance"] == answer.headers["X-Request-Id"]
    return str(body["type"].removeprefix("https://modelpress.dev/problems/"))


async def test_unknown_path_is_a_problem(client: httpx.AsyncClient) -> None:
    assert problem(await client.get("/v1/nonsense")) == "not-found"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/models", "GET, POST"),
        (f"/v1/uploads/upl_{UNKNOWN}", "GET, HEAD, PATCH, DELETE"),
        (f"/v1/artifacts/art_{UNKNOWN}/content", "GET, HEAD"),
        ("/healthz", "GET"),
    ],
)
async def test_other_method_is_a_problem_that_names_the_allowed_ones(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    answer = await client.put(path)

    assert problem(answer) == "method-not-allowed"
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("media_type", ["application/yaml", "text/plain", "application/x-www-form-urlencoded"])
async def test_body_that_is_not_json_is_415(client: httpx.AsyncClient, media_type: str) -> None:
    answer = await client.post("/v1/jobs", content=b"model: x", headers={"Content-Type": media_type})

    assert (answer.status_code, problem(answer)) == (415, "unsupported-encoding")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets"])
async def test_model_of_another_media_type_is_415(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path, content=b"x", headers={"Content-Type": "text/csv"})).status_code == 415


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/uploads"])
async def test_encoded_body_is_415(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    assert (answer.status_code, problem(answer)) == (415, "unsupported-encoding")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models"])
async def test_broken_json_is_422_without_the_parsers_words(
    client: httpx.AsyncClient, path: str, content: bytes
) -> None:
    answer = await client.post(path, content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, problem(answer)) == (422, "validation-error")
    assert "Expecting" not in answer.text


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models"])
async def test_large_json_is_413(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=b" " * (1 << 21), headers={"Content-Type": "application/json"})

    assert (answer.status_code, problem(answer)) == (413, "payload-too-large")


async def test_large_json_without_a_length_is_413(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * (1 << 16)

    answer = await client.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})

    assert (answer.status_code, problem(answer)) == (413, "payload-too-large")


@pytest.mark.parametrize(
    "path", ["/v1/models?nonsense=1", "/v1/jobs?stat=queued", f"/v1/artifacts/art_{UNKNOWN}/content?x=1"]
)
async def test_unknown_query_parameter_is_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)

    assert (answer.status_code, problem(answer)) == (422, "validation-error")
    assert "Unknown query parameter" in answer.json()["detail"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", f"after={'a' * 41}", "after=%00"])
async def test_pages_have_bounds(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/models?{query}")

    assert (answer.status_code, problem(answer)) == (422, "validation-error")
    assert query.partition("=")[0] in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/jobs?model=%00", "/v1/artifacts?job=%00", "/v1/artifacts?model=x%27"])
async def test_filter_that_is_no_id_is_refused(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 422


@pytest.mark.parametrize("name", ['"\\ud800"', '""', "1", f'"{"x" * 201}"', "NaN"])
async def test_name_that_is_no_text_is_refused(client: httpx.AsyncClient, name: str) -> None:
    content = f'{{"upload": "upl_{UNKNOWN}", "name": {name}}}'

    answer = await client.post("/v1/models", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/name"


PATHS = [
    ("GET", "/v1/models/{mdl}"),
    ("DELETE", "/v1/models/{mdl}"),
    ("GET", "/v1/models/{mdl}/lineage"),
    ("GET", "/v1/jobs/{job}"),
    ("POST", "/v1/jobs/{job}/cancel"),
    ("GET", "/v1/jobs/{job}/events"),
    ("GET", "/v1/jobs/{job}/report"),
    ("GET", "/v1/artifacts/{art}"),
    ("GET", "/v1/artifacts/{art}/content"),
    ("HEAD", "/v1/artifacts/{art}/content"),
    ("GET", "/v1/artifacts/{art}/benchmarks"),
    ("GET", "/v1/benchmarks/{bmk}"),
    ("GET", "/v1/datasets/{dst}"),
    ("DELETE", "/v1/datasets/{dst}"),
    ("GET", "/v1/uploads/{upl}"),
    ("HEAD", "/v1/uploads/{upl}"),
    ("DELETE", "/v1/uploads/{upl}"),
    ("GET", "/v1/triggers/{trg}"),
    ("DELETE", "/v1/triggers/{trg}"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("odd", ["%00", "..%2f..", "mdl_" + "é" * 26, "a" * 5000])
async def test_odd_id_is_404(client: httpx.AsyncClient, method: str, path: str, odd: str) -> None:
    answer = await client.request(method, re.sub(r"\{\w+\}", odd, path))

    assert answer.status_code == 404


async def test_answers_carry_security_headers(client: httpx.AsyncClient) -> None:
    for path in ("/", "/v1/models", "/v1/nonsense", "/openapi.json"):
        headers = (await client.get(path)).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Request-Id"]


async def test_request_id_of_the_client_is_kept(client: httpx.AsyncClient) -> None:
    kept = await client.get("/v1/models", headers={"X-Request-Id": "trace-1"})
    made = await client.get("/v1/models", headers={"X-Request-Id": "a b\tc"})

    assert kept.headers["X-Request-Id"] == "trace-1"
    assert made.headers["X-Request-Id"] != "a b\tc"


async def test_fault_of_our_own_is_500_without_its_words(gateway: FastAPI, client: httpx.AsyncClient) -> None:
    @gateway.get("/broken")
    def broken() -> None:
        msg = "/etc/secret"
        raise RuntimeError(msg)

    answer = await client.get("/broken")

    assert (answer.status_code, problem(answer)) == (500, "internal-error")
    assert "secret" not in answer.text


async def test_database_that_is_away_is_503(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/none/modelpress.db"})
    transport = httpx.ASGITransport(create_app(away), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/v1/models")

        assert (answer.status_code, problem(answer)) == (503, "dependency-unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert str(tmp_path) not in answer.text
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 200


async def test_readiness_names_every_part(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "database": True, "blobs": True, "broker": False, "sandbox": None}


async def test_figures_count_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/v1/models")
    await client.get("/v1/models")

    figures = (await client.get("/metrics")).text

    assert 'modelpress_requests_total{method="GET",route="/models",status="200"} 2.0' in figures


async def test_docs_need_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text

    assert "POST /v1/jobs" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


async def test_techniques_have_schemas(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/techniques")).json()["items"]
    one = (await client.get("/v1/techniques/prune_layers")).json()

    assert one in listed
    assert "keep" in one["options"]["properties"]
    assert (await client.get("/v1/techniques/nonsense")).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Host": "rebound.example.com"},
        {"Host": "127.0.0.1.example.com:8000"},
    ],
)
async def test_other_sites_are_refused_where_no_key_is_asked_for(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.post("/v1/models", files={"file": ("a.onnx", ONNX)}, headers=headers)

    assert (answer.status_code, problem(answer)) == (403, "cross-site-refused")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"},
        {"Host": "localhost:8000", "Origin": "http://localhost:8000"},
        {"Host": "[::1]:8000"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_own_pages_are_served(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("key", [None, "wrong", "", "key of defaul", "clé"])
async def test_call_without_a_known_key_is_401(tenants: Tenants, key: str | None) -> None:
    async with tenants.client(None) as client:
        headers = {"Authorization": f"Bearer {key}".encode()} if key is not None else {}
        answer = await client.get("/v1/models", headers=headers)

    assert (answer.status_code, problem(answer)) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_same_key_of_two_tenants_does_not_meet(tenants: Tenants, worker: ActingWorker) -> None:
    async with tenants.client(OURS) as ours, tenants.client(THEIRS) as theirs:
        jobs = []
        for client in (ours, theirs):
            model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]
            worker.accept_model(model)
            body = {"model": model, "recipe": {"steps": [{"technique": "share_weights"}]}}
            jobs.append((await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "once"})).json()["id"])

    assert jobs[0] != jobs[1]


@pytest.mark.parametrize(
    ("profile", "host", "keys", "refused"),
    [
        ("embedded", "127.0.0.1", {}, False),
        ("embedded", "::1", {}, False),
        ("embedded", "localhost", {}, False),
        ("embedded", "0.0.0.0", {}, True),
        ("embedded", "example.com", {}, True),
        ("production", "127.0.0.1", {}, True),
        ("production", "0.0.0.0", {"key": "tenant"}, False),
    ],
)
def test_open_bind_needs_keys(profile: str, host: str, keys: dict[str, str], refused: bool) -> None:
    settings = Settings(profile=profile, host=host, api_keys=keys)  # type: ignore[arg-type]

    if not refused:
        refuse_open_bind(settings)
        return
    with pytest.raises(KeysNeeded, match="MODELPRESS_API_KEYS"):
        refuse_open_bind(settings)
