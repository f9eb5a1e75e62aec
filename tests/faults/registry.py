"""The faults, one small function each, and what a run of one is: a cluster, a client, a seed, and what must follow.

A fault function breaks something at a random moment, mends it, and says with `expect` how each job must end. What holds
after every fault (nothing lost, doubled, stuck or changed) is checked by `execute` from the history.
"""

import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faults.client import PATIENCE_S, Client
from tests.faults.cluster import Cluster
from tests.faults.history import Recorder, doubled, load, lost, violations
from tests.stand_in import stack

STEADY = {"steps": 20, "pause_s": 0.05}  # a job of a second
LONG = {"steps": 60, "pause_s": 0.05}
NOTHING = {"steps": 1}


@dataclass(frozen=True)
class Fault:
    """One row of the table: its name, what it is, what is promised, the stores that it needs, and how to do it."""

    name: str
    title: str
    promise: str
    act: "Callable[[Run], None]"
    stores: tuple[str, ...] = ("sqlite",)  # its runs take turns on these
    most_runs: int | None = None  # of faults that take minutes


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, title: str, promise: str, **more: Any
) -> "Callable[[Callable[[Run], None]], Callable[[Run], None]]":
    def enter(act: "Callable[[Run], None]") -> "Callable[[Run], None]":
        assert name not in FAULTS
        FAULTS[name] = Fault(name, title, promise, act, **more)
        return act

    return enter


@dataclass
class Run:
    """One run of one fault."""

    cluster: Cluster
    client: Client
    rng: random.Random
    number: int = 0  # among the runs of its fault
    figures: dict[str, float] = field(default_factory=dict)
    expected: dict[str, tuple[str, str | None, int | None]] = field(default_factory=dict)

    def pause(self, least_s: float, most_s: float) -> None:
        time.sleep(self.rng.uniform(least_s, most_s))

    def submit(self, script: dict[str, Any] = STEADY, **body: Any) -> str:
        """Submit a job that must be accepted, and expect that it succeeds."""
        seed = self.rng.randrange(1 << 30)
        body = {"seed": seed, **body}
        job = self.client.submit(self.client.model(script), **body)
        assert job is not None, "not accepted"
        self.expect(job)
        return job

    def expect(self, job: str, state: str = "succeeded", problem: str | None = None, losses: int | None = None) -> None:
        self.expected[job] = (state, problem, losses)

    @contextmanager
    def timed(self, figure: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.figures[figure] = max(self.figures.get(figure, 0.0), time.monotonic() - began)

    def settle(self, limit_s: float = PATIENCE_S) -> None:
        """Wait for every job's end, look at it from all sides, and compare with what was expected."""
        wrong = []
        for job, wanted in self.expected.items():
            ended = self.client.wait(job, limit_s=limit_s)
            self.client.look_back(job, ended)
            slug = ended["error"]["type"].rpartition("/")[2] if ended["error"] else None
            losses = stack.read(self.cluster.resources, job).losses
            # A busy machine may starve a worker out of its short lease once more; a drain counts as none at all.
            counted = wanted[2] is None or losses == wanted[2] or losses > wanted[2] > 0
            if (ended["state"], slug) != wanted[:2] or not counted:
                wrong.append(f"{job} ended as {ended['state']}, {slug}, {losses} losses; expected {wanted}")
        assert not wrong, "; ".join(wrong)


@dataclass(frozen=True)
class Outcome:
    """What a run came to; `failure` is empty when everything held."""

    fault: str
    seed: int
    failure: str
    lost: bool
    doubled: bool
    stuck: bool
    seconds: float
    figures: dict[str, float]


def execute(chosen: Fault, cluster: Cluster, number: int, seed: int, histories: Path) -> Outcome:
    """Run one fault once on a whole cluster, which is whole again afterwards."""
    path = histories / f"{chosen.name}-{seed}.jsonl"
    path.unlink(missing_ok=True)
    recorder = Recorder(path)
    client = Client(cluster.urls, recorder)
    run = Run(cluster, client, random.Random(f"{chosen.name}-{seed}"), number)
    began = time.monotonic()
    failures = _failing(chosen.act, run)
    cluster.heal()
    stuck = _failing(Run.settle, run)
    failure = "; ".join(failures + stuck)
    client.close()
    recorder.close()
    broken = violations(load(path))
    if failure:
        _keep_logs(cluster, histories / f"{chosen.name}-{seed}")
    elif not broken:
        path.unlink()
    said = "; ".join([failure, *broken] if failure else broken)
    seconds = time.monotonic() - began
    late = any("not within" in each for each in stuck)
    return Outcome(chosen.name, seed, said, lost(broken), doubled(broken), late, seconds, run.figures)


def _failing(act: "Callable[[Run], None]", run: Run) -> list[str]:
    try:
        act(run)
    except (AssertionError, httpx.HTTPError, ValueError, LookupError, OSError) as error:
        return [f"{type(error).__name__}: {error}" if str(error) else traceback.format_exc(limit=-1)]
    return []


def _keep_logs(cluster: Cluster, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in cluster.settings.data_dir.glob("*.log"):
        shutil.copy(log, folder / log.name)
