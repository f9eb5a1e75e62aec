"""Kills of child, worker and broker in mid-work: it still ends once, with the right result."""

import signal
import socket
import time
from collections.abc import Iterator

import pytest

from app.contracts.tasks import Queue, WorkKind
from app.resources import Broker, Resources
from app.stores import records, work
from app.stores.tables import models
from tests.stand_in import stack

LONG = {"steps": 30, "pause_s": 0.1}


class Stack:
    """The processes of one test, each replaceable."""

    def __init__(self, resources: Resources) -> None:
        self.settings = resources.settings
        self.broker = stack.start_broker(self.settings.data_dir)
        self.worker = stack.start_worker(self.settings)
        self.sweeper = stack.start_sweeper(self.settings)

    def stop(self) -> None:
        for process in (self.worker, self.sweeper, self.broker):
            if process.poll() is None:
                stack.kill(process)

    def child(self) -> int:
        stack.until(lambda: stack.children(self.worker.pid))
        return stack.children(self.worker.pid)[0]


@pytest.fixture
def running(resources: Resources) -> Iterator[Stack]:
    found = Stack(resources)
    yield found
    found.stop()


def training(resources: Resources, work_id: str) -> bool:
    return stack.read(resources, work_id).stage == "training"


def assert_ended_once(resources: Resources, work_id: str, attempts: int) -> None:
    row = stack.ended(resources, work_id)
    assert (row.state, row.attempt, row.error) == ("succeeded", attempts, None)
    assert stack.states(resources, work_id).count("succeeded") == 1
    with resources.database.reading() as tx:
        model = records.get(tx, models, "tenant", work_id)
    assert model["onnx_sha256"] == model["sha256"]


def test_work_runs_again_when_its_child_is_killed(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, LONG)
    stack.until(lambda: training(resources, work_id))
    stack.kill_pid(running.child())
    assert_ended_once(resources, work_id, attempts=2)
    assert stack.read(resources, work_id).losses == 1


def test_another_worker_takes_over_when_the_worker_is_killed(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, LONG)
    stack.until(lambda: training(resources, work_id))
    child = running.child()
    stack.kill(running.worker)
    stack.until(lambda: not stack.alive(child), 2)
    running.worker = stack.start_worker(running.settings)
    took_s = stack.until(lambda: stack.read(resources, work_id).attempt == 2)
    assert took_s < running.settings.lease_s + 5
    assert_ended_once(resources, work_id, attempts=2)
    stack.until(lambda: not list(running.settings.scratch.glob("*")), 5)


def test_work_ends_once_when_the_broker_is_killed_and_comes_back(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, LONG)
    stack.until(lambda: training(resources, work_id))
    stack.kill(running.broker)
    during = stack.add_model(resources, {})
    running.broker = stack.start_broker(running.settings.data_dir)
    assert_ended_once(resources, work_id, attempts=1)
    assert_ended_once(resources, during, attempts=1)


def test_queued_work_is_rung_again_when_the_broker_was_flushed(resources: Resources, running: Stack) -> None:
    stack.kill(running.worker)
    waiting = [stack.add_model(resources, {}) for _ in range(5)]
    stack.kill(running.broker)
    for path in (running.settings.data_dir / "broker").rglob("*.aof"):
        path.write_bytes(b"")
    running.broker = stack.start_broker(running.settings.data_dir)
    assert resources.broker.depth(Queue.CHECKS) == 0
    running.worker = stack.start_worker(running.settings)
    for work_id in waiting:
        assert_ended_once(resources, work_id, attempts=1)


def test_a_stopped_worker_writes_nothing_when_it_comes_back(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, LONG)
    stack.until(lambda: training(resources, work_id))
    stale = running.worker
    stale.send_signal(signal.SIGSTOP)
    running.worker = stack.start_worker(running.settings)
    stack.until(lambda: stack.read(resources, work_id).attempt == 2)
    stale.send_signal(signal.SIGCONT)
    assert_ended_once(resources, work_id, attempts=2)
    stack.until(lambda: not stack.children(stale.pid), 10)
    stack.kill(stale)


def test_work_goes_back_to_the_queue_uncounted_when_the_worker_drains(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, LONG)
    stack.until(lambda: training(resources, work_id))
    code = stack.kill(running.worker, signal.SIGTERM)
    row = stack.read(resources, work_id)
    assert (code, row.state, row.losses) == (0, "queued", 0)
    running.worker = stack.start_worker(running.settings)
    assert_ended_once(resources, work_id, attempts=2)


def test_work_runs_once_when_its_doorbell_rings_five_times(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, {"steps": 10, "pause_s": 0.1})
    for _ in range(5):
        resources.broker.ring(WorkKind.CHECK_MODEL, work_id, Queue.CHECKS)
    assert_ended_once(resources, work_id, attempts=1)


def test_running_work_is_cancelled_soon_when_asked(resources: Resources, running: Stack) -> None:
    work_id = stack.add_model(resources, {"steps": 1, "then": "hang", "stubborn": True})
    stack.until(lambda: training(resources, work_id))
    child = running.child()
    with resources.database.transaction() as tx:
        work.request_cancel(tx, work_id)
    took_s = stack.until(lambda: stack.read(resources, work_id).state == "cancelled", 10)
    assert took_s < 5
    assert not stack.alive(child)
    assert stack.states(resources, work_id) == ["queued", "running", "cancelling", "cancelled"]


def test_a_submission_is_answered_within_two_seconds_when_the_broker_is_away(resources: Resources) -> None:
    began = time.monotonic()
    assert not resources.broker.ring(WorkKind.COMPRESS, "job", Queue.CPU)
    assert time.monotonic() - began < 2


def test_a_submission_is_answered_soon_when_the_broker_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = Broker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        assert not broker.ring(WorkKind.COMPRESS, "job", Queue.CPU)
        assert not broker.ping()
        took_s = time.monotonic() - began
        broker.close()
    assert took_s < 4  # two calls
