"""The service under load: fixed rates while a job trains, uploads through kills, a long queue, a hostile neighbour.

`python -m bench.load` takes an hour or two and writes its part of docs/reliability.md; `--only` measures one part and
writes nothing. A short form: `--seconds 30 --jobs 300`.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import httpx
import psutil
from sqlalchemy import func, select

from app.stores.tables import uploads as uploads_table
from app.stores.tables import work
from bench._open_loop import Found, Generator, Plan
from bench._service import table, write
from tests.faults import digits
from tests.faults.client import RECIPE, Client
from tests.faults.cluster import Cluster, end, end_on_signal, running
from tests.faults.gateway_faults import send
from tests.faults.history import Recorder
from tests.faults.registry import NOTHING, Run
from tests.hostile import uploads as hostile
from tests.stand_in import stack

PAGE = Path("docs/reliability.md")
READS_PER_S, SUBMISSIONS_PER_S = 200, 50
UPLOADS, KILLS, UPLOAD_BYTES = 20, 5, 24 << 20
RETRAIN = {"technique": "retrain", "epochs": 1_000, "learning_rate": 0.003, "batch_size": 8, "patience": 100}
TRAINING = {"version": 1, "steps": [RETRAIN] * 32}  # patience ends each of them after a minute
GATEWAYS = 2  # as docker-compose.yml has them
NICE = 10
PAIRS = 3  # jobs of the neighbour alone, and as many beside the hostile tenant
NEIGHBOUR, STRANGER = "neighbour-key", "stranger-key"
HEADS = ["request", "sent", "half within", "p99", "slowest", "sent late by (p99)", "errors"]


@contextmanager
def service() -> Iterator[tuple[Cluster, Client]]:
    """Run a service with the leases and the sweeper of a real one, and room for a long queue of one tenant."""
    folder = Path(tempfile.mkdtemp(prefix="load-"))
    recorder = Recorder(folder / "history.jsonl")
    with running("real lease", max_queued_per_tenant=200_000, max_queued=400_000) as cluster:
        client = Client(cluster.urls, recorder)
        yield cluster, client
        client.close()
    recorder.close()


@contextmanager
def training(cluster: Cluster, client: Client) -> Iterator[str]:
    """Keep a real job training at low priority."""
    with digits.worker(cluster):
        worker = psutil.Process(cluster.workers[0].pid)
        body = digits.request(client) | {"recipe": TRAINING, "limits": {"max_run_s": 86_400}}
        job = digits.submit(client, body)
        client.training(job)
        for process in (worker, *worker.children(recursive=True)):
            give_way(process)
        yield job
        client.cancel(job)


def give_way(process: psutil.Process) -> None:
    """Lower a process's priority, and its session's: Linux weighs sessions first, where it groups them by itself."""
    process.nice(NICE)
    group = Path(f"/proc/{process.pid}/autogroup")
    if group.exists():
        group.write_text(str(NICE))


def rates(seconds: float, _jobs: int) -> str:
    """Read the training job and submit others at fixed rates."""
    with service() as (cluster, client):
        # Jobs for a device that no worker here has: they wait, as in a rush.
        waiting = {"model": client.model(NOTHING), "recipe": RECIPE, "device": "cuda"}
        cluster.heal(gateways=GATEWAYS, workers=len(cluster.workers))
        with training(cluster, client) as job:
            gateways = [psutil.Process(gateway.pid) for gateway in cluster.gateways]
            before = processor_s(gateways)
            reads = Generator(Plan(cluster.urls, "GET", f"/v1/jobs/{job}", READS_PER_S, seconds))
            posts = Generator(Plan(cluster.urls, "POST", "/v1/jobs", SUBMISSIONS_PER_S, seconds, waiting))
            rows = [
                row(f"`GET /v1/jobs/{{id}}`, {READS_PER_S} a second", reads.found()),
                row(f"`POST /v1/jobs`, {SUBMISSIONS_PER_S} a second", posts.found()),
            ]
            used = (processor_s(gateways) - before) / seconds
            state = client.insist("GET", f"/v1/jobs/{job}").json()["state"]
    said = (
        f"For {seconds:.0f} s while a job trains at nice {NICE}, {state} at the end; {place()}. {GATEWAYS} gateways "
        f"used {used:.0%} of a core together."
    )
    return f"{said}\n\n{table(HEADS, rows)}"


def processor_s(processes: list[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def row(name: str, got: Found) -> list[str]:
    times = (got.p50_ms, got.p99_ms, got.most_ms, got.late_p99_ms)
    bad = ", ".join(f"{count} × {status}" for status, count in got.bad.items())
    return [name, f"{got.requests:,}", *(f"{each:.0f} ms" for each in times), bad or "0"]


def place() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def uploads(_seconds: float, _jobs: int) -> str:
    """Send uploads side by side while the gateway is killed and started again."""
    with service() as (cluster, client):
        sent = threading.Event()
        killer = ThreadPoolExecutor(1).submit(kill_on_the_way, cluster, sent)

        def one(number: int) -> bool:
            content, mine = random.Random(number).randbytes(UPLOAD_BYTES), Client(cluster.urls, client.recorder)
            upload = mine.insist("POST", "/v1/uploads", headers={"Upload-Complete": "?0"}).json()["id"]
            digest = send(Run(cluster, mine, random.Random(number)), upload, content)
            mine.close()
            return digest == hashlib.sha256(content).hexdigest()

        with ThreadPoolExecutor(UPLOADS) as pool:
            right = sum(pool.map(one, range(UPLOADS)))
        sent.set()
        kills = killer.result()
    return (
        f"{UPLOADS} resumable uploads of {UPLOAD_BYTES >> 20} MiB side by side, the gateway killed {kills} times on "
        f"the way: {right} digests right."
    )


def kill_on_the_way(cluster: Cluster, sent: threading.Event) -> int:
    """Kill the gateway each time that another part of all bytes has come; return how often."""
    for kills in range(KILLS):
        while stored(cluster) < UPLOADS * UPLOAD_BYTES * (kills + 0.5) / KILLS:
            if sent.wait(0.02):
                return kills
        end(cluster.gateways[0])
        cluster.start_gateway()
    return KILLS


def stored(cluster: Cluster) -> int:
    with cluster.resources.database.reading() as tx:
        return int(tx.execute(select(func.coalesce(func.sum(uploads_table.c.offset), 0))).scalar_one())


def rush(_seconds: float, jobs: int) -> str:
    """Queue many jobs, kill and restart everything, and wait for every end."""
    with service() as (cluster, client):
        model = client.model(NOTHING)
        cluster.heal(workers=0)
        queued = [job for number in range(jobs) if (job := client.submit(model, seed=number))]
        for process in (*cluster.gateways, cluster.sweeper, cluster.broker):
            end(process)
        began = time.monotonic()
        cluster.heal()
        while unfinished(cluster) and time.monotonic() - began < 120 + 2 * jobs:
            time.sleep(2)
        took_s = time.monotonic() - began
        states = Counter(str(stack.read(cluster.resources, job).state) for job in queued)
    said = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    return (
        f"{len(queued):,} jobs queued, then everything killed and started again: {said} after {took_s / 60:.0f} "
        f"minutes ({len(queued) / took_s:.1f} a second); {place()}."
    )


def unfinished(cluster: Cluster) -> int:
    with cluster.resources.database.reading() as tx:
        chosen = select(func.count()).select_from(work).where(work.c.state.in_(("queued", "running", "cancelling")))
        return int(tx.execute(chosen).scalar_one())


@dataclass
class Stranger:
    """A tenant that sends files that must be refused, one after the other, on two connections."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    answers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        bad = [row for row in hostile.rows() if row.timed and row.status >= 400]
        self._threads = [threading.Thread(target=self._send, args=(bad[turn::2],)) for turn in range(2)]

    def _send(self, rows: list[Any]) -> None:
        headers = {
            "Authorization": f"Bearer {STRANGER}",
            "Content-Type": "application/octet-stream",
            "Prefer": "wait=60",
        }
        with httpx.Client(base_url=self.url, headers=headers, timeout=120) as http:

            def upload(noun: str, kind: str, content: bytes) -> None:
                self.answers[str(http.post(f"/v1/{noun}?format={kind}", content=content).status_code)] += 1

            while True:
                for each in rows:
                    each.send(SimpleNamespace(upload=upload))
                    if self.stop.is_set():
                        return

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()


def neighbours(_seconds: float, _jobs: int) -> str:
    """Run a tenant's jobs alone and beside a hostile tenant; return both times and the API's."""
    with service() as (cluster, client):
        cluster.environment["MODELPRESS_API_KEYS"] = json.dumps({NEIGHBOUR: "neighbour", STRANGER: "stranger"})
        end(cluster.gateways[0])
        cluster.start_gateway()
        client._http.headers["Authorization"] = f"Bearer {NEIGHBOUR}"  # noqa: SLF001 - the client of keyless clusters
        with digits.worker(cluster):
            body = digits.request(client)
            ended(client, body, seed=0)  # warms what the first job of a worker warms
            alone_s, alone = neighbour(cluster, client, body)
            with Stranger(cluster.urls[0]) as stranger:
                beside_s, beside = neighbour(cluster, client, body)
    times = f"{statistics.median(alone_s):.1f} s alone, {statistics.median(beside_s):.1f} s beside it"
    rows = [row("alone", alone), row("beside a hostile tenant", beside)]
    return (
        f"A tenant's job while another sends {sum(stranger.answers.values())} bombs and broken files back to back "
        f"({dict(stranger.answers.most_common())} by status): {times} "
        f"({statistics.median(beside_s) / statistics.median(alone_s):.2f}×); its reads meanwhile, p99 "
        f"{beside.p99_ms / alone.p99_ms:.2f}×; {place()}.\n\n{table(HEADS, rows)}"
    )


def neighbour(cluster: Cluster, client: Client, body: dict[str, Any]) -> tuple[list[float], Found]:
    """Run some jobs one after the other, and read meanwhile; return each one's seconds and the reads' times."""
    first = client.insist("GET", "/v1/jobs?limit=1").json()["items"][0]["id"]
    seconds: list[float] = []
    jobs = threading.Thread(target=lambda: seconds.extend(ended(client, body, seed) for seed in range(1, PAIRS + 1)))
    jobs.start()
    found = Generator(Plan(cluster.urls, "GET", f"/v1/jobs/{first}", 20, 30, key=NEIGHBOUR)).found()
    jobs.join()
    return seconds, found


def ended(client: Client, body: dict[str, Any], seed: int) -> float:
    """Run one job and return its seconds from submission to end."""
    began = time.monotonic()
    job = client.insist("POST", "/v1/jobs", json=body | {"seed": seed}).json()["id"]
    if client.wait(job, limit_s=600)["state"] != "succeeded":
        raise RuntimeError(job)
    return time.monotonic() - began


PARTS: dict[str, Callable[[float, int], str]] = {
    "rates": rates, "uploads": uploads, "rush": rush, "neighbours": neighbours,
}  # fmt: skip


def main() -> None:
    """Measure and write, or measure one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--only", choices=PARTS, help="measure this part and write nothing")
    options = parser.parse_args()
    end_on_signal()
    if options.only:
        print(PARTS[options.only](options.seconds, options.jobs))
        return
    said = []
    for part in PARTS.values():
        said.append(part(options.seconds, options.jobs))
        print(said[-1], flush=True)
    write("load", "\n\n".join(said), PAGE)


if __name__ == "__main__":
    main()
