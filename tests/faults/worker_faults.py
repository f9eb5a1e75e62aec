"""Faults of workers and their children."""

import signal

from app.contracts.tasks import Queue, WorkKind
from tests.faults.cluster import Process, end
from tests.faults.registry import LONG, STEADY, Run, fault
from tests.stand_in import stack


def _busy(run: Run) -> tuple[Process, int]:
    stack.until(run.cluster.busy, 20)
    return run.cluster.busy()[0]


def _begin(run: Run, script: dict[str, object]) -> tuple[str, Process, int]:
    """Submit one job and return it with the worker and the child that work on it, at some moment of its training."""
    job = run.submit(script)
    run.client.training(job)
    worker, child = _busy(run)
    run.pause(0, 1)
    return job, worker, child


@fault("R1", "SIGKILL of the compute child", "the attempt is repeated; one result")
def kill_child(run: Run) -> None:
    job, _worker, child = _begin(run, LONG)
    stack.kill_pid(child)
    run.expect(job, losses=1)


@fault("R2", "SIGKILL of a whole worker", "another takes over within the lease and 5 s; no orphan")
def kill_worker(run: Run) -> None:
    job, worker, child = _begin(run, LONG)
    with run.timed("takeover"):
        end(worker)
        stack.until(lambda: not stack.alive(child), 2)
        stack.until(lambda: (run.client.read(job) or {"attempt": 0})["attempt"] == 2, 40)
    assert run.figures["takeover"] < run.cluster.settings.lease_s + 5
    run.expect(job, losses=1)


@fault("R3", "a child that runs out of memory", "resource-limit-exceeded, neighbours unharmed")
def out_of_memory(run: Run) -> None:
    swelling = run.submit({"steps": 1, "then": "swell"})
    run.submit(STEADY)
    run.expect(swelling, "failed", "resource-limit-exceeded", losses=0)


@fault("R11", "every doorbell rings five times", "one attempt")
def ring_five_times(run: Run) -> None:
    job = run.submit(STEADY)
    for _ in range(5):
        run.cluster.resources.broker.ring(WorkKind.COMPRESS, job, Queue.CPU)
        run.pause(0, 0.3)
    assert run.client.wait(job)["attempt"] == 1


@fault("R12", "SIGSTOP of a worker past its lease, then SIGCONT", "its writes are refused, its child ends, one result")
def stop_worker(run: Run) -> None:
    job, worker, _child = _begin(run, LONG)
    with run.timed("takeover"):
        worker.send_signal(signal.SIGSTOP)
        stack.until(lambda: (run.client.read(job) or {"attempt": 0})["attempt"] == 2, 40)
    run.pause(0, 1.5)
    worker.send_signal(signal.SIGCONT)
    stack.until(lambda: not stack.children(worker.pid), 20)
    run.expect(job, losses=1)
