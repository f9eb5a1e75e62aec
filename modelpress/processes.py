"""Child processes that are watched, restarted after growing pauses, and never outlive their parent."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_HEALTHY_S = 60.0  # a child that lived this long has its pauses forgotten
_LONGEST_PAUSE_S = 30.0
_LOG_BYTES = 10 << 20  # an older, longer log moves aside at the start
_TICK_S = 0.05
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Program:
    """What to run, where its output goes, and how long it may take to end after SIGTERM."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    grace_s: float = 10.0


class Child:
    """One running program."""

    def __init__(self, program: Program) -> None:
        """Start it."""
        self.program = program
        self._restarts = 0
        self._asked = False
        self._wait_until: float | None = None
        self._begin()

    def _begin(self) -> None:
        _rotate(self.program.log)
        with self.program.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  # the commands are ours
                self.program.command,
                env=self.program.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: the terminal's Ctrl-C reaches the parent alone, which ends children in order.
                start_new_session=True,
                preexec_fn=_tie_to(os.getpid()),  # noqa: PLW1509  # the parent has one thread
            )
        self._begun = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def tend(self, say: Callable[[str], None]) -> None:
        """Start it again when it has died, after a pause that doubles from 0.5 s to 30 s."""
        if self.running:
            return
        now = time.monotonic()
        if self._wait_until is None:
            if now - self._begun > _HEALTHY_S:
                self._restarts = 0
            pause = min(_LONGEST_PAUSE_S, 0.5 * 2.0**self._restarts)
            self._restarts += 1
            self._wait_until = now + pause
            say(f"{self.program.name} ended with code {self.process.returncode}; starting it again in {pause:g} s")
        elif now >= self._wait_until:
            self._wait_until = None
            self._begin()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, once: a second one would make a worker drop its job instead of handing it back."""
        if self.running and not self._asked:
            self._asked = True
            self.process.terminate()

    def stop(self, hurry: Event) -> None:
        """Ask it to end; after its grace, or as soon as `hurry` is set, kill its whole session."""
        self.ask_to_stop()
        deadline = time.monotonic() + self.program.grace_s
        while self.running and time.monotonic() < deadline and not hurry.wait(_TICK_S):
            pass
        if self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def last_words(self, count: int = 12) -> str:
        """Return the last lines of its log."""
        with self.program.log.open("rb") as log:
            log.seek(max(0, self.program.log.stat().st_size - 8192))
            return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-count:])


def _tie_to(parent: int) -> Callable[[], None]:
    """Return what a child runs before its program: the kernel kills it when the parent dies (Linux)."""

    def tie() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(1)

    return tie


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
