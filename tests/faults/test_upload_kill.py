import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

SLICE = 32 << 20  # app.services.uploads.SLICE_BYTES
CONTENT = os.urandom(SLICE + (9 << 20))


def started(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"MODELPRESS_DATA_DIR": str(folder), "MODELPRESS_PORT": str(port)}  # noqa: TID251
    gateway = subprocess.Popen([sys.executable, "-m", "app.main"], env=environment, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return gateway
    raise TimeoutError


def headers(offset: int, last: str) -> dict[str, str]:
    return {"Content-Type": "application/partial-upload", "Upload-Offset": str(offset), "Upload-Complete": last}


def test_a_gateway_killed_in_mid_part_loses_at_most_the_last_slice(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/uploads"
    gateway = started(tmp_path, port)

    def until_killed() -> Iterator[bytes]:
        yield CONTENT
        time.sleep(1)  # the rest of the part is on disk by now, and in no record
        gateway.kill()
        yield b"never seen" * 100_000

    try:
        upload = httpx.post(url, headers={"Upload-Complete": "?0"}).json()["id"]
        try:
            httpx.patch(f"{url}/{upload}", content=until_killed(), headers=headers(0, "?0"))
        except httpx.TransportError:
            gateway.wait()
        assert gateway.returncode == -9

        gateway = started(tmp_path, port)
        offset = int(httpx.head(f"{url}/{upload}").headers["Upload-Offset"])
        written = sum(path.stat().st_size for path in (tmp_path / "blobs" / "uploads").rglob("*") if path.is_file())
        assert not list((tmp_path / "blobs").glob("sha256/*"))
        whole = httpx.patch(f"{url}/{upload}", content=CONTENT[offset:], headers=headers(offset, "?1"), timeout=60)
    finally:
        gateway.kill()
        gateway.wait()

    assert SLICE <= offset < written  # more was written than was recorded
    assert whole.json()["sha256"] == hashlib.sha256(CONTENT).hexdigest()
