"""Kills in mid-training of a real job: it goes on from its checkpoint to the files of an undisturbed run."""

import io
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from app.contracts.report import Report
from app.contracts.tasks import WorkKind
from app.resources import Resources
from app.stores import checkpoints, records, work
from app.stores.tables import datasets, jobs, models
from examples.networks import residual_cnn
from tests.stand_in import stack

EVERY_S = 0.5
# Most of a second for each epoch: long enough to be killed in the middle, and to leave checkpoints before.
TRAINING = {"batch_size": 8, "learning_rate": 0.002, "patience": 100}
RECIPE = {
    "steps": [
        {"technique": "prune_weights", "sparsity": 0.6, "schedule": "cubic", "epochs": 2, **TRAINING},
        {"technique": "retrain", "epochs": 4, **TRAINING},
    ]
}
LIMIT_S = 400.0
pytestmark = pytest.mark.timeout(900)


@dataclass
class Service:
    """A running service with a checked model and data set, and what a job gives that nothing disturbs."""

    resources: Resources
    processes: dict[str, Any]
    model: str
    dataset: str
    undisturbed: dict[str, str]

    def submit(self) -> str:
        document = {"model": self.model, "dataset": self.dataset, "recipe": RECIPE, "seed": 3}
        return stack.submit(self.resources, ("job", jobs), {"document": document}, WorkKind.COMPRESS, max_run_s=600)

    def restart(self) -> None:
        self.processes["worker"] = start_worker(self.resources)

    def child(self) -> int:
        (child,) = stack.children(self.processes["worker"].pid)
        return child


def start_worker(resources: Resources) -> Any:
    return stack.start_worker(resources.settings, module="workers.main")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with stack.data_folder() as folder:
        settings = stack.settings_for(folder, checkpoint_every_s=EVERY_S, kill_grace_s=5.0)
        with stack.open_stores(settings) as resources, running(resources) as processes:
            found = Service(resources, processes, *inputs(resources), undisturbed={})
            first = found.submit()
            ended(resources, first)
            found.undisturbed = report(resources, first).digests
            yield found


@contextmanager
def running(resources: Resources) -> Iterator[dict[str, Any]]:
    processes = {
        "broker": stack.start_broker(resources.settings.data_dir),
        "worker": start_worker(resources),
        "sweeper": stack.start_sweeper(resources.settings),
    }
    try:
        yield processes
    finally:
        for process in reversed(processes.values()):
            stack.kill(process)


def inputs(resources: Resources) -> tuple[str, str]:
    network = residual_cnn((16,), 1, 8, 10).SerializeToString()
    columns = {
        "document": {"name": "m", "format": "onnx", "tags": {}, "size_bytes": len(network)},
        "sha256": stack.keep_bytes(resources, network),
    }
    model = stack.submit(resources, ("mdl", models), columns, WorkKind.CHECK_MODEL)
    bunch, content = load_digits(), io.BytesIO()
    np.savez(content, image=(bunch.images / 16).astype(np.float32)[:, None], label=bunch.target.astype(np.int64))
    columns = {
        "document": {"name": "d", "format": "npz", "size_bytes": 1, "tags": {}},
        "sha256": stack.keep_bytes(resources, content.getvalue()),
    }
    dataset = stack.submit(resources, ("dst", datasets), columns, WorkKind.CHECK_DATASET)
    for work_id in (model, dataset):
        ended(resources, work_id)
    return model, dataset


def ended(resources: Resources, work_id: str, state: str = "succeeded") -> Any:
    row = stack.ended(resources, work_id, LIMIT_S)
    assert row.state == state, row.error
    return row


def report(resources: Resources, job_id: str) -> Report:
    with resources.database.reading() as tx:
        return Report.model_validate(records.get(tx, jobs, "tenant", job_id)["report"])


def checkpoint(resources: Resources, job_id: str) -> checkpoints.Found | None:
    with resources.database.reading() as tx:
        return checkpoints.find(tx, job_id)


def wait_for_training(resources: Resources, job_id: str, step: int, epoch: float) -> None:
    """Wait until a checkpoint of this step, or of a later one, is of this epoch or beyond."""

    def reached() -> bool:
        found = checkpoint(resources, job_id)
        return found is not None and (found.position.step, found.position.epoch or 0) >= (step, epoch)

    stack.until(reached, LIMIT_S)


def told(resources: Resources, job_id: str) -> list[str]:
    return [entry["message"] for entry in stack.history(resources, job_id) if entry["kind"] == "log"]


def taken(resources: Resources, job_id: str, stage: str) -> list[float]:
    """Return the epochs of the points of a stage, in the order in which they came."""
    history = stack.history(resources, job_id)
    return [entry["point"]["epoch"] for entry in history if entry["kind"] == "curve" and entry["stage"] == stage]


def assert_undisturbed(service: Service, job_id: str, attempts: int) -> None:
    row = ended(service.resources, job_id)
    assert row.attempt == attempts
    assert report(service.resources, job_id).digests == service.undisturbed
    resumptions = [line for line in told(service.resources, job_id) if line.startswith("resumed from ")]
    assert len(resumptions) == attempts - 1
    assert checkpoint(service.resources, job_id) is None


def test_job_goes_on_when_its_child_and_then_its_worker_is_killed(service: Service) -> None:
    resources, job = service.resources, service.submit()
    wait_for_training(resources, job, 1, 0.5)
    stack.kill_pid(service.child())
    wait_for_training(resources, job, 2, 1.5)
    left = checkpoint(resources, job)
    stack.kill(service.processes["worker"])
    before = taken(resources, job, "2/2 retrain")  # perhaps none yet: points are stored each second
    service.restart()

    assert_undisturbed(service, job, attempts=3)
    assert left is not None
    assert left.position.epoch is not None
    assert min(taken(resources, job, "2/2 retrain")[len(before) :]) >= left.position.epoch
    assert stack.read(resources, job).losses == 2


def test_job_goes_on_when_its_worker_drains_and_when_it_is_resumed_after_a_cancel(service: Service) -> None:
    resources, job = service.resources, service.submit()
    wait_for_training(resources, job, 1, 0.5)
    began = time.monotonic()
    assert stack.kill(service.processes["worker"], signal.SIGTERM) == 0
    assert time.monotonic() - began < 25
    row = stack.read(resources, job)
    assert (row.state, row.losses) == ("queued", 0)
    service.restart()

    wait_for_training(resources, job, 2, 1.0)
    with resources.database.transaction() as tx:
        work.request_cancel(tx, job)
    ended(resources, job, "cancelled")
    with resources.database.transaction() as tx:
        bell = work.resume(tx, job)
    resources.broker.ring(bell.kind, bell.id, bell.queue)

    assert_undisturbed(service, job, attempts=3)
    assert stack.states(resources, job)[-5:] == ["cancelling", "cancelled", "queued", "running", "succeeded"]
