"""A real MLflow server on loopback, and its own client, both from a virtual environment that is not ours."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / ".cache" / "tools" / "mlflow" / "bin"
_START_S = 240.0  # it imports much, and the machine may be busy
_KEY = "JKyK3-0o3VxMbgVzqyrpKXxXZAhU0q-gV9TDbVbZ2Wo="  # a Fernet key, for the secrets of webhooks in its database


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Yield the server's address; its webhooks may go to loopback."""
    if not (TOOL / "mlflow").exists():
        pytest.skip("no MLflow here: make .cache/tools/mlflow/bin/mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    command = [TOOL / "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    told = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _KEY,
    }
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(command, env=_environment(folder) | told, stdout=log, stderr=log, cwd=folder)
    try:
        _await(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def run(folder: Path, script: Path, *arguments: str) -> str:
    """Run a script with MLflow's client; return what it printed last."""
    command = [TOOL / "python", script, *arguments]
    done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.strip().splitlines()[-1]


def _environment(folder: Path) -> dict[str, str]:
    path = os.environ["PATH"]  # noqa: TID251 - the child's, not ours
    return {
        "PATH": f"{TOOL}:{path}",
        "HOME": str(folder),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "0",
    }


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError("MLflow did not start")
