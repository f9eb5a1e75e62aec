"""The one-machine stack: broker, gateway and workers under one parent and one data folder.

Hands settings over by environment variables only; imports neither the gateway nor the workers.
"""

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import FrameType

import httpx

from modelpress import broker
from modelpress.errors import ClientError, InvalidInput
from modelpress.processes import Child, Program

_START_S = 60.0  # a cold start on a slow disk; a warm one takes about 2 s
_TICK_S = 0.2
# A worker told to stop works on for 10 s, then ends its child and hands the job back; a killed one loses its lease.
_WORKER_GRACE_S = 30.0

Say = Callable[[str], None]


class StackFailed(ClientError):
    """A part of the stack does not start; the message holds its last words."""


@dataclass(frozen=True)
class StackOptions:
    """Where and how to run. Port 0 means any free one."""

    data_dir: Path
    host: str
    port: int


def up(options: StackOptions, say: Say) -> None:
    """Run until SIGINT or SIGTERM; a second one ends everything at once.

    Raises InvalidInput for a data folder or port in use, StackFailed when a part does not start.
    """
    data_dir = options.data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    with _locked(data_dir), _signals() as (stop, hurry):
        options = StackOptions(data_dir, options.host, _free_port(options.host, options.port))
        children: list[Child] = []
        try:
            _start(options, children, stop)
            if not stop.is_set():
                say(f"modelpress is ready at {address(options)}  (data in {data_dir}, Ctrl-C ends it)")
            while not stop.wait(_TICK_S):
                for child in children:
                    child.tend(say)
        finally:
            _end(children, hurry)


def address(options: StackOptions) -> str:
    """Return the address to open in a browser."""
    host = "127.0.0.1" if options.host in {"0.0.0.0", "::", ""} else options.host  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{options.port}" if ":" in host else f"http://{host}:{options.port}"


def _start(options: StackOptions, children: list[Child], stop: Event) -> None:
    """Start in order of need: broker, gateway (which prepares the database), workers."""
    env = _environment(options)
    if "BROKER_URL" not in env:
        socket_address = broker.socket_path(options.data_dir)
        env["BROKER_URL"] = broker.url(socket_address)
        command = broker.command(options.data_dir, socket_address)
        children.append(Child(_program("broker", command, env, options)))
        _await(lambda: broker.answers(socket_address), children[-1], stop)
    children.append(Child(_program("gateway", [sys.executable, "-m", "app.main"], env, options)))
    _await(lambda: _is_ready(address(options)), children[-1], stop)
    children.extend(Child(program) for program in _workers(env, options))


def _workers(env: Mapping[str, str], options: StackOptions) -> list[Program]:
    """One worker for jobs, one for checks so that an upload's verdict never waits for a job, and the sweeper.

    What is pulled from elsewhere waits for its source more than it works, so it goes with the checks.
    """
    python = [sys.executable, "-m"]
    roles = {
        "worker": [*python, "workers.main", "--queues", "cpu"],
        "checks": [*python, "workers.main", "--queues", "checks,egress", "--concurrency", "2"],
        "sweeper": [*python, "workers.sweeper"],
    }
    own = {"checks": _with_next_metrics_port(env)}
    return [_program(name, command, own.get(name, env), options, _WORKER_GRACE_S) for name, command in roles.items()]


def _with_next_metrics_port(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a second worker on this machine, whose figures need a port of their own."""
    port = env.get("MODELPRESS_METRICS_PORT", "")
    return {**env, "MODELPRESS_METRICS_PORT": str(int(port) + 1)} if port.isdecimal() and int(port) else env


def _program(
    name: str, command: list[str], env: Mapping[str, str], options: StackOptions, grace_s: float = 10.0
) -> Program:
    return Program(name, command, env, options.data_dir / "logs" / f"{name}.log", grace_s)


def _environment(options: StackOptions) -> dict[str, str]:
    """Return this process's environment with the stack's own settings on top."""
    return {
        **os.environ,  # noqa: TID251  # handed on, not read
        "MODELPRESS_DATA_DIR": str(options.data_dir),
        "MODELPRESS_HOST": options.host,
        "MODELPRESS_PORT": str(options.port),
        "PYTHONUNBUFFERED": "1",
    }


def _await(ready: Callable[[], bool], child: Child, stop: Event) -> None:
    deadline = time.monotonic() + _START_S
    while not stop.is_set() and not ready():
        if not child.running:
            raise StackFailed(f"the {child.program.name} does not start:\n{child.last_words()}")
        if time.monotonic() > deadline:
            raise StackFailed(f"the {child.program.name} is not ready after {_START_S:g} s:\n{child.last_words()}")
        stop.wait(0.05)


def _is_ready(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/readyz", timeout=5.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _end(children: list[Child], hurry: Event) -> None:
    """End in order: no new requests, then the workers, the broker last."""
    gateways = [child for child in children if child.program.name == "gateway"]
    brokers = [child for child in children if child.program.name == "broker"]
    workers = [child for child in children if child not in gateways and child not in brokers]
    for child in workers:  # all workers have their grace at the same time
        child.ask_to_stop()
    for child in [*gateways, *workers, *brokers]:
        child.stop(hurry)


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data folder: two parents on one folder would run every job twice."""
    with (data_dir / "stack.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            raise InvalidInput(
                f"another `modelpress up` (process {holder}) runs on {data_dir}; end it, or pass another --data"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _signals() -> Iterator[tuple[Event, Event]]:
    """Yield what the first and the second SIGINT or SIGTERM set."""
    stop, hurry = Event(), Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        (hurry if stop.is_set() else stop).set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, hurry
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0. Raises InvalidInput when it is taken or may not be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidInput(
                f"cannot listen on {host}:{port} ({error.strerror}); pass another --port, or 0 for a free one"
            ) from error
        return int(probe.getsockname()[1])
