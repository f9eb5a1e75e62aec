"""Tries what a hijacked child would try and prints, as JSON, which acts succeeded."""

import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# The order itself, or, for a child that is given a folder alone, where it lies.
ORDER = json.loads(sys.argv[1] if sys.argv[1].startswith("{") else (Path(sys.argv[1]) / "acts.json").read_text())


def main() -> None:
    sys.stdout.write(json.dumps({name: succeeds(act) for name, act in ACTS.items() if name in ORDER["acts"]}) + "\n")


def succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except (OSError, MemoryError):
        return False
    return True


def connect() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as plug:
        plug.connect(("127.0.0.1", ORDER["port"]))


def send_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.sendto(b"x", ("127.0.0.1", ORDER["port"]))


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def leave_group() -> None:
    os.setpgid(0, 0)


def outlive() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0) != 0:
        raise PermissionError


def write_much() -> None:
    with tempfile.TemporaryFile(dir=ORDER["scratch"]) as file:
        file.write(bytes(2 << 20))
        file.flush()


def open_many() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # a login's own limit, which it may raise, is often 1,024
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(1_100)]
    for one in kept:
        os.close(one)


def use_memory() -> None:
    ctypes.create_string_buffer(1 << 30)


def make_link() -> None:
    link = Path(ORDER["scratch"]) / "link"
    link.symlink_to(ORDER["canary"])
    link.unlink()


ACTS: dict[str, Callable[[], object]] = {
    "read canary": lambda: Path(ORDER["canary"]).read_text(),
    "read parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "write outside": lambda: Path(ORDER["outside"]).write_text("x"),
    "make link": make_link,
    "write scratch": lambda: (Path(ORDER["scratch"]) / "own").write_text("x"),
    "connect": connect,
    "sendto": send_datagram,
    "exec": lambda: subprocess.run(["/bin/true"], check=True),
    "fork": fork,
    "signal parent": lambda: os.kill(os.getppid(), 0),
    "leave group": leave_group,
    "outlive": outlive,
    "write much": write_much,
    "open many": open_many,
    "use memory": use_memory,
}


if __name__ == "__main__":
    main()
