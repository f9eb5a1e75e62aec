"""From an alias in a real MLflow server to a compressed version in it, without a hand between."""

import io
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from app import signatures
from app.resources import Resources
from app.stores.tables import hook_deliveries, registrations
from examples.networks import residual_cnn
from tests.app.serving import serving
from tests.stand_in import mlflow_server, stack

pytestmark = pytest.mark.timeout(600)  # whichever test comes first waits for the loop
SECRET = "a shared secret of the registry"
RECIPE = {"steps": [{"technique": "share_weights", "clusters": 16}]}
RAW = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Place:
    """MLflow, the service, and the folder of both."""

    resources: Resources
    registry: httpx.Client
    gateway: httpx.Client
    folder: Path

    def ask(self, path: str, **params: str) -> httpx.Response:
        return self.registry.get(f"/api/2.0/mlflow/{path}", params=params)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with ExitStack() as opened:
        folder = opened.enter_context(stack.data_folder())
        server = opened.enter_context(mlflow_server.serving(folder))
        servers = json.dumps({"default": {"url": server}})
        resources = opened.enter_context(stack.open_stores(stack.settings_for(folder)))
        told = {"MODELPRESS_MLFLOW_SERVERS": servers}
        processes = [
            stack.start_broker(folder),
            stack.start_worker(resources.settings, module="workers.main", extra=told),
            stack.start_sweeper(resources.settings, extra=told),
        ]
        for process in processes:
            opened.callback(stack.kill, process)
        served = opened.enter_context(serving(folder, mlflow_servers=servers, allow_private_urls="true"))
        registry = opened.enter_context(httpx.Client(base_url=server, timeout=60, trust_env=False))
        gateway = opened.enter_context(httpx.Client(base_url=served.url, timeout=60, trust_env=False))
        yield Place(resources, registry, gateway, folder)


def add_dataset(place: Place) -> str:
    bunch, content = load_digits(), io.BytesIO()
    np.savez(content, image=(bunch.images / 16).astype(np.float32)[:, None], label=bunch.target.astype(np.int64))
    answer = place.gateway.post("/v1/datasets?format=npz", content=content.getvalue(), headers=RAW)
    assert answer.status_code == 202, answer.text
    dataset = str(answer.json()["id"])
    assert stack.ended(place.resources, dataset, 120).state == "succeeded"
    return dataset


def deliveries(place: Place) -> list[dict[str, Any]]:
    with place.resources.database.reading() as tx:
        found = tx.execute(hook_deliveries.select().order_by(hook_deliveries.c.at)).all()
    return [row.outcome for row in found if row.outcome is not None]


def compressed(place: Place) -> dict[str, Any] | None:
    answer = place.ask("registered-models/alias", name="digits-compressed", alias="compressed")
    return dict(answer.json()["model_version"]) if answer.is_success else None


def file_of(place: Place, version: dict[str, Any]) -> bytes:
    uri = place.ask("model-versions/get-download-uri", name=version["name"], version=version["version"])
    path = uri.json()["artifact_uri"].removeprefix("mlflow-artifacts:/").strip("/")
    found = place.registry.get(f"/api/2.0/mlflow-artifacts/artifacts/{path}/model.onnx")
    assert found.status_code == 200, found.text
    return found.content


@dataclass(frozen=True)
class Looped:
    """What an alias led to before anything else was asked: our version, the deliveries, the jobs."""

    trigger: str
    registered: str
    version: dict[str, Any]
    deliveries: list[dict[str, Any]]
    jobs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def looped(place: Place) -> Looped:
    """Set an alias and wait until a compressed version stands beside it; tests run in any order after that."""
    path = place.folder / "digits.onnx"
    onnx.save(residual_cnn((16,), 1, 8, 10), path)
    body = {
        "name": "registry", "kind": "mlflow", "secret": SECRET, "recipe": RECIPE, "dataset": add_dataset(place),
        "match": {"events": ["model_version_alias.created"]}, "mlflow": {"result": {"tags": {"team": "a"}}},
    }  # fmt: skip
    trigger = place.gateway.post("/v1/triggers", json=body).json()
    hook = str(place.gateway.base_url.join(trigger["hook"]))
    script = stack.HERE / "register_model.py"
    registered = mlflow_server.run(
        place.folder, script, str(place.registry.base_url), str(path), "digits", hook, SECRET
    )
    stack.until(lambda: compressed(place), 300)
    version = compressed(place)
    assert version is not None
    # The version that we registered is delivered too, by its creation and by its alias.
    stack.until(lambda: len(deliveries(place)) >= 4, 120)
    jobs = place.gateway.get("/v1/jobs").json()["items"]
    return Looped(trigger["id"], registered, version, deliveries(place), jobs)


def test_an_alias_becomes_a_compressed_version(place: Place, looped: Looped) -> None:
    tags = {tag["key"]: tag["value"] for tag in looped.version["tags"]}
    job = place.gateway.get(f"/v1/jobs/{tags['modelpress.job']}").json()
    assert (job["state"], job["trigger"]) == ("succeeded", looped.trigger)
    model = place.gateway.get(f"/v1/models/{job['model']}").json()
    assert (model["origin"]["name"], model["origin"]["version"]) == ("digits", looped.registered)
    assert (tags["modelpress.source"], tags["team"]) == (f"digits/{looped.registered}", "a")
    assert float(tags["modelpress.size_ratio"]) > 1
    assert tags["modelpress.metric"] == "accuracy"
    assert 0 <= float(tags["modelpress.metric_before"]) <= 1
    content = file_of(place, looped.version)
    assert onnxruntime.InferenceSession(content).get_inputs()[0].name == "image"


def test_the_loop_does_not_feed_itself(looped: Looped) -> None:
    assert [one["accepted"] for one in looped.deliveries].count(True) == 1
    assert "the version is one that this service registered" in [one["reason"] for one in looped.deliveries]
    assert len(looped.jobs) == 1


def pulled(place: Place, **source: str) -> dict[str, Any]:
    body = {"source": {"type": "mlflow", **source}}
    answer = place.gateway.post("/v1/models", json=body)
    assert answer.status_code == 202, answer.text
    stack.ended(place.resources, answer.json()["id"], 120)
    return dict(place.gateway.get(f"/v1/models/{answer.json()['id']}").json())


@pytest.mark.usefixtures("looped")
def test_a_version_is_pulled_by_its_alias_with_the_weights_beside_it(place: Place) -> None:
    model = pulled(place, name="digits", alias="candidate")
    assert (model["state"], model["error"]) == ("ready", None)
    assert (model["origin"]["alias"], model["origin"]["version"]) == ("candidate", "1")
    assert model["size_bytes"] > model["summary"]["onnx_bytes"] > 1_000  # a zip of the file and its weights
    assert pulled(place, name="digits", version="1")["sha256"] == model["sha256"]


@pytest.mark.usefixtures("looped")
def test_a_result_of_ours_is_pulled_when_somebody_asks_for_it(place: Place) -> None:
    assert pulled(place, name="digits-compressed", alias="compressed")["state"] == "ready"


@pytest.mark.parametrize(
    "source", [{"name": "digits", "version": "9"}, {"name": "digits", "alias": "no"}, {"name": "none", "version": "1"}]
)
@pytest.mark.usefixtures("looped")
def test_what_the_registry_has_not_is_refused(place: Place, source: dict[str, str]) -> None:
    model = pulled(place, **source)
    assert (model["state"], model["error"]["type"].rpartition("/")[2]) == ("rejected", "source-refused")


@pytest.mark.usefixtures("looped")
def test_a_result_of_ours_is_refused_to_a_job_that_waits_for_it(place: Place) -> None:
    with place.resources.database.transaction() as tx:
        tx.execute(registrations.update().values(result_name="forgotten"))  # as by another service's database
    body = {"name": "all", "kind": "mlflow", "secret": SECRET, "recipe": RECIPE, "mlflow": {}}
    trigger = place.gateway.post("/v1/triggers", json=body).json()
    data = {"name": "digits-compressed", "alias": "x", "version": "1"}
    event = json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()
    stamp = int(time.time())
    signature = signatures.sign(SECRET, "by hand", stamp, event, "mlflow")
    named = {"X-MLflow-Delivery-Id": "by hand", "X-MLflow-Timestamp": str(stamp), "X-MLflow-Signature": signature}
    answer = place.gateway.post(trigger["hook"], content=event, headers=named)
    assert answer.status_code == 202, answer.text
    row = stack.ended(place.resources, answer.json()["job"], 120)
    assert (row.state, "registered the version itself" in row.error["detail"]) == ("failed", True)


@pytest.mark.usefixtures("looped")
def test_a_registration_that_was_cut_off_is_not_made_twice(place: Place) -> None:
    before = compressed(place)
    assert before is not None
    place.registry.request(
        "DELETE",
        "/api/2.0/mlflow/registered-models/alias",
        params={"name": "digits-compressed", "alias": "compressed"},
    )
    with place.resources.database.transaction() as tx:
        tx.execute(registrations.update().values(result_name="digits-compressed", next_at=0, lease_until=None))
    stack.until(lambda: compressed(place), 60)
    after = compressed(place)
    assert after is not None
    assert after["version"] == before["version"]
    found = place.ask("model-versions/search", filter="name='digits-compressed'").json()["model_versions"]
    assert len(found) == 1


@pytest.mark.usefixtures("looped")
def test_the_result_opens_with_the_registrys_own_loader(place: Place) -> None:
    script, server = stack.HERE / "load_model.py", str(place.registry.base_url)
    assert mlflow_server.run(place.folder, script, server, "digits-compressed", "compressed") == "image"
