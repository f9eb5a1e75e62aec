"""The real path on a tiny image model: check, compress, benchmark, through Valkey, Celery and the sandboxed child."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from app.contracts.artifact import Artifact
from app.contracts.report import Report
from app.contracts.tasks import WorkKind
from app.resources import Resources
from app.stores import records
from app.stores.tables import artifacts, benchmarks, datasets, jobs, models
from examples.networks import residual_cnn
from tests.stand_in import stack
from tests.workers.importers.several_files import split, zipped

STEPS = [
    {"technique": "retrain", "epochs": 2, "learning_rate": 0.003},
    {"technique": "share_weights", "clusters": 16, "epochs": 0.5},
]


@dataclass(frozen=True)
class Service:
    """A running service with a checked model and data set."""

    resources: Resources
    worker: Any
    model: str
    dataset: str


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with stack.data_folder() as folder, stack.open_stores(stack.settings_for(folder)) as resources:
        broker = stack.start_broker(folder)
        worker = stack.start_worker(resources.settings, module="workers.main")
        sweeper = stack.start_sweeper(resources.settings)
        model = add_model(resources, residual_cnn((16,), 1, 8, 10).SerializeToString())
        dataset = add_dataset(resources)
        yield Service(resources, worker, model, dataset)
        for process in (worker, sweeper, broker):
            stack.kill(process)


def add_model(resources: Resources, content: bytes) -> str:
    document = {"name": "m", "format": "onnx", "tags": {}, "size_bytes": len(content)}
    columns = {"document": document, "sha256": stack.keep_bytes(resources, content)}
    return stack.submit(resources, ("mdl", models), columns, WorkKind.CHECK_MODEL)


def add_dataset(resources: Resources) -> str:
    bunch, content = load_digits(), io.BytesIO()
    np.savez(content, image=(bunch.images / 16).astype(np.float32)[:, None], label=bunch.target.astype(np.int64))
    document = {"name": "d", "format": "npz", "size_bytes": 1, "tags": {}}
    columns = {"document": document, "sha256": stack.keep_bytes(resources, content.getvalue())}
    return stack.submit(resources, ("dst", datasets), columns, WorkKind.CHECK_DATASET)


def compress(service: Service, steps: list[dict[str, Any]], **more: Any) -> str:
    recipe = {"version": 1, "steps": steps}
    stack.ended(service.resources, service.model)
    stack.ended(service.resources, service.dataset)
    document = {"model": service.model, "dataset": service.dataset, "recipe": recipe, "seed": 3, **more}
    return stack.submit(service.resources, ("job", jobs), {"document": document}, WorkKind.COMPRESS)


def published(service: Service, job_id: str) -> tuple[Artifact, Report]:
    row = stack.ended(service.resources, job_id, 90)
    assert (row.state, row.error) == ("succeeded", None)
    with service.resources.database.reading() as tx:
        job = records.get(tx, jobs, "tenant", job_id)
        artifact = records.get(tx, artifacts, "tenant", job["artifact_id"])
    return Artifact.model_validate(artifact["document"]), Report.model_validate(job["report"])


@pytest.fixture(scope="module")
def first(service: Service) -> tuple[Artifact, Report]:
    return published(service, compress(service, STEPS))


def test_an_upload_is_checked_by_the_real_child(service: Service) -> None:
    row = stack.ended(service.resources, service.model)
    assert (row.state, row.sandbox, row.error) == ("succeeded", "full", None)
    row = stack.ended(service.resources, service.dataset)
    assert (row.state, row.error) == ("succeeded", None)


def test_an_upload_in_several_files_is_checked_by_the_real_child(service: Service, tmp_path: Any) -> None:
    files = split(residual_cnn((16,), 1, 8, 10), tmp_path / "written")
    content = zipped(tmp_path / "model.zip", files).read_bytes()
    row = stack.ended(service.resources, add_model(service.resources, content))
    assert (row.state, row.sandbox, row.error) == ("succeeded", "full", None)


def test_a_damaged_model_is_rejected_with_its_name(service: Service) -> None:
    row = stack.ended(service.resources, add_model(service.resources, b"no model at all"))
    assert (row.state, row.error["type"].rpartition("/")[2]) == ("failed", "model-malformed")


def test_the_same_job_gives_the_same_bytes_even_when_its_child_was_killed(
    service: Service, first: tuple[Artifact, Report]
) -> None:
    again = compress(service, STEPS)
    stack.until(lambda: any(entry["kind"] == "curve" for entry in stack.history(service.resources, again)), 60)
    (child,) = stack.children(service.worker.pid)
    stack.kill_pid(child)
    second, _report = published(service, again)
    assert stack.read(service.resources, again).attempt == 2
    assert digests(second) == digests(first[0])


def digests(artifact: Artifact) -> dict[str, str]:
    return {name: variant.sha256 for name, variant in artifact.variants.items()}


def test_the_artifact_opens_in_onnx_runtime(service: Service, first: tuple[Artifact, Report], tmp_path: Any) -> None:
    artifact, report = first
    path = tmp_path / "packed.onnx"
    assert service.resources.blobs.fetch(artifact.variants["packed"].sha256, path) > 0
    assert report.digests["packed"] == artifact.variants["packed"].sha256
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((2, 1, 8, 8), np.float32)})[0].shape == (2, 10)


def test_a_report_is_kept_when_the_guard_is_not_met(service: Service) -> None:
    steps = [{"technique": "share_weights", "clusters": 2, "epochs": 0.1}]
    job_id = compress(service, steps, guard={"metric": "agreement", "max_drop": 0.0})
    row = stack.ended(service.resources, job_id, 90)
    with service.resources.database.reading() as tx:
        report = records.get(tx, jobs, "tenant", job_id)["report"]
    assert (row.state, row.error["type"].rpartition("/")[2]) == ("failed", "guard-not-met")
    assert Report.model_validate(report).guard is not None


def test_an_artifact_is_benchmarked_against_its_original(service: Service, first: tuple[Artifact, Report]) -> None:
    artifact, _report = first
    document = {"against": service.model, "spec": {"batch_sizes": [1], "threads": 1, "max_seconds": 2}}
    columns = {"document": document, "artifact_id": artifact.id}
    benchmark = stack.submit(service.resources, ("bmk", benchmarks), columns, WorkKind.BENCHMARK)
    row = stack.ended(service.resources, benchmark, 60)
    with service.resources.database.reading() as tx:
        result = records.get(tx, benchmarks, "tenant", benchmark)["result"]
    assert (row.state, row.error) == ("succeeded", None)
    assert "1@1" in result["speedups"]
