"""A real gateway process without workers, a double that plays the worker, and a proxy that breaks connections."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.resources import connect
from app.settings import Settings
from modelpress import Client
from modelpress.cli.main import build
from modelpress.transport import Retry
from tests.app.acting_worker import ActingWorker

QUICK = Retry(attempts=6, first_wait_s=0.02)


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Let programs that the tests start take SIGINT: those of a suite run in the background would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(found: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Gateway:
    url: str
    data_dir: Path
    settings: Settings


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[Gateway]:
    port = free_port()
    known = {"MODELPRESS_DATA_DIR": str(data_dir), "MODELPRESS_PORT": str(port), "MODELPRESS_LOG_LEVEL": "ERROR"}
    env = {**os.environ, **known, **settings}  # noqa: TID251  # handed on, not read
    process = subprocess.Popen([sys.executable, "-m", "app.main"], env=env, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{url}/healthz"))
        yield Gateway(url, data_dir, Settings(data_dir=data_dir))
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.url, retry=QUICK) as made:
        yield made


@pytest.fixture
def worker(gateway: Gateway) -> Iterator[ActingWorker]:
    with connect(gateway.settings) as resources:
        yield ActingWorker(resources)


@dataclass
class CuttingProxy:
    """Forwards to a server; the n-th connection is cut after `cuts[n]` bytes in the watched direction."""

    target: int
    cuts: list[int]
    upstream: bool  # whether the client's bytes are counted, or the server's
    connections: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            limit = self.cuts[self.connections] if self.connections < len(self.cuts) else None
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self.target))
            up, down = (limit, None) if self.upstream else (None, limit)
            for source, sink, most in ((near, far, up), (far, near, down)):
                threading.Thread(target=self._forward, args=(source, sink, most), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        passed = 0
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk if most is None else chunk[: most - passed])
                passed += len(chunk)
                if most is not None and passed >= most:
                    break
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def cutting(gateway: Gateway) -> Iterator[Callable[..., CuttingProxy]]:
    made: list[CuttingProxy] = []

    def start(*cuts: int, upstream: bool) -> CuttingProxy:
        proxy = CuttingProxy(int(gateway.url.rpartition(":")[2]), list(cuts), upstream)
        threading.Thread(target=proxy.run, daemon=True).start()
        made.append(proxy)
        return proxy

    yield start
    for proxy in made:
        proxy.close()


@pytest.fixture(scope="module")
def own_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose work the tests of one module do."""
    with serving(tmp_path_factory.mktemp("own")) as found:
        yield found


@pytest.fixture
def run(own_gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Return a function that runs the command line beside a model and data, against that gateway."""
    monkeypatch.setenv("MODELPRESS_SERVER", own_gateway.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0amodel")
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04data")
    app = build()
    return lambda *arguments: CliRunner().invoke(app, arguments)
