"""One compute child: a process group of its own with a bare environment, read line by line, stopped.

Knows no job, no store and not what the lines mean.
"""

import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import workers

_MAX_LINE_BYTES = 64 << 20  # a report of a large model with its tensors is a few megabytes
_MAX_TOTAL_BYTES = 512 << 20
_STDERR_TAIL_BYTES = 4_096
_LOOK_EVERY_S = 0.5
_ROOT = Path(workers.__file__ or "").resolve().parent.parent


class TooTalkative(Exception):
    """The child wrote more than any honest one does."""


@dataclass(frozen=True)
class Program:
    """What children run: a module that speaks the pipe's protocol, and where else it may be imported from."""

    module: str = "workers.compute"
    import_path: tuple[Path, ...] = ()


def environment(scratch: Path, threads: int, program: Program, *, gpu: bool) -> dict[str, str]:
    """Return everything the child gets to know of this machine: no secret, no address, no proxy."""
    found = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": "modelpress",
        "HOME": str(scratch / "tmp"),
        "TMPDIR": str(scratch / "tmp"),
        "PYTHONPATH": os.pathsep.join(str(path) for path in (_ROOT, *program.import_path)),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS is not reproducible
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's starts its threads when it is imported, and a nursery may have none
        "MALLOC_ARENA_MAX": "2",  # each arena of glibc reserves 64 MiB of the address space that RLIMIT_AS counts
    }
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        found[name] = str(threads)
    if not gpu:
        found["CUDA_VISIBLE_DEVICES"] = ""
    return found


class Process(Protocol):
    """A started process that leads a group of its own; `pipe` is the descriptor of what it says."""

    pid: int
    pipe: int

    def exited(self) -> bool:
        """Whether it has ended; it is not reaped by asking."""

    def signal(self, number: int) -> None:
        """Signal the whole group, if it is still there."""

    def reap(self) -> int:
        """Wait for the end and return the exit code as Popen has it; a second call returns the same."""


class Spawned:
    """A process started from a command line."""

    def __init__(self, command: Sequence[str], scratch: Path, env: Mapping[str, str]) -> None:
        """Start the command in `scratch`, its errors in `<scratch>/stderr`."""
        with errors_file(scratch).open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                list(command),
                cwd=scratch,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
            )
        self.pid = self._process.pid
        self.pipe = os.dup(self._process.stdout.fileno()) if self._process.stdout else -1
        if self._process.stdout:
            self._process.stdout.close()

    def exited(self) -> bool:
        """Whether it has ended."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal(self, number: int) -> None:
        """Signal the group. Its leader is not reaped yet, so the group's id cannot belong to anybody else."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait()


def errors_file(scratch: Path) -> Path:
    """Return where a child's standard error goes."""
    return scratch / "stderr"


class Child:
    """A running child; use it in a `with` block, which leaves no process behind."""

    def __init__(self, process: Process, scratch: Path) -> None:
        """Listen to a process that was started on `scratch`."""
        self._errors, self._process = errors_file(scratch), process
        self._code: int | None = None
        self.pid = process.pid
        os.set_blocking(process.pipe, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(process.pipe, selectors.EVENT_READ)
        self._partial, self._total = bytearray(), 0
        self._looked = 0.0
        self.ended = False  # its pipe is closed: nothing more will be said
        self.resident_bytes = 0  # as last seen, to tell an out-of-memory kill from another

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop(0)
        self._selector.close()
        os.close(self._process.pipe)

    def lines(self, timeout_s: float) -> list[bytes]:
        """Return the lines said within `timeout_s`. Raises TooTalkative."""
        self._look()
        if not self._selector.select(timeout_s):
            # A descendant may hold the pipe open after its death. What it said last may have come since we looked:
            # so it is when this process was stopped for a while.
            if not self._process.exited():
                return []
            if not self._selector.select(0):
                self.ended = True
                return []
        got = os.read(self._process.pipe, 1 << 20)
        if not got:
            self.ended = True
            return []
        self._total += len(got)
        self._partial += got
        if len(self._partial) > _MAX_LINE_BYTES or self._total > _MAX_TOTAL_BYTES:
            raise TooTalkative
        if b"\n" not in got:
            return []
        *whole, rest = bytes(self._partial).split(b"\n")
        self._partial = bytearray(rest)
        return whole

    def stop(self, grace_s: float) -> int:
        """SIGTERM the process group, SIGKILL what is left after `grace_s`, and return the exit code as Popen has it."""
        if self._code is None:
            if grace_s > 0 and not self._process.exited():
                self._process.signal(signal.SIGTERM)
                self.wait(grace_s)
            self._process.signal(signal.SIGKILL)
            self._code = self._process.reap()
        return self._code

    def wait(self, timeout_s: float) -> bool:
        """Wait for the child to exit by itself; return whether it did."""
        until = time.monotonic() + timeout_s
        while not self._process.exited():
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def last_words(self) -> str:
        """Return the end of its standard error, for our log alone."""
        try:
            with self._errors.open("rb") as file:
                file.seek(max(0, self._errors.stat().st_size - _STDERR_TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def _look(self) -> None:
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):
            return
        if pages:  # a zombie has none
            self.resident_bytes = pages * resource.getpagesize()
