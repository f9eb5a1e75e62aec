"""No secret in any line of the gateway or a worker: both run as they are deployed, at their most talkative."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.signatures import new_secret
from tests.app.seeds import UNKNOWN
from tests.app.serving import serving

ENVIRONMENT_KEY = "environment-key-that-nobody-reads"
PASSWORD = "password-of-the-broker"
BROKER = f"redis://user:{PASSWORD}@127.0.0.1:1/0"
OWN_SECRET = "a-trigger-secret-of-the-sender-1"


def lines(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text().splitlines():
        yield json.loads(line)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def provoke(url: str) -> set[str]:
    """Send secrets to every place where one may stand, right and wrong; return them all."""
    with httpx.Client(base_url=url, headers=bearer(ENVIRONMENT_KEY), timeout=60) as admin:
        key = admin.post("/v1/keys", json={"name": "a"}).json()["key"]
        wrong = f"mp_{'x' * 43}"
        recipe = {"steps": [{"technique": "share_weights"}]}
        made = admin.post("/v1/triggers", json={"name": "a", "recipe": recipe}).json()
        admin.post("/v1/triggers", json={"name": "b", "kind": "mlflow", "secret": OWN_SECRET, "recipe": recipe})
        signature = {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": f"v1,{new_secret()}"}
        admin.post(made["hook"], content=b"{}", headers=signature)
        body = {"model": f"mdl_{UNKNOWN}", "recipe": recipe, "webhook": "https://me:webhook-password@example.org/"}
        admin.post("/v1/jobs", json=body)
        for given in (key, wrong):
            for headers in (bearer(given), {"Authorization": given}, {"Authorization": f"Basic {given}"}):
                admin.get("/v1/models", headers=headers)
                admin.post("/v1/jobs", json=body, headers=headers)
            admin.get(f"/v1/keys/{given}")
            admin.get("/v1/models", params={"key": given})
            admin.get(f"/{given}", headers={"X-Request-Id": given})
        admin.post("/v1/uploads", headers={"Upload-Complete": "?0", "Content-Digest": made["secret"]})
    return {key, wrong, made["secret"], OWN_SECRET, ENVIRONMENT_KEY, signature["webhook-signature"], "webhook-password"}


@pytest.mark.timeout(300)
def test_no_line_of_the_gateway_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", BROKER)
    keys = json.dumps({ENVIRONMENT_KEY: "tenant"})
    with serving(tmp_path, api_keys=keys, log_level="DEBUG", webhook_secret="service-secret-of-webhooks") as served:
        secrets = provoke(served.url) | {PASSWORD, "service-secret-of-webhooks"}

    log = tmp_path / "gateway.log"
    said = log.read_text()
    assert {secret for secret in secrets if secret in said} == set()
    assert len([line for line in lines(log) if line["event"] == "audit"]) > 10


@pytest.mark.timeout(300)
def test_no_line_of_a_worker_without_a_broker_holds_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", BROKER)
    monkeypatch.setenv("MODELPRESS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MODELPRESS_LOG_LEVEL", "DEBUG")
    command = [sys.executable, "-m", "workers.main", "--queues", "checks"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as worker:
        assert worker.stdout is not None
        said: list[object] = []
        for line in worker.stdout:
            said.append(json.loads(line))
            if "127.0.0.1:1" in line:
                break
        worker.terminate()
        said.append(worker.stdout.read())  # Celery's own farewell is no JSON

    assert "Cannot connect" in str(said)
    assert PASSWORD not in str(said)


async def test_audit_line_says_who_did_what(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = await client.post("/v1/uploads", headers={"Upload-Complete": "?0", "X-Request-Id": "trace-1"})
    await client.delete(f"/v1/models/mdl_{UNKNOWN}")
    await client.get("/v1/models", headers={"Host": "elsewhere.example"})
    await client.get("/v1/models")

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [line for line in found if line["event"] == "audit"]
    assert [(line["action"], line["target"], line["outcome"], line["status"]) for line in told] == [
        ("create_upload", made.json()["id"], "done", 201),
        ("delete_model", f"mdl_{UNKNOWN}", "refused", 404),
        ("list_models", None, "refused", 403),
    ]
    assert (told[0]["tenant"], told[0]["key_id"], told[0]["request_id"]) == ("default", None, "trace-1")
    assert told[2]["tenant"] is None
