"""Faults of workers and their children."""

import signal
import time

from app.contracts.tasks import Queue, WorkKind
from app.errors import DependencyUnavailable
from tests.faults import digits
from tests.faults.client import PATIENCE_S
from tests.faults.cluster import Process, end, wait_exit
from tests.faults.registry import LONG, NOTHING, STEADY, Run, fault
from tests.stand_in import stack


def _busy(run: Run) -> tuple[Process, int]:
    stack.until(run.cluster.busy, PATIENCE_S)
    return run.cluster.busy()[0]


def _begin(run: Run, script: dict[str, object]) -> tuple[str, Process, int]:
    """Submit one job and return it with the worker and the child that work on it, at some moment of its training."""
    job = run.submit(script)
    run.client.training(job)
    worker, child = _busy(run)
    run.pause(0, 1)
    return job, worker, child


@fault("R2", "SIGKILL of a whole worker", "another takes over within the lease and 5 s; no orphan")
def kill_worker(run: Run) -> None:
    job, worker, child = _begin(run, LONG)
    with run.timed("takeover"):
        end(worker)
        stack.until(lambda: not stack.alive(child), 2)
        stack.until(lambda: (run.client.read(job) or {"attempt": 0})["attempt"] == 2, PATIENCE_S)
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


def _stop(run: Run, worker: Process) -> None:
    """Stop a worker, yet not inside of a transaction: with SQLite nobody could write until it goes on."""
    while True:
        worker.send_signal(signal.SIGSTOP)
        try:
            with run.cluster.resources.database.transaction():
                return
        except DependencyUnavailable:
            worker.send_signal(signal.SIGCONT)


@fault("R12", "SIGSTOP of a worker past its lease, then SIGCONT", "its writes are refused, its child ends, one result")
def stop_worker(run: Run) -> None:
    job, worker, _child = _begin(run, LONG)
    with run.timed("takeover"):
        _stop(run, worker)
        stack.until(lambda: (run.client.read(job) or {"attempt": 0})["attempt"] == 2, PATIENCE_S)
    run.pause(0, 1.5)
    worker.send_signal(signal.SIGCONT)
    stack.until(lambda: not stack.children(worker.pid), PATIENCE_S)
    run.expect(job, losses=1)


@fault("R13", "workers whose clocks are 10 minutes off", "leases follow the database's clock", stores=("postgresql",))
def skew_clocks(run: Run) -> None:
    for worker in list(run.cluster.workers):
        end(worker)
    path = f"{stack.ROOT}:{stack.HERE / 'shifted_clock'}"
    for shift_s in (600, -600):
        run.cluster.start_worker(PYTHONPATH=path, TEST_CLOCK_SHIFT_S=str(shift_s))
    kill_worker(run)
    for job in run.expected:
        run.client.wait(job)
    for worker in run.cluster.workers:
        end(worker)


CHILD_STAGES = ("validating", "training", "quantizing", "evaluating")
HELD = {
    "fetching": "claimed",
    "uploading": "answered",
    "uploaded": "stored",
}  # a stage by the point where it is held up
STAGES = ("queued", *CHILD_STAGES, *HELD, "done")


@fault("R16", "a cancel in each stage", "cancelled within 10 s, nothing published; 409 once it has ended")
def cancel(run: Run) -> None:
    stage = STAGES[run.number % len(STAGES)]
    stages = _staying_in(stage)
    script = {"steps": 5 * len(stages), "pause_s": 0.1, "stages": stages, "stubborn": run.rng.random() < 0.3}
    if stage == "done":
        job = run.submit(NOTHING)
        run.client.wait(job)
        assert run.client.cancel(job) == 409
        return
    model = run.client.model(NOTHING if stage in HELD else script)
    if stage in HELD:
        run.cluster.fault_file.write_text(f"{HELD[stage]} {run.rng.uniform(1, 2)}")
    if stage == "queued":
        _signal_all(run, signal.SIGSTOP)
    job = run.client.submit(model)
    assert job
    _await_stage(run, job, stage)
    with run.timed("cancel"):
        assert run.client.cancel(job) == 202
        if stage == "queued":
            _signal_all(run, signal.SIGCONT)
        assert run.client.wait(job, limit_s=PATIENCE_S)["state"] == "cancelled"
    assert run.figures["cancel"] <= 10
    assert not run.client.insist("GET", f"/v1/artifacts?job={job}").json()["items"]
    run.expect(job, "cancelled")


def _staying_in(stage: str) -> tuple[str, ...]:
    """Return a child's stages of which this one is so long that a busy client does not miss it."""
    if stage not in CHILD_STAGES:
        return CHILD_STAGES
    return (*CHILD_STAGES[: CHILD_STAGES.index(stage)], *[stage] * 40)


def _signal_all(run: Run, number: int) -> None:
    for worker in run.cluster.workers:
        worker.send_signal(number)


def _await_stage(run: Run, job: str, stage: str) -> None:
    if stage in HELD:
        stack.until(lambda: not run.cluster.fault_file.exists(), PATIENCE_S)
        run.pause(0, 0.5)
    elif stage != "queued":
        assert run.client.wait(job, until=lambda body: body["stage"] == stage)["stage"] == stage, "it ended before that"


@fault("R17", "SIGTERM to a worker", "it is gone within 25 s, its job runs on elsewhere, uncounted")
def drain(run: Run) -> None:
    job, worker, _child = _begin(run, LONG)
    with run.timed("drain"):
        worker.terminate()
        wait_exit(worker, PATIENCE_S)
    assert run.figures["drain"] <= 25
    run.expect(job, losses=0)
    assert run.client.wait(job)["attempt"] == 2


@fault("R19", "a job that kills its worker each time", "poison-quarantined after three losses, others go on")
def poison(run: Run) -> None:
    worker_dies = run.number % 4 == 0
    script = LONG if worker_dies else {"steps": 2, "pause_s": 0.1, "then": "SIGKILL"}
    poisoned = run.submit(script)
    others = [run.submit(NOTHING) for _ in range(3)]
    if worker_dies:
        for attempt in range(1, 4):
            stack.until(lambda now=attempt: (run.client.read(poisoned) or {"attempt": 0})["attempt"] == now, PATIENCE_S)
            _kill_worker_of(run, poisoned)
            run.cluster.start_worker()
    run.expect(poisoned, "failed", "poison-quarantined", losses=3)
    for job in others:
        run.client.wait(job)


def _kill_worker_of(run: Run, job: str) -> None:
    owner = int(str(stack.read(run.cluster.resources, job).owner).rpartition(":")[2])
    end(next(worker for worker in run.cluster.workers if worker.pid == owner))


@fault("R20", "a job that hangs", "time-limit-exceeded within its limit and 5 s")
def hang(run: Run) -> None:
    limit_s = run.rng.choice([1, 2])
    job = run.submit({"steps": 1, "then": "hang", "stubborn": run.rng.random() < 0.5}, limits={"max_run_s": limit_s})
    run.client.training(job)
    with run.timed("overtime"):
        run.client.wait(job)
    run.figures["overtime"] -= limit_s
    assert run.figures["overtime"] <= 5
    run.expect(job, "failed", "time-limit-exceeded", losses=0)


@fault(
    "R1", "SIGKILL of the compute child", "the attempt is repeated; one result, the very bytes of an undisturbed run"
)
def kill_child(run: Run) -> None:
    if run.number % 5 == 4:
        _kill_real_child(run)
        return
    job, _worker, child = _begin(run, LONG)
    stack.kill_pid(child)
    run.expect(job, losses=1)


def _kill_real_child(run: Run) -> None:
    """The same with the real child: a training that was killed ends with the bytes of one that was not."""
    with digits.worker(run.cluster):
        body = digits.request(run.client)
        undisturbed = digits.packed(run.client, run.client.wait(digits.submit(run.client, body)))
        job = digits.submit(run.client, body)
        run.client.training(job)
        run.pause(0, 5)
        busy = run.cluster.busy()
        if busy:  # else it was faster
            stack.kill_pid(busy[0][1])
        assert digits.packed(run.client, run.client.wait(job)) == undisturbed, "other bytes than undisturbed"
        run.expect(job)


@fault("R12L", "SIGSTOP of a worker for 60 s with a lease of 30 s, then SIGCONT", "one result; taken over within 35 s",
       stores=("real lease",), most_runs=2)  # fmt: skip
def stop_worker_for_a_minute(run: Run) -> None:
    job, worker, _child = _begin(run, {"steps": 200, "pause_s": 0.1})
    began = time.monotonic()
    with run.timed("takeover"):
        _stop(run, worker)
        stack.until(lambda: (run.client.read(job) or {"attempt": 0})["attempt"] == 2, PATIENCE_S)
    time.sleep(max(0.0, 60 - (time.monotonic() - began)))
    worker.send_signal(signal.SIGCONT)
    stack.until(lambda: not stack.children(worker.pid), PATIENCE_S)
    run.expect(job, losses=1)


@fault("R2L", "SIGKILL of a whole worker with a lease of 30 s", "taken over within 35 s",
       stores=("real lease",), most_runs=4)  # fmt: skip
def kill_worker_with_the_real_lease(run: Run) -> None:
    kill_worker(run)
