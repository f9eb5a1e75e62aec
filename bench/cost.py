"""What the service takes beside the compute: `python -m bench.cost [--minutes 5] [--jobs 20]`.

Short jobs tell the time from submit to the first word of the child that computes; one long job tells how much longer it
took than its child lived, and what gateway, worker, sweeper and broker took of the processors meanwhile.
"""

import argparse
import os
import select
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from app.contracts.job import Job
from bench._service import FOLDER, Step, place, service, table, write
from examples.originals import digits
from modelpress.client import Client

_LOOK_S, _CHILD_S = 0.005, 60.0
_FIRST_EPOCHS, _MOST_PATIENCE = 20, 100


@dataclass(frozen=True)
class Ran:
    """A job, and in seconds: its child's life and processor time, and the processor time of the service beside it."""

    job: Job
    child_s: float
    child_cpu_s: float
    service_cpu_s: float

    @property
    def job_s(self) -> float:
        """From its acceptance to its end."""
        return ((self.job.ended_at or self.job.created_at) - self.job.created_at).total_seconds()


def main() -> None:
    """Run the jobs and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="what the long job's training takes")
    parser.add_argument("--jobs", type=int, default=20, help="short ones, after one that warms everything")
    options = parser.parse_args()
    with service() as client:
        model, data = digits(FOLDER / "originals")
        uploaded = client.upload_model(model), client.upload_dataset(data)

        def submit(*steps: Step) -> Job:
            return client.submit(uploaded[0], {"version": 1, "steps": list(steps)}, uploaded[1], seed=0)

        waits = sorted(_first_word_s(client, submit({"technique": "quantize_int8"})) for _ in range(options.jobs + 1))
        pilot = _watched(client, lambda: submit(_training(_FIRST_EPOCHS)))
        epochs = round(_FIRST_EPOCHS * 60 * options.minutes / pilot.child_s)
        long = _watched(client, lambda: submit(_training(epochs)))
        where = place(client.report(long.job))
    write("cost", f"{where}.\n\n{table(('what', 'seconds'), _rows(waits, long))}")


def _training(epochs: int) -> Step:
    return {"technique": "retrain", "epochs": epochs, "patience": min(epochs, _MOST_PATIENCE)}


def _first_word_s(client: Client, job: Job) -> float:
    """Return the seconds from a job's acceptance to what its child says first."""
    first = next(event for event in client.events(job.id) if event.kind == "progress")
    client.wait(job)
    return (first.at - job.created_at).total_seconds()


def _watched(client: Client, submit: Callable[[], Job]) -> Ran:
    """Run a job and look at the processes around it."""
    ours = _processes()
    before = sum(map(_cpu_s, ours))
    job = submit()
    child = _child(set(ours))
    began = time.time()  # what the kernel tells of a start goes by the boot's whole second
    ended = os.pidfd_open(child.pid)
    cpu_s = 0.0
    while not select.select([ended], [], [], 1.0)[0]:
        cpu_s = _cpu_s(child) or cpu_s
    over = time.time()
    os.close(ended)
    job = client.wait(job)
    return Ran(job, over - began, cpu_s, sum(map(_cpu_s, ours)) - before)


def _child(known: set[psutil.Process]) -> psutil.Process:
    until = time.monotonic() + _CHILD_S
    while time.monotonic() < until:
        if found := set(_processes()) - known:
            return found.pop()
        time.sleep(_LOOK_S)
    raise TimeoutError("no child was started")


def _processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _cpu_s(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return used.user + used.system


def _rows(waits: list[float], long: Ran) -> list[list[str]]:
    added = long.job_s - long.child_s
    return [
        ["submit to the child's first word, median", f"{statistics.median(waits):.2f}"],
        ["the same, slowest", f"{waits[-1]:.2f}"],
        ["life of the long job's child", f"{long.child_s:.1f}"],
        ["the whole job", f"{long.job_s:.1f}, {added:.2f} more: **{added / long.child_s:.2%}**"],
        ["processor time of the child", f"{long.child_cpu_s:.1f}"],
        [
            "processor time of the service meanwhile",
            f"{long.service_cpu_s:.2f}: **{long.service_cpu_s / long.child_cpu_s:.2%}**",
        ],
    ]


if __name__ == "__main__":
    main()
