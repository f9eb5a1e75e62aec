"""A gateway in a process of its own, as it is deployed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil


@dataclass
class Serving:
    url: str
    process: subprocess.Popen[bytes]

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def open_files(self) -> int:
        return int(psutil.Process(self.process.pid).num_fds())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[Serving]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ) | {  # noqa: TID251 - the child's, not ours
        "MODELPRESS_DATA_DIR": str(data_dir),
        "MODELPRESS_PORT": str(port),
        **{f"MODELPRESS_{name.upper()}": value for name, value in settings.items()},
    }
    with (data_dir / "gateway.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "app.main"], env=environment, stderr=log, stdout=log)
    try:
        served = Serving(f"http://127.0.0.1:{port}", process)
        _wait_until_ready(served)
        yield served
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_ready(served: Serving) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and served.process.poll() is None:
        try:
            if httpx.get(f"{served.url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    msg = "the gateway did not become ready"
    raise AssertionError(msg)
