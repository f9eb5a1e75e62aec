"""Streams, broken connections and kills, against a real process."""

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.contracts.job import JobState
from app.resources import Resources, connect
from app.settings import Settings
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import job_body
from tests.app.serving import Serving, serving

MIB = 1 << 20
PART = {"Content-Type": "application/partial-upload"}
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("data")) as served:
        yield served


def chunks(count: int, chunk: bytes) -> Iterator[bytes]:
    for _ in range(count):
        yield chunk


def body(count: int, head: bytes = b"\x08") -> Iterator[bytes]:
    yield head
    yield from chunks(count, b"m" * MIB)


def send_half(url: str, request: str, content: bytes) -> None:
    """Send a request that announces more than it sends, then cut the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode() + content)
        time.sleep(0.3)


def offset(served: Serving, upload: str) -> int:
    return int(httpx.head(f"{served.url}/v1/uploads/{upload}").headers["Upload-Offset"])


def test_large_body_is_streamed_in_little_memory(served: Serving) -> None:
    httpx.post(f"{served.url}/v1/models", content=body(8), headers=RAW)
    before = served.resident_bytes()

    answer = httpx.post(f"{served.url}/v1/models", content=body(200), headers=RAW, timeout=60)

    assert answer.status_code == 202, answer.text
    assert answer.json()["size_bytes"] == 200 * MIB + 1
    assert served.resident_bytes() - before < 64 * MIB


def test_large_part_is_streamed_in_little_memory(served: Serving) -> None:
    digest = hashlib.sha256(b"".join(body(100))).hexdigest()
    upload = httpx.post(f"{served.url}/v1/uploads", headers={"Upload-Complete": "?0"}).json()["id"]
    before = served.resident_bytes()

    answer = httpx.patch(
        f"{served.url}/v1/uploads/{upload}",
        content=body(100),
        headers=PART | {"Upload-Offset": "0", "Upload-Complete": "?1"},
        timeout=60,
    )

    assert answer.json()["sha256"] == digest
    assert served.resident_bytes() - before < 64 * MIB


def test_form_is_streamed(served: Serving, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08" + b"m" * (5 * MIB))

    with (tmp_path / "a.onnx").open("rb") as file:
        answer = httpx.post(f"{served.url}/v1/models", files={"file": file}, data={"name": "from a form"}, timeout=60)

    assert answer.status_code == 202, answer.text
    assert answer.json()["name"] == "from a form"
    assert answer.json()["size_bytes"] == 5 * MIB + 1


def test_part_of_a_client_that_vanishes_is_kept(served: Serving) -> None:
    upload = httpx.post(f"{served.url}/v1/uploads", headers={"Upload-Complete": "?0"}).json()["id"]
    request = (
        f"PATCH /v1/uploads/{upload} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/partial-upload\r\n"
        "Upload-Offset: 0\r\nContent-Length: 9999999\r\n\r\n"
    )

    def stands_after_a_half() -> int:
        # The server drops what it has buffered but not yet read when the client goes: on a busy machine, once more.
        send_half(served.url, request, b"abcd")
        return offset(served, upload)

    wait_for(lambda: stands_after_a_half() == 4)


def test_raw_body_of_a_client_that_vanishes_leaves_nothing(served: Serving, tmp_path: Path) -> None:
    known = len(httpx.get(f"{served.url}/v1/models?limit=200").json()["items"])
    request = (
        "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        "Content-Length: 9999999\r\n\r\n"
    )

    for _ in range(5):
        send_half(served.url, request, b"\x08abc")

    assert len(httpx.get(f"{served.url}/v1/models?limit=200").json()["items"]) == known


def test_broken_connections_leak_no_file(served: Serving) -> None:
    request = (
        "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        "Content-Length: 99\r\n\r\n"
    )
    send_half(served.url, request, b"\x08")
    before = served.open_files()

    for _ in range(10):
        send_half(served.url, request, b"\x08")

    wait_for(lambda: served.open_files() <= before + 5)


def test_upload_survives_a_killed_gateway(tmp_path: Path) -> None:
    content = b"\x08" + b"abcdefg" * MIB
    with serving(tmp_path) as first:
        upload = httpx.post(f"{first.url}/v1/uploads", headers={"Upload-Length": str(len(content))} | no()).json()["id"]
        httpx.patch(f"{first.url}/v1/uploads/{upload}", content=content[:MIB], headers=at(0))
        first.kill()

    with serving(tmp_path) as second:
        stands = offset(second, upload)
        rest = httpx.patch(f"{second.url}/v1/uploads/{upload}", content=content[stands:], headers=at(stands, "?1"))

    assert stands == MIB
    assert rest.json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_stream_of_events_follows_a_job_and_ends(served: Serving, worker_of: ActingWorker) -> None:
    model = httpx.post(f"{served.url}/v1/models", content=b"\x08m", headers=RAW).json()["id"]
    worker_of.accept_model(model)
    job = httpx.post(f"{served.url}/v1/jobs", json=job_body(model)).json()["id"]
    states = []

    with httpx.stream("GET", f"{served.url}/v1/jobs/{job}/events", timeout=10) as stream:
        for line in stream.iter_lines():
            if not line.startswith("data: "):
                continue
            states.append(json.loads(line.removeprefix("data: "))["message"])
            if states == ["queued"]:
                worker_of.end(worker_of.claim(job), JobState.SUCCEEDED)

    assert states == ["queued", "running", "succeeded"]


def test_open_stream_does_not_hold_up_a_shutdown(tmp_path: Path) -> None:
    with serving(tmp_path) as own, connect(Settings(data_dir=tmp_path)) as resources:
        model = httpx.post(f"{own.url}/v1/models", content=b"\x08m", headers=RAW).json()["id"]
        ActingWorker(resources).accept_model(model)
        job = httpx.post(f"{own.url}/v1/jobs", json=job_body(model)).json()["id"]
        with httpx.stream("GET", f"{own.url}/v1/jobs/{job}/events", timeout=30) as stream:
            lines = stream.iter_lines()
            assert "id: 1" in lines  # it has begun
            own.process.terminate()
            began = time.monotonic()
            assert list(lines)  # the rest of it, and its end
        own.process.wait(20)

    assert time.monotonic() - began < 15
    assert own.process.returncode in {0, -15}


def test_submission_without_a_broker_is_quick(served: Serving, worker_of: ActingWorker) -> None:
    model = httpx.post(f"{served.url}/v1/models", content=b"\x08m", headers=RAW).json()["id"]
    worker_of.accept_model(model)
    began = time.monotonic()

    answer = httpx.post(f"{served.url}/v1/jobs", json=job_body(model), timeout=30)

    assert answer.status_code == 202
    assert time.monotonic() - began < 5


def test_log_is_one_object_per_line(served: Serving, worker_of: ActingWorker) -> None:
    httpx.get(f"{served.url}/v1/models?x=%0a%1b[31mred")
    lines = (worker_of.resources.settings.data_dir / "gateway.log").read_text().splitlines()

    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_gateway_without_keys_refuses_an_open_bind(tmp_path: Path) -> None:
    environment = {"MODELPRESS_HOST": "0.0.0.0", "MODELPRESS_DATA_DIR": str(tmp_path), "PATH": ""}

    found = subprocess.run(
        [sys.executable, "-m", "app.main"], env=environment, capture_output=True, text=True, check=False
    )

    assert found.returncode == 1
    assert "needs API keys" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.fixture
def worker_of(served: Serving, resources_of: Resources) -> ActingWorker:
    return ActingWorker(resources_of)


@pytest.fixture
def resources_of(served: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resources]:
    data_dir = next(tmp_path_factory.getbasetemp().glob("data*"))
    with connect(Settings(data_dir=data_dir)) as resources:
        yield resources


def no() -> dict[str, str]:
    return {"Upload-Complete": "?0"}


def at(start: int, last: str = "?0") -> dict[str, str]:
    return PART | {"Upload-Offset": str(start), "Upload-Complete": last}


def wait_for(holds: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_headers_without_end_are_refused_in_little_memory(served: Serving) -> None:
    before = served.resident_bytes()
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            for _ in range(200):
                connection.sendall(b"a" * MIB)

    assert served.resident_bytes() - before < 20 * MIB


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_long_headers_are_431(served: Serving, size: int) -> None:
    answer = httpx.get(f"{served.url}/v1/models", headers={"X-Long": "a" * size})

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (431, "headers-too-large")


def test_a_body_after_short_headers_is_not_counted_as_headers(served: Serving) -> None:
    with httpx.Client(base_url=served.url) as client:
        for _ in range(3):  # over one connection
            assert client.post("/v1/models", content=body(1), headers=RAW).status_code == 202
