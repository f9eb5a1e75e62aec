"""The real thing: broker, gateway and workers as `modelpress up` starts them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from modelpress import Client, InvalidRequest, broker
from tests.modelpress.conftest import wait_for

COMMAND = [sys.executable, "-m", "modelpress.cli.main", "up", "--port", "0"]


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    url: str

    def children(self) -> dict[str, int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {_role(int(pid)): int(pid) for pid in listed}


def _role(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return "broker" if "valkey" in words[0] else " ".join(words[2:]).strip()


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def stack(data: Path) -> Iterator[Running]:
    process = subprocess.Popen([*COMMAND, "--data", str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "ready at" in line
        yield Running(process, line.split()[4])
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_up_when_ended_and_started_again(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"\x08\x0anonsense")
    with stack(tmp_path / "var") as first:
        assert httpx.get(f"{first.url}/readyz").json()["broker"] is True
        with Client(first.url) as client:
            with pytest.raises(InvalidRequest) as refusal:  # the verdict of a real worker's child
                client.upload_model(source)
            made = next(client.models())
        pids = first.children()
    assert first.process.returncode == 0
    assert refusal.value.problem.name == "model-malformed"
    assert sorted(pids) == [
        "app.main",
        "broker",
        "workers.main --queues checks,egress --concurrency 2",
        "workers.main --queues cpu",
        "workers.sweeper",
    ]
    assert not [pid for pid in pids.values() if alive(pid)]
    with stack(tmp_path / "var") as second, Client(second.url) as client:
        assert [model.id for model in client.models()] == [made.id]


def test_up_when_a_child_and_then_the_parent_are_killed(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        before = running.children()
        os.kill(before["broker"], signal.SIGKILL)
        wait_for(lambda: running.children().get("broker", before["broker"]) != before["broker"])
        wait_for(lambda: httpx.get(f"{running.url}/readyz").json()["broker"])
        after = running.children()
        assert {role for role in before if before[role] != after[role]} == {"broker"}
        os.kill(running.process.pid, signal.SIGKILL)
        wait_for(lambda: not [pid for pid in after.values() if alive(pid)])


def refused(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, " ".join(done.stderr.split())


def test_up_when_the_data_folder_is_in_use(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        code, said = refused("--data", str(tmp_path))
    assert code == 2
    assert f"process {running.process.pid}" in said
    assert "another --data" in said


def test_up_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = refused("--data", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "another --port" in said


def test_up_when_the_gateway_refuses_to_start(tmp_path: Path) -> None:
    code, said = refused("--data", str(tmp_path), "--host", "0.0.0.0")
    assert code == 1
    assert "MODELPRESS_API_KEYS" in said


def test_socket_path_when_the_data_folder_is_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 110)
    deep.mkdir()
    address = broker.socket_path(deep)
    assert len(bytes(address)) <= 107
    assert address == broker.socket_path(deep)
    assert address.parent.stat().st_mode & 0o077 == 0
    address.parent.rmdir()
