"""Faults of the database and the blob store."""

import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.client import PATIENCE_S
from tests.faults.cluster import Cluster, answers
from tests.faults.registry import LONG, NOTHING, Run, fault
from tests.stand_in import stack

RAW = {"Content-Type": "application/octet-stream"}


@contextmanager
def _away(cluster: Cluster) -> Iterator[None]:
    """Take the database away: PostgreSQL by an immediate stop, SQLite by somebody else's lock for writing."""
    if cluster.database is not None:
        stop_postgresql(cluster)
        try:
            yield
        finally:
            cluster.database.ensure_postgres_running()
        return
    with sqlite3.connect(cluster.settings.data_dir / "modelpress.db", isolation_level=None) as held:
        held.execute("PRAGMA busy_timeout=5000")
        held.execute("BEGIN EXCLUSIVE")
        yield
        held.execute("ROLLBACK")
    held.close()


def stop_postgresql(cluster: Cluster) -> None:
    pid = cluster.database.get_pid()
    os.kill(pid, signal.SIGQUIT)
    stack.until(lambda: not stack.alive(pid), 10)


@fault("R7", "the database is away for a while", "503 and not ready, yet alive; the job goes on, uncounted",
       stores=("postgresql", "sqlite"))  # fmt: skip
def database_away(run: Run) -> None:
    model, job = run.client.model(NOTHING), run.submit(LONG)
    run.client.training(job)
    with _away(run.cluster):
        until = time.monotonic() + run.rng.uniform(0.5, 6)
        if run.cluster.database is not None:
            refused = run.client.ask("GET", f"/v1/jobs/{job}")
            assert refused is not None
            assert (refused.status_code, refused.json()["type"][-22:]) == (503, "dependency-unavailable")
            assert "Retry-After" in refused.headers
            assert run.client.submit(model) is None
            assert not answers(run.cluster.ports[0])
        assert answers(run.cluster.ports[0], "healthz")
        time.sleep(max(0.0, until - time.monotonic()))
    run.expect(job, losses=0 if run.cluster.database is not None else None)


POINTS = ("answered", "stored", "recorded", "ended", "claimed", "prepared")


@fault("R8", "a crash, or a restart of the database, between the bytes and their record",
       "no success without its bytes, no record twice", stores=("sqlite", "postgresql"))  # fmt: skip
def crash_between(run: Run) -> None:
    point = POINTS[run.number // 2 % len(POINTS)]
    restarts = run.cluster.database is not None and run.rng.random() < 0.5
    script = run.client.model(NOTHING)
    run.cluster.fault_file.write_text(f"{point} {'SIGSTOP' if restarts else 'SIGKILL'}")
    job = run.client.submit(script, seed=run.rng.randrange(1 << 30))
    assert job
    run.expect(job)
    stack.until(lambda: not run.cluster.fault_file.exists(), PATIENCE_S)
    if restarts:
        stop_postgresql(run.cluster)
        run.pause(0, 1)
        run.cluster.database.ensure_postgres_running()
        for worker in run.cluster.workers:
            worker.send_signal(signal.SIGCONT)


FULL_BYTES = 24 << 20


@fault("R9", "the disk is full", "507 and a failed job that may be tried again; no restart needed")
def disk_full(run: Run) -> None:
    big = {"steps": 1, "kib": 1 + (FULL_BYTES >> 10)}
    model, limited = run.client.model(big), [*run.cluster.gateways, *run.cluster.workers]
    try:
        for process in limited:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))
        refused = run.client.ask("POST", "/v1/models", content=bytes(FULL_BYTES + 1), headers=RAW)
        assert refused is not None
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (507, "insufficient-storage")
        job = run.client.submit(model)
        assert job
        run.expect(job, "failed", "insufficient-storage")
        error = run.client.wait(job)["error"]
        assert error["retryable"]
    finally:
        for process in limited:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    accepted = run.client.ask("POST", "/v1/uploads", content=bytes(FULL_BYTES + 1), headers={"Upload-Complete": "?1"})
    assert accepted is not None
    assert accepted.status_code < 300, accepted.text
    again = run.client.submit(model)
    assert again
    run.expect(again)


@fault(
    "R23", "blobs are gone or corrupt, as after a restore", "artifact-missing and artifact-corrupt, never wrong bytes"
)
def blobs_gone(run: Run) -> None:
    job = run.submit({"steps": 1, "kib": run.rng.choice([1, 5_000])})
    artifact = run.client.wait(job)["artifact"]
    sound = run.client.insist("GET", f"/v1/artifacts/{artifact}").json()["variants"]["packed"]["sha256"]
    path = run.cluster.settings.data_dir / "blobs" / "sha256" / sound
    kept = path.read_bytes()
    spoil(path, run.rng.randrange(len(kept)))
    _assert_corrupt(run, artifact, kept)
    path.unlink()
    gone = run.client.insist("GET", f"/v1/artifacts/{artifact}/content")
    assert (gone.status_code, gone.json()["type"].rpartition("/")[2]) == (410, "artifact-missing")
    path.write_bytes(kept)
    assert run.client.insist("GET", f"/v1/artifacts/{artifact}/content").content == kept


def spoil(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def _assert_corrupt(run: Run, artifact: str, kept: bytes) -> None:
    """A whole read and a part of it say so: by the status, or by breaking off once bytes were sent."""
    for headers in ({}, {"Range": f"bytes={len(kept) // 2}-"}):
        asked = {**headers, "Accept-Encoding": "identity"}
        answer = run.client.ask("GET", f"/v1/artifacts/{artifact}/content", headers=asked)
        if answer is not None:
            assert answer.status_code == 502, f"{answer.status_code} for {headers}"
            assert answer.json()["type"].endswith("artifact-corrupt")


@fault("R10", "an S3 that loses calls, breaks reads off, damages bytes, and is down for a while",
       "retried; every read verified; 503 dependency-unavailable, then the job goes on", stores=("s3",))  # fmt: skip
def flaky_store(run: Run) -> None:
    assert run.cluster.s3 is not None
    store = run.cluster.s3.store
    store.flaky, store.damages = True, run.rng.random() < 0.5
    try:
        first = run.submit({"steps": 20, "pause_s": 0.05, "kib": run.rng.choice([1, 3_000])})
        run.client.training(first)
        if run.number % 3 == 0:
            store.down = True
            refused = run.client.ask("POST", "/v1/models", content=run.rng.randbytes(1_000), headers=RAW)
            assert refused is not None
            assert refused.json()["type"].endswith("dependency-unavailable")
            run.pause(0, 2)
            store.down = False
        run.submit(NOTHING)
        for job in run.expected:
            run.client.wait(job)
    finally:
        store.down, store.flaky = False, False
