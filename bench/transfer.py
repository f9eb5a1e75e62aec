"""Upload and download of 1 GiB over loopback: throughput, and by how much the gateway's memory grows.

    python -m bench.transfer [MiB]

Three ways in (one raw POST, resumable parts with digests, curl) and one way out, against a real gateway process. The
file is random bytes under an artifact's row that this script writes: no worker is involved.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx

from app.contracts.artifact import Artifact, Variant
from app.contracts.base import new_id
from app.contracts.recipe import Recipe
from app.contracts.report import Measurement
from app.contracts.steps.retrain import Retrain
from app.resources import connect
from app.settings import Settings
from app.stores.database import now
from app.stores.migrate import upgrade
from app.stores.tables import artifacts
from modelpress import Client

MIB = 1 << 20


class Memory:
    """Samples a process's resident memory until stopped; `grown` is the peak minus the start, in bytes."""

    def __init__(self, pid: int) -> None:
        self._pages = Path(f"/proc/{pid}/statm")
        self._stop = threading.Event()
        self.start = self.peak = self._now()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _now(self) -> int:
        return int(self._pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._now())

    def grown(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.peak - self.start


def measure(title: str, size_mib: int, pid: int, act: Callable[[], object]) -> None:
    """Run `act` once and print its throughput and the gateway's memory."""
    memory, began = Memory(pid), time.monotonic()
    act()
    seconds = time.monotonic() - began
    print(f"{title:38} {size_mib / seconds:7.0f} MiB/s   gateway grew by {memory.grown() / MIB:5.1f} MiB", flush=True)


def seed_artifact(settings: Settings, file: Path) -> str:
    """Store the file as both variants of an artifact and return the artifact's id."""
    with connect(settings) as resources:
        stored = resources.blobs.put_file(file)
        size = stored.size_bytes
        variant = Variant(sha256=stored.sha256, size_bytes=size, zstd_bytes=size)
        artifact = Artifact(
            id=new_id("art"),
            job=new_id("job"),
            model=new_id("mdl"),
            recipe=Recipe(steps=[Retrain()]),
            seed=0,
            variants={"packed": variant, "dense": variant},
            encodings={},
            measurement=Measurement(parameters=0, nonzeros=0, file_bytes=size, zstd_bytes=size),
            verdict="random bytes",
            created_at=datetime.now(UTC),
        )
        row = {"id": artifact.id, "job_id": artifact.job, "document": artifact.model_dump(mode="json")}
        with resources.database.transaction() as tx:
            tx.execute(artifacts.insert().values(tenant="default", created_at=now(), **row))
    return artifact.id


def main(size_mib: int) -> None:
    """Start a gateway on a free port, measure, stop it."""
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        settings = Settings(data_dir=Path(folder) / "data")
        settings.data_dir.mkdir()
        file = Path(folder) / "random.bin"
        with file.open("wb") as out:
            for _ in range(size_mib):
                out.write(os.urandom(MIB))
        with connect(settings) as resources:
            upgrade(resources.database)
        artifact = seed_artifact(settings, file)
        environment = os.environ | {"MODELPRESS_DATA_DIR": str(settings.data_dir), "MODELPRESS_PORT": str(port)}  # noqa: TID251
        gateway = subprocess.Popen([sys.executable, "-m", "app.main"], env=environment, stderr=subprocess.DEVNULL)
        try:
            run(f"http://127.0.0.1:{port}", (gateway.pid, file, artifact), size_mib)
        finally:
            gateway.terminate()
            gateway.wait()


def run(server: str, subject: tuple[int, Path, str], size_mib: int) -> None:
    """Measure the four transfers against a ready gateway."""
    pid, file, artifact = subject
    wait_until_ready(server)
    with Client(server) as client:
        measure("upload, resumable parts (client)", size_mib, pid, lambda: client.upload(file))
    headers = {"Content-Type": "application/octet-stream"}

    def post() -> None:
        with file.open("rb") as body:
            httpx.post(f"{server}/v1/models?format=onnx", content=body, headers=headers, timeout=300).raise_for_status()

    measure("upload, one raw POST (httpx)", size_mib, pid, post)
    curl = ["curl", "-sSf", "-H", "Expect:", "-H", "Content-Type: application/octet-stream", "-o", "/dev/null"]
    target = f"{server}/v1/models?format=onnx"
    command = [*curl, "-X", "POST", "-T", str(file), target]
    measure("upload, one raw POST (curl)", size_mib, pid, lambda: subprocess.run(command, check=True))
    content = f"{server}/v1/artifacts/{artifact}/content"
    measure("download (curl)", size_mib, pid, lambda: subprocess.run([*curl, content], check=True))


def wait_until_ready(server: str) -> None:
    """Wait for the gateway's liveness."""
    for _ in range(300):
        try:
            if httpx.get(f"{server}/healthz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    sys.exit("the gateway did not start")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
