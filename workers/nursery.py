"""Warm children: a process that has imported what an order needs, and forks a fresh child for each.

The imports take a second for a check, most of what it takes, and three for a compression, and so are done once per
worker. The nursery itself opens no upload and answers nobody but its worker; a child that it forks is confined like any
other before it opens anything, and is gone after its one order. The price: children of one nursery share the layout of
their address spaces. What is to use a GPU is not forked: CUDA does not survive it.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from workers import sandbox
from workers.child import errors_file
from workers.sandbox import Confinement

# What imports ONNX Runtime or pyarrow is left to the children: both start threads, which a fork does not survive.
CHECKING = (
    "app.contracts.tasks", "app.problems", "workers.compute.channel", "workers.compute.failure",
    "workers.compute.bundles", "workers.compute.importers.onnx_file", "workers.compute.graph.costs",
    "workers.compute.importers.huggingface.importing", "workers.compute.datasets.check",
    "workers.compute.datasets.npz", "workers.compute.datasets.csv_file", "workers.compute.datasets.jsonl_file",
)  # fmt: skip
# torch imports _dynamo when an optimizer takes its first step.
COMPUTING = (
    "torch", "torch._dynamo", "workers.compute.autograd.training", "workers.compute.checkpoints",
    "workers.compute.datasets.loading", "workers.compute.graph.narrowing", *CHECKING,
)  # fmt: skip
_START_S = 60.0  # imports on a busy machine
_REAP_S = 20.0  # a killed child ends at once, so a nursery that is silent for longer is not well
_MESSAGE_BYTES = 1 << 16
_DONE = b"\0"  # besides the numbers of signals
_NOT_ONE_THREAD = 71  # EX_OSERR: a fork would copy locks that other threads hold


class Nursery:
    """The worker's side: starts the process when it is first needed, and again when it is gone."""

    def __init__(self, env: Mapping[str, str], modules: Sequence[str]) -> None:
        """Remember what the nursery imports and the environment that it is started with; children get their own."""
        self._env, self._modules = dict(env), modules
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._imported = False

    def fork(self, module: str, scratch: Path, confinement: Confinement, env: Mapping[str, str]) -> "Forked | None":
        """Return a child that runs `module` on `scratch`, or None when there is no nursery to be had."""
        request = {"module": module, "scratch": str(scratch), "confinement": asdict(confinement), "env": dict(env)}
        with self._lock:
            if not self._ready():
                return None
            child = self._ask(json.dumps(request).encode(), scratch)
            if child is None:
                self.close()
            return child

    @property
    def process_id(self) -> int | None:
        """The process that forks, None while there is none."""
        return None if self._process is None else self._process.pid

    def warm(self) -> None:
        """Start the process ahead of the first order, which waits for what is not imported by then."""
        with self._lock:
            if self._line is None:
                self._start()

    def close(self) -> None:
        """End the nursery, and with it whatever it has forked."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None

    def _start(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._imported = False
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-P", "-m", "workers.nursery", str(os.getpid()), str(theirs.fileno()), *self._modules],
                env=self._env,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._line.settimeout(_START_S)

    def _ready(self) -> bool:
        if self._line is None:
            self._start()
        if not self._imported:
            with contextlib.suppress(OSError):
                self._imported = bool(self._line and self._line.recv(_MESSAGE_BYTES))
        if not self._imported:
            self.close()
        return self._imported

    def _ask(self, request: bytes, scratch: Path) -> "Forked | None":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        ours.settimeout(_REAP_S)
        try:
            with errors_file(scratch).open("wb") as errors, theirs:
                socket.send_fds(self._line, [request], [writing, errors.fileno(), theirs.fileno()])  # type: ignore[arg-type] # started
            pid = int(ours.recv(_MESSAGE_BYTES) or b"0")
        except OSError:
            pid = 0
        finally:
            os.close(writing)
        if pid:
            return Forked(pid, reading, ours)
        os.close(reading)
        ours.close()
        return None


class Forked:
    """A child of the nursery's, which reaps it and signals it for us; see `workers.child.Process`."""

    def __init__(self, pid: int, pipe: int, line: socket.socket) -> None:
        """Take over what the nursery has started."""
        self.pid, self.pipe = pid, pipe
        self._line, self._code = line, None if pid else -signal.SIGKILL

    def exited(self) -> bool:
        """Whether it has ended."""
        self._hear(0)
        return self._code is not None

    def signal(self, number: int) -> None:
        """Have the group signalled."""
        with contextlib.suppress(OSError):
            self._line.send(bytes([number]))

    def reap(self) -> int:
        """Wait for the end and return the exit code."""
        self._hear(_REAP_S)
        with contextlib.suppress(OSError):
            if self._code is None:
                os.kill(self.pid, signal.SIGKILL)
            self._line.send(_DONE)
        self._line.close()
        return -signal.SIGKILL if self._code is None else self._code

    def _hear(self, timeout_s: float) -> None:
        if self._code is not None:
            return
        self._line.settimeout(timeout_s)
        try:
            # An end without a word is the nursery's own, which its children do not outlive.
            self._code = int(self._line.recv(_MESSAGE_BYTES) or str(-signal.SIGKILL))
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            self._code = -signal.SIGKILL


@dataclass(frozen=True)
class _Ward:
    """A child as the nursery sees it: `ended` is a descriptor that becomes readable with its end."""

    pid: int
    ended: int
    line: socket.socket


class _Server:
    """The nursery's side: one order at a time, any number of children."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._wards = line, set[_Ward]()
        self._pid = os.getpid()  # asked for before a fork: a child whose nursery is gone by then must not begin
        self._selector = selectors.DefaultSelector()
        self._selector.register(line, selectors.EVENT_READ, self._take_order)

    def serve(self) -> None:
        """Go on until the worker is gone; what was forked does not outlive this process."""
        self._line.send(b"ready")
        while True:
            for key, _events in self._selector.select():
                key.data()

    def _take_order(self) -> None:
        order, files, _flags, _address = socket.recv_fds(self._line, _MESSAGE_BYTES, 3)
        if not order:
            sys.exit(0)
        said, errors, line = files
        pid = os.fork()
        if pid == 0:
            self._become(json.loads(order), said, errors, line)
        os.close(said)
        os.close(errors)
        with contextlib.suppress(OSError):  # the child does it too: whoever comes first
            os.setpgid(pid, pid)
        ward = _Ward(pid, os.pidfd_open(pid), socket.socket(fileno=line))
        self._wards.add(ward)
        self._selector.register(ward.ended, selectors.EVENT_READ, partial(self._tell_end, ward))
        self._selector.register(ward.line, selectors.EVENT_READ, partial(self._obey, ward))
        _tell(ward, pid)

    def _tell_end(self, ward: _Ward) -> None:
        self._selector.unregister(ward.ended)
        found = os.waitid(os.P_PID, ward.pid, os.WEXITED | os.WNOWAIT)
        if found is not None:
            _tell(ward, found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)

    def _obey(self, ward: _Ward) -> None:
        said = ward.line.recv(1)
        done = said in {b"", _DONE}  # b"": the worker has no interest any more
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ward.pid, signal.SIGKILL if done else said[0])
        if done:
            os.waitpid(ward.pid, 0)
            self._forget(ward)

    def _forget(self, ward: _Ward) -> None:
        for held in (ward.ended, ward.line):
            with contextlib.suppress(KeyError):
                self._selector.unregister(held)
        os.close(ward.ended)
        ward.line.close()
        self._wards.discard(ward)

    def _become(self, order: Mapping[str, Any], said: int, errors: int, line: int) -> NoReturn:
        """Turn the forked process into the child that a command line would have started."""
        code = 1
        try:
            os.setpgid(0, 0)
            os.dup2(said, 1)
            os.dup2(errors, 2)
            self._close(said, errors, line)
            os.chdir(order["scratch"])
            os.environ.clear()  # noqa: TID251 # the child's own, as it was sent
            os.environ.update(order["env"])  # noqa: TID251 # as above
            tempfile.tempdir = None
            confinement = order["confinement"] | {"parent": self._pid}
            sandbox.main([json.dumps(confinement), "--", order["module"], order["scratch"]])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 # nothing may return into the nursery's loop
            traceback.print_exc()
        finally:
            os._exit(code)

    def _close(self, *descriptors: int) -> None:
        for ward in self._wards:
            os.close(ward.ended)
            ward.line.close()
        self._selector.close()
        self._line.close()
        for one in descriptors:
            os.close(one)


def _tell(ward: _Ward, number: int) -> None:
    with contextlib.suppress(OSError):  # the worker may have gone
        ward.line.send(str(number).encode())


def main(arguments: Sequence[str]) -> None:
    """Import, then serve the worker on the socket that it left open."""
    parent, line, *modules = arguments
    sandbox.die_with(int(parent))
    for name in modules:
        importlib.import_module(name)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit(_NOT_ONE_THREAD)
    # A library has asked for a version, so the listing of a folder that a confined child may not read is kept.
    metadata.MetadataPathFinder().invalidate_caches()
    gc.collect()
    gc.freeze()  # children then leave these pages shared
    _Server(socket.socket(fileno=int(line))).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
