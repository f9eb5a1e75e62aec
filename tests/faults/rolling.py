"""Everything is restarted one by one under steady calls: no call may fail and no job be lost.

`python -m tests.faults.rolling --jobs 100 --write` writes its part of docs/reliability.md. A read that is refused is
repeated, as every client does with a 503 and its `Retry-After`; it has failed when no right answer comes within 30 s.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from tests.faults.client import Client
from tests.faults.cluster import end_on_signal
from tests.faults.history import Recorder, doubled, load, lost, violations
from tests.faults.production import KEY, PARTS, Site, site
from tests.faults.registry import STEADY
from tests.faults.soak import write

READS_PER_S = 20
PATIENCE_S = 30.0
AGAIN_S = 0.5
SETTLE_S = 2.0  # before and after each restart, so that the proxy has asked the new one
ENDS_WITHIN_S = 600.0
HEADS = "| restarted | seconds | jobs | reads | answered at once | repeated | failed | slowest |"


@dataclass
class Reads:
    """Reads the list of jobs at a fixed rate, whatever the answers take, and counts by the part that restarts."""

    url: str
    per_s: float = READS_PER_S
    phase: str = ""
    answered: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    refusals: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stop, self._lock = threading.Event(), threading.Lock()
        # As a browser or a fleet of clients would: a connection is used again.
        self._http = httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_S)
        self._pool = ThreadPoolExecutor(32)
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()
        self._http.close()

    def _go_on(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._one, self.phase, due)
            due += 1 / self.per_s

    def _one(self, phase: str, due: float) -> None:
        tries = 1
        while (said := self._ask()) != "200" and time.monotonic() - due < PATIENCE_S:
            with self._lock:
                self.refusals[said] += 1
            tries += 1
            time.sleep(AGAIN_S)
        kind = self.failed if said != "200" else self.answered if tries == 1 else self.repeated
        with self._lock:
            kind[phase] += 1
            self.slowest_s[phase] = max(self.slowest_s[phase], time.monotonic() - due)

    def _ask(self) -> str:
        try:
            return str(self._http.get(f"{self.url}/v1/jobs?limit=1").status_code)
        except httpx.TransportError as error:
            return type(error).__name__

    def line(self, phase: str, jobs: int, seconds: float) -> str:
        counts = (self.answered[phase], self.repeated[phase], self.failed[phase])
        told = " | ".join(f"{count:,}" for count in (jobs, sum(counts), *counts))
        return f"| {phase} | {seconds:.1f} | {told} | {self.slowest_s[phase]:.2f} s |"


@dataclass
class Rolling:
    """One run: in each phase jobs are submitted while something is done to the site."""

    site: Site
    client: Client
    reads: Reads
    jobs: list[str] = field(default_factory=list)
    repeated: int = 0  # submissions
    rows: list[str] = field(default_factory=list)

    def phase(self, name: str, jobs: int, act: Callable[[], object]) -> None:
        """Submit jobs while `act` runs; each phase has a model of its own, so that checks are made as well."""
        self.reads.phase = name
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(self._submit, name, jobs)
            time.sleep(SETTLE_S)
            began = time.monotonic()
            act()
            took_s = time.monotonic() - began
            time.sleep(SETTLE_S)
            sent.result()
        self.rows.append(self.reads.line(name, jobs, took_s))
        print(self.rows[-1], flush=True)  # noqa: T201

    def _submit(self, name: str, jobs: int) -> None:
        model = self.client.model({**STEADY, "phase": name})
        for number in range(jobs):
            key = f"{name}-{number}"
            while (job := self.client.submit(model, key=key, seed=len(self.jobs))) is None:
                self.repeated += 1
                time.sleep(AGAIN_S)
            self.jobs.append(job)

    def settle(self) -> Counter[str]:
        """Wait for every job's end, look at it from all sides, and return how many ended in which state."""
        states: Counter[str] = Counter()
        for job in self.jobs:
            ended = self.client.wait(job, limit_s=ENDS_WITHIN_S)
            self.client.look_back(job, ended)
            states[ended["state"]] += 1
        return states


def restart(where: Site, name: str) -> None:
    where.stop(name)
    where.start(name)


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    text: str
    holds: bool


def outcome(run: Rolling, states: Mapping[str, int], broken: Sequence[str]) -> Outcome:
    """Write the table and judge it: every job succeeded once, and no read failed."""
    reads = run.reads
    failed, refusals = sum(reads.failed.values()), ", ".join(f"{n} × {said}" for said, n in reads.refusals.items())
    ended = ", ".join(f"{count} {state}" for state, count in states.items())
    facts = (
        f"{len(run.jobs)} jobs: {ended}; {'some' if lost(broken) else 'none'} lost, "
        f"{'some' if doubled(broken) else 'none'} doubled, {len(broken)} rules broken. "
        f"{run.repeated} submissions were repeated, each with its key. Refused at first: {refusals or 'nothing'}. "
        f"{reads.per_s:g} reads a second, of which {failed} failed; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."
    )
    table = [HEADS, "| --- " * HEADS.count(" | ") + "| --- |", *run.rows]
    holds = not failed and not broken and set(states) == {"succeeded"}
    return Outcome("\n".join([*table, "", facts, *(f"- {line}" for line in broken[:20])]), holds)


def roll(jobs: int, reads_per_s: float = READS_PER_S, parts: Sequence[str] = PARTS) -> Outcome:
    """Restart the parts one by one while jobs come and reads go on."""
    path = Path(tempfile.mkdtemp(prefix="rolling-")) / "history.jsonl"
    recorder = Recorder(path)
    with site() as where:
        where.start_all()
        client = where.client(recorder)
        with Reads(where.url, reads_per_s) as reads:
            run = Rolling(where, client, reads)
            for number, name in enumerate(parts):
                share = jobs * (number + 1) // len(parts) - jobs * number // len(parts)
                run.phase(name, share, lambda name=name: restart(where, name))  # type: ignore[misc] # bound now
            reads.phase = "nothing"
            states = run.settle()
        client.close()
    recorder.close()
    return outcome(run, states, violations(load(path)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rate", type=float, default=READS_PER_S, help="reads a second")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated; all by default")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    end_on_signal()
    found = roll(options.jobs, options.rate, options.parts.split(","))
    print(found.text)  # noqa: T201
    if options.write:
        write("rolling", found.text)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
