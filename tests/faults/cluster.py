"""A small service of real processes, each of which may be killed, stopped and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from redis import Redis

from app.resources import Resources
from app.settings import Settings
from tests.stand_in import postgresql, stack
from tests.stand_in.s3 import S3

# Leases are short: what a promise says of 30 s is shown with 30 s by `takeover` alone.
QUICK: dict[str, Any] = {
    "lease_s": 4.0, "sweep_every_s": 0.3, "ring_again_s": 1.0, "kill_grace_s": 0.5, "drain_s": 0.4,
    "child_memory_bytes": 512 << 20, "max_queued_per_tenant": 20_000,
}  # fmt: skip
Process = subprocess.Popen[bytes]


class Cluster:
    """Broker, gateways, workers and a sweeper over one data folder."""

    def __init__(self, settings: Settings, resources: Resources, database: Any, s3: S3 | None) -> None:
        self.settings, self.resources, self.database, self.s3 = settings, resources, database, s3
        self.environment = s3.environment if s3 else {}
        self.broker = stack.start_broker(settings.data_dir)
        self.sweeper = stack.start_sweeper(settings, extra=self.environment)
        self.gateways: list[Process] = []
        self.ports = [free_port(), free_port()]
        self.workers: list[Process] = []
        self.heal()

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports[: len(self.gateways)]]

    @property
    def fault_file(self) -> Path:
        assert self.settings.fault_file is not None
        return self.settings.fault_file

    def heal(self, gateways: int = 1, workers: int = 2) -> None:
        """Start what is missing, let go on what was stopped, end what is too much; then everything answers."""
        self.fault_file.unlink(missing_ok=True)
        if self.broker.poll() is not None:
            self.broker = stack.start_broker(self.settings.data_dir)
        if self.sweeper.poll() is not None:
            self.sweeper = stack.start_sweeper(self.settings, extra=self.environment)
        for process in [*self.workers, *self.gateways, self.sweeper]:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        while len(self.gateways) > gateways:
            end(self.gateways.pop())
        for number in range(gateways):
            self.start_gateway(number)
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) > workers:
            end(self.workers.pop())
        while len(self.workers) < workers:
            self.start_worker()

    def start_gateway(self, number: int = 0) -> None:
        """Start gateway `number` unless it runs, and wait until it is ready."""
        if number < len(self.gateways) and self.gateways[number].poll() is None:
            return
        process = start_gateway(self.settings, self.ports[number], extra=self.environment)
        self.gateways[number : number + 1] = [process]
        stack.until(lambda: answers(self.ports[number]), 60)

    def start_worker(self, **environment: str) -> Process:
        process = stack.start_worker(self.settings, extra={**self.environment, **environment})
        self.workers.append(process)
        return process

    def busy(self) -> list[tuple[Process, int]]:
        """Return every worker's children that run, with their worker."""
        alive = [worker for worker in self.workers if worker.poll() is None]
        return [(worker, child) for worker in alive for child in stack.children(worker.pid)]

    def flush(self) -> None:
        with Redis(unix_socket_path=str(self.settings.data_dir / "broker.sock")) as broker:
            broker.flushall()

    def close(self) -> None:
        for process in [*self.gateways, *self.workers, self.sweeper, self.broker]:
            end(process)


def end(process: Process) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def end_on_signal() -> None:
    """Let SIGTERM end this process as an error does, so that no process of a cluster outlives it."""
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(1))


def start_gateway(
    settings: Settings, port: int, root: Path = stack.ROOT, extra: Mapping[str, str] | None = None
) -> Process:
    environment = stack.environment(settings) | {"MODELPRESS_PORT": str(port), "PYTHONPATH": str(root), **(extra or {})}
    with (settings.data_dir / f"gateway-{port}.log").open("ab") as log:
        command = [sys.executable, "-m", "app.main"]
        return subprocess.Popen(command, env=environment, cwd=root, stderr=log, stdout=log)


def answers(port: int, path: str = "readyz") -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=20).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(kind: str = "sqlite", **changes: Any) -> Iterator[Cluster]:
    """Yield a cluster on SQLite or PostgreSQL (`kind`), with settings of its own."""
    with ExitStack() as opened:
        folder = opened.enter_context(stack.data_folder())
        given = {**QUICK, "fault_file": folder / "fault", **changes}
        server, s3 = None, None
        if kind == "real lease":
            given |= {"lease_s": 30.0, "sweep_every_s": 5.0, "ring_again_s": 30.0, "kill_grace_s": 5.0}
        if kind == "s3":
            s3 = opened.enter_context(S3())
            opened.enter_context(patch.dict(os.environ, s3.environment))  # noqa: TID251 - also of this process
            given["blob_url"] = "s3://bucket/modelpress"
        if kind == "postgresql":
            server = opened.enter_context(postgresql.server(folder / "pg"))
            given["database_url"] = server.get_uri()
        settings = stack.settings_for(folder, **given)
        resources = opened.enter_context(stack.open_stores(settings))
        cluster = Cluster(settings, resources, server, s3)
        opened.callback(cluster.close)
        yield cluster


def wait_exit(process: Process, limit_s: float) -> float:
    """Wait for a process to end; return how many seconds that took."""
    began = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        process.wait(limit_s)
    assert process.poll() is not None, f"process {process.pid} still runs after {limit_s} s"
    return time.monotonic() - began
