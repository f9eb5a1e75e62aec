"""The same search four times: twice on one worker, on one that is killed in the middle, and on two.

    python -m bench.searchers [--budget 600]      about twenty minutes on 2 cores

Each worker computes on one thread, so that two have a core each. The stack starts a killed worker again; its candidate
goes on from the checkpoint once its lease has run out.
"""

import argparse
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from app.contracts.job import Job
from app.contracts.search import Search
from bench._service import FOLDER, place, service, table, write
from examples.originals import digits
from modelpress.client import Client

_THREADS = 1
_KILL_AT = 3  # candidates have ended by then
_HEADS = ("search", "candidates", "minutes", "a minute", "front", "recommended", "digest")


@dataclass(frozen=True)
class Outcome:
    """What a search came to: its candidates per minute, and by recipe name and digest what it found."""

    name: str
    search: Search
    minutes: float
    front: list[tuple[str, str]]
    recommended: tuple[str, str]

    @property
    def per_minute(self) -> float:
        """Candidates that ended in a minute."""
        return len(self.search.points) / self.minutes


def main() -> None:
    """Run the searches and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=600, help="seconds; so many that the plan is not cut")
    options = parser.parse_args()
    os.environ["MODELPRESS_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(_THREADS)  # noqa: TID251 # the stack's
    model, data = digits(FOLDER / "originals")
    goal = {"minimize": "size", "max_drop": 0.01, "budget_s": options.budget}
    with service() as client:
        uploaded = client.upload_model(model), client.upload_dataset(data)

        def search(name: str, during: Callable[[Job], None] = lambda _job: None) -> Outcome:
            job = client.optimize(uploaded[0], goal, uploaded[1], seed=0)
            during(job)
            return _outcome(client, name, client.wait(job))

        found = [
            search("one worker"),
            search("the same again"),
            search("its worker killed", lambda job: _kill_midway(client, job)),
        ]
        with _second_worker():
            found.append(search("two workers"))
        where = place(client.report(next(iter(client.jobs())).id))
    first, *others = found
    gain = found[-1].per_minute / first.per_minute
    said = [
        f"{each.name}: {'the same' if each.front == first.front else 'OTHER'} front, "
        f"{'the same' if each.recommended == first.recommended else 'OTHER'} recommended file"
        for each in others
    ]
    rows = [_row(each) for each in found]
    write("searchers", f"{where}.\n\n{table(_HEADS, rows)}\n\nTwo workers: **{gain:.2f}×**. {'; '.join(said)}.")


def _outcome(client: Client, name: str, job: Job) -> Outcome:
    search = client.report(job).search
    if search is None or job.started_at is None or job.ended_at is None:
        raise RuntimeError(f"{name}: {job.error}")
    told = {each.job: (f"{each.name}, round {each.round}", _digest(client, each.artifact)) for each in search.points}
    minutes = (job.ended_at - job.started_at).total_seconds() / 60
    return Outcome(name, search, minutes, [told[each] for each in search.front], told[search.recommended or ""])


def _digest(client: Client, artifact: str | None) -> str:
    if artifact is None:
        return ""
    return client.artifact(artifact).variants["packed"].sha256


def _row(found: Outcome) -> list[str]:
    name, digest = found.recommended
    counts = [str(len(found.search.points)), f"{found.minutes:.1f}", f"{found.per_minute:.2f}", str(len(found.front))]
    return [found.name, *counts, name, digest[:12]]


def _worker() -> psutil.Process:
    """Return the worker of the stack that takes candidates."""
    return next(each for each in psutil.Process().children(recursive=True) if _takes_jobs(each))


def _takes_jobs(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "workers.main" in words and "cpu" in words[words.index("--queues") + 1].split(",")


def _kill_midway(client: Client, job: Job) -> None:
    while sum(each.state.final for each in client.jobs(parent=job)) < _KILL_AT:
        time.sleep(0.5)
    _worker().send_signal(signal.SIGKILL)


@contextmanager
def _second_worker() -> Iterator[None]:
    """Run another worker just like the stack's."""
    first = _worker()
    with subprocess.Popen(first.cmdline(), env=first.environ(), cwd=first.cwd()) as second:
        try:
            yield
        finally:
            second.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
