"""How throughput grows with workers, and what a job costs the stores: `python -m bench.workers --jobs 24 --seconds 10`.

Gateways, queue, database, blob store, workers, supervisors and the sandbox are the real ones. The child alone does not
compute: it waits, as if it ran on another machine. So this machine's cores limit the service's share alone, which is
what is measured. Writes its part of docs/reliability.md.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis
from sqlalchemy import create_engine, text

from app.contracts.tasks import Queue
from bench._service import table, write
from bench.load import PAGE, place
from tests.faults.client import Client
from tests.faults.cluster import end_on_signal
from tests.faults.history import FINAL, Recorder
from tests.faults.production import Site, site
from tests.stand_in import stack

WORKERS = (1, 2, 4)
LEAST_RATIO = 0.9
IDLE_S = 20.0
STEPS_PER_S = 5  # progress that a child tells
ENDS_WITHIN_S = 1_800.0


@dataclass(frozen=True)
class Found:
    """Figures of one number of workers; per-job ones are of the whole service."""

    workers: int
    jobs: int
    seconds: float
    transactions_per_job: float
    idle_transactions_per_s: float
    broker_bytes_per_job: float
    blob_calls_per_job: float

    @property
    def per_minute(self) -> float:
        """Jobs that end in a minute."""
        return 60 * self.jobs / self.seconds


@contextmanager
def service() -> Iterator[tuple[Site, Client]]:
    """Run a site that has no worker for jobs yet, and one for checks."""
    with TemporaryDirectory(prefix="workers-") as folder, site(proxied=False) as where:
        where.workers = {"worker-checks": Queue.CHECKS.value}
        where.start_all()
        recorder = Recorder(Path(folder) / "history.jsonl")
        client = where.client(recorder)
        yield where, client
        client.close()
        recorder.close()


def measure(workers: int, jobs: int, seconds: float) -> Found:
    """Queue the jobs, then start the workers; count from the first start to the last end."""
    script = {"steps": round(seconds * STEPS_PER_S), "pause_s": 1 / STEPS_PER_S}
    with service() as (where, client):
        model = client.model(script)
        empty = used_by_broker(where)
        queued = [str(client.submit(model, seed=number)) for number in range(jobs)]
        waiting = (used_by_broker(where) - empty) / jobs
        for number in range(workers):
            where.workers[f"worker-{number}"] = Queue.CPU.value
            where.start(f"worker-{number}")
        before, calls = transactions(where), where.blob_calls()
        # One look a second, at the last alone: what asks for figures must not make them.
        stack.until(lambda: not unfinished(where), ENDS_WITHIN_S)
        spent, called = transactions(where) - before, where.blob_calls() - calls
        rows = [client.read(job) for job in queued]
        began = min(row["started_at"] for row in rows if row)
        ended = max(row["ended_at"] for row in rows if row)
        idle = transactions(where)
        time.sleep(IDLE_S)
        idle_per_s = (transactions(where) - idle) / IDLE_S
    took_s = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
    spent_by_jobs = max(0.0, spent - idle_per_s * took_s)
    return Found(workers, jobs, took_s, spent_by_jobs / jobs, idle_per_s, waiting, called / jobs)


def unfinished(where: Site) -> int:
    """Return how many pieces of work have not ended."""
    time.sleep(1.0)
    states = ", ".join(f"'{state}'" for state in FINAL)
    return _asked(where, f"SELECT count(*) FROM work WHERE state NOT IN ({states})")  # noqa: S608 - words of ours


def transactions(where: Site) -> int:
    """Return how many transactions the database has committed or rolled back."""
    time.sleep(1.5)  # sessions tell theirs once a second
    return _asked(
        where, "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname = current_database()"
    )


def _asked(where: Site, question: str) -> int:
    engine = create_engine(where.settings.database_url)
    with engine.connect() as connection:
        found = int(connection.execute(text(question)).scalar_one())
    engine.dispose()
    return found


def used_by_broker(where: Site) -> int:
    """Return the bytes that the broker holds."""
    with Redis(unix_socket_path=str(where.folder / "broker.sock")) as broker:
        return int(broker.info("memory")["used_memory"])


def told(found: Sequence[Found], seconds: float) -> str:
    """Write the tables."""
    first = found[0]
    heads = ["workers", "jobs", "jobs a minute", "of N times one worker's"]
    rows = [
        [str(each.workers), str(each.jobs), f"{each.per_minute:.1f}", f"{ratio(each, first):.2f}"] for each in found
    ]
    most = found[-1]
    waiting = max(each.broker_bytes_per_job for each in found)
    said = (
        f"Jobs of {seconds:g} s each, which wait instead of computing; {place()}. A job takes "
        f"{most.transactions_per_job:.0f} transactions of the database and {most.blob_calls_per_job:.0f} calls of the "
        f"blob store, its progress told {STEPS_PER_S} times a second; the service alone takes "
        f"{most.idle_transactions_per_s:.1f} transactions a second. A waiting job takes {waiting:,.0f} bytes of "
        "the broker."
    )
    return f"{said}\n\n{table(heads, rows)}"


def ratio(each: Found, first: Found) -> float:
    """Return the throughput as a share of what so many workers would do if each did as much as one alone."""
    return each.per_minute / (first.per_minute * each.workers / first.workers)


def main() -> int:
    """Measure each number of workers and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=24, help="per worker")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a job waits")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    end_on_signal()
    found = []
    for workers in WORKERS:
        found.append(measure(workers, options.jobs * workers, options.seconds))
        print(found[-1], flush=True)
    text_of_it = told(found, options.seconds)
    if options.write:
        write("workers", text_of_it, PAGE)
    else:
        print(text_of_it)
    return 0 if all(ratio(each, found[0]) >= LEAST_RATIO for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
