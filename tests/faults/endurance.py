"""Small jobs for hours with a worker killed each minute: what grows, and what is left behind.

`python -m tests.faults.endurance --minutes 120 --jobs 5000 --write` writes its part of docs/reliability.md.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.client import Client
from tests.faults.cluster import Cluster, end, end_on_signal, running
from tests.faults.history import Recorder, load, violations
from tests.faults.registry import NOTHING
from tests.faults.soak import write
from tests.stand_in import stack

KILL_EVERY_S = 60.0
LEAST_SAMPLES = 5


@dataclass
class Watch:
    """Resident bytes and descriptors of each process over the number of jobs that have ended."""

    samples: dict[str, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))

    def look(self, cluster: Cluster, ended: int) -> None:
        steady = {"gateway": cluster.gateways[0], "sweeper": cluster.sweeper, "broker": cluster.broker}
        for name, process in steady.items():
            self._note(name, process.pid, ended)
        self._note("worker", cluster.workers[0].pid, ended)  # the one that is never killed

    def _note(self, name: str, pid: int, ended: int) -> None:
        found = psutil.Process(pid)
        self.samples[name].append((ended, found.memory_info().rss, found.num_fds()))

    def line(self, name: str) -> str:
        """Return a row: growth per 1,000 jobs after the first fifth, and descriptors at the begin and the end."""
        seen = self.samples[name]
        settled = seen[len(seen) // 5 :]
        slope = _slope([(jobs, resident) for jobs, resident, _files in settled]) * 1_000 / 1e6
        first, last = settled[0], settled[-1]
        return f"| {name} | {last[1] / 1e6:.0f} MB | {slope:+.2f} MB | {first[2]} | {last[2]} |"


def _slope(points: Sequence[tuple[int, int]]) -> float:
    """Return the slope of the least-squares line."""
    if len(points) < LEAST_SAMPLES:
        return float("nan")
    mean_x, mean_y = (sum(each) / len(points) for each in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _y in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else float("nan")


@dataclass
class Endurance:
    """One run: submits at an even pace, kills, watches, and looks at every end."""

    cluster: Cluster
    client: Client
    jobs: int
    seconds: float
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    watch: Watch = field(default_factory=Watch)
    open: list[str] = field(default_factory=list)
    sent: int = 0
    refused: int = 0
    ended: int = 0
    kills: int = 0

    def run(self) -> None:
        began, killed, looked = time.monotonic(), time.monotonic(), 0.0
        while self.sent < self.jobs or self.open:
            now = time.monotonic()
            due = min(self.jobs, int((now - began) / self.seconds * self.jobs) + 1)
            while self.sent < due:
                self._submit()
            if now - killed > KILL_EVERY_S and self.sent < self.jobs:
                killed = now
                self._kill()
            if now - looked > self.seconds / 100:
                looked = now
                self.watch.look(self.cluster, self.ended)
            self._collect()
            time.sleep(0.05)
        stack.until(lambda: not list(self.cluster.settings.scratch.glob("*")), 60)
        self.watch.look(self.cluster, self.ended)

    def _submit(self) -> None:
        self.sent += 1
        job = self.client.submit(self.client.model(NOTHING), seed=self.sent)
        if job is None:
            self.refused += 1
        else:
            self.open.append(job)

    def _kill(self) -> None:
        self.kills += 1
        end(self.cluster.workers.pop(1))
        self.cluster.start_worker()

    def _collect(self) -> None:
        """Look at the oldest jobs, so that a few calls a turn keep up."""
        for job in self.open[:20]:
            body = self.client.read(job)
            if body and body["state"] in {"succeeded", "failed", "cancelled"}:
                self.open.remove(job)
                self.ended += 1
                if self.ended % 50 == 0:
                    self.client.look_back(job, body)


def told(run: Endurance, broken: Sequence[str]) -> str:
    rows = [run.watch.line(name) for name in ("gateway", "worker", "sweeper", "broker")]
    head = [
        "| process | resident | growth per 1,000 jobs | descriptors at first | at last |",
        "| --- | --- | --- | --- | --- |",
    ]
    facts = (
        f"{run.sent} jobs in {run.seconds / 60:.0f} minutes, {run.kills} workers killed: {run.ended} ended, "
        f"{run.refused} not accepted, {len(broken)} rules broken, scratch empty. "
        f"Load {os.getloadavg()[0]:.1f} at the end."
    )
    return "\n".join([*head, *rows, "", facts])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--jobs", type=int, default=0, help="5,000 in 2 hours by default, fewer in less time")
    parser.add_argument("--write", action="store_true", help="write the figures into the page")
    options = parser.parse_args()
    end_on_signal()
    jobs = options.jobs or max(50, round(5_000 * options.minutes / 120))
    path = Path(tempfile.mkdtemp(prefix="endurance-")) / "history.jsonl"
    recorder = Recorder(path)
    with running() as cluster:
        client = Client(cluster.urls, recorder)
        run = Endurance(cluster, client, jobs, options.minutes * 60)
        run.run()
        client.close()
    recorder.close()
    broken = violations(load(path))
    text = told(run, broken)
    print("\n".join([text, *broken[:20]]))  # noqa: T201
    if options.write:
        write("endurance", text)
    return 1 if broken or run.refused else 0


if __name__ == "__main__":
    sys.exit(main())
