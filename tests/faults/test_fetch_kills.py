"""A worker killed at each point of a pull: the bytes come once, the check follows, and nothing half stays."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from app.contracts.base import new_id
from app.contracts.source import HttpsSource
from app.contracts.tasks import Queue, WorkKind
from app.resources import Resources
from app.stores import fetches, records, work
from app.stores.tables import fetches as fetches_table
from app.stores.tables import models
from tests.stand_in import source as stand_in
from tests.stand_in import stack

SCRIPT = json.dumps({"steps": 1}).encode()


@dataclass
class Running:
    """Broker, sweeper, and a worker that dies where `fault` says; each further one is well."""

    resources: Resources
    worker: "stack.subprocess.Popen[bytes]"

    def fault(self, point: str) -> None:
        path = self.resources.settings.data_dir / "fault"
        path.write_text(f"{point} SIGKILL")

    def again(self) -> None:
        self.worker.wait(60)
        self.worker = stack.start_worker(self.resources.settings)


@pytest.fixture
def running() -> Iterator[Running]:
    with stack.data_folder() as folder:
        settings = stack.settings_for(folder, fault_file=folder / "fault", max_losses=5)
        with stack.open_stores(settings) as resources:
            broker, sweeper = stack.start_broker(folder), stack.start_sweeper(settings)
            found = Running(resources, stack.start_worker(settings))
            yield found
            for process in (found.worker, sweeper, broker):
                stack.kill(process)


def ask(resources: Resources, url: str) -> str:
    model_id, source = new_id("mdl"), HttpsSource.model_validate({"type": "https", "url": url})
    document = {"name": "m", "format": "onnx", "tags": {}, "size_bytes": 0}
    with resources.database.transaction() as tx:
        records.add(tx, models, "tenant", model_id, {"document": document, "sha256": ""})
        work.enqueue(tx, work.Ticket(model_id, "tenant", WorkKind.FETCH, Queue.EGRESS, 60))
        fetches.begin(tx, model_id, source)
    resources.broker.ring(WorkKind.FETCH, model_id, Queue.EGRESS)
    return model_id


def assert_arrived_once(resources: Resources, model_id: str) -> None:
    row = stack.ended(resources, model_id, 60)
    assert (row.state, row.kind, row.error) == ("succeeded", "check_model", None)
    assert stack.states(resources, model_id).count("succeeded") == 1
    with resources.database.reading() as tx:
        model = records.get(tx, models, "tenant", model_id)
        assert tx.execute(fetches_table.select()).all() == []
    assert model["sha256"] == hashlib.sha256(SCRIPT).hexdigest()
    assert list(resources.blobs.listed("tmp")) == []
    stack.until(lambda: not list(resources.settings.scratch.glob("*")), 10)


@pytest.mark.parametrize("point", ["claimed", "stored", "recorded", "ended"])
def test_a_worker_killed_at_a_point_of_the_pull_loses_nothing(running: Running, point: str) -> None:
    with stand_in.serving(SCRIPT) as source:
        running.fault(point)
        model_id = ask(running.resources, source.url)
        running.again()
        assert_arrived_once(running.resources, model_id)


def test_a_worker_killed_while_bytes_arrive_loses_nothing(running: Running) -> None:
    with stand_in.serving(SCRIPT) as source:
        source.piece, source.pause_s = 1, 0.5
        model_id = ask(running.resources, source.url)
        stack.until(lambda: stack.read(running.resources, model_id).progress > 0)
        stack.kill(running.worker)
        source.pause_s = 0.0
        running.again()
        assert_arrived_once(running.resources, model_id)
