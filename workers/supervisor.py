"""Watches one child from its order to its answer: time, cancel, lost lease, drain, death. Stores nothing itself."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import structlog
from pydantic import ValidationError

from app.contracts.tasks import (
    MESSAGE,
    BenchmarkOrder,
    CheckDatasetOrder,
    CheckModelOrder,
    CompressOrder,
    Done,
    Failed,
    Kept,
    Order,
    Progress,
    Queue,
    SurveyOrder,
)
from app.errors import LimitReached, ModelpressError, RuntimeCrashed, ServiceFault, TimeLimitExceeded
from app.logging import printable
from app.problems import problem_of
from app.settings import Settings
from workers import memory
from workers.child import Child, Process, Program, Spawned, TooTalkative, environment
from workers.figures import Attempt, Figures
from workers.heartbeat import Heartbeat
from workers.nursery import Nursery
from workers.sandbox import EXIT_UNCONFINED, Confinement
from workers.spans import Stages

_LOOK_S = 0.2
_SETTLE_S = 10.0  # from the answer to the exit
_GPU = Path("/dev/nvidiactl")
_CRASHES = {signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}

log = structlog.get_logger(__name__)
Keep = Callable[[Kept], None]


def _keep_nothing(_left: Kept) -> None:
    return


class End(StrEnum):
    """How an attempt ended without an answer of its child's."""

    CANCELLED = "cancelled"
    DISPLACED = "displaced"  # the lease is somebody else's: write nothing
    DRAINED = "drained"  # this worker has to stop: the work goes back to the queue, uncounted
    LOST = "lost"  # the child was killed from outside: counted, and tried again


@dataclass(frozen=True)
class Rules:
    """What holds for every attempt of this worker process."""

    settings: Settings
    program: Program
    drain: threading.Event
    nurseries: Mapping[Queue, Nursery] = field(default_factory=dict)  # without one, a child is started from nothing
    figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True)
class _Exit:
    """What an attempt comes to, and by which cause, as the figures have it, its child ended."""

    outcome: Done | Failed | End
    cause: str


def supervise(
    rules: Rules, order: Order, folder: Path, max_run_s: int, pulse: Heartbeat, keep: Keep = _keep_nothing
) -> Done | Failed | End:
    """Run the order in a confined child and return its answer, or how it ended without one.

    `keep` hears of each checkpoint, and of one that the child leaves when it is told to stop.
    """
    attempt, stages = rules.figures.attempt(pulse.queue), Stages(pulse.span, order.kind)
    left = _supervise(rules, order, folder, max_run_s, _Ear(pulse, keep, attempt, stages))
    attempt.ends(left.cause)
    stages.end(left.cause)
    return left.outcome


def _supervise(rules: Rules, order: Order, folder: Path, max_run_s: int, ear: "_Ear") -> _Exit:
    (folder / "order.json").write_text(order.model_dump_json(), encoding="utf-8")
    settings, gpu = rules.settings, _wants_gpu(order)
    confinement = Confinement(
        scratch=str(folder),
        parent=os.getpid(),
        memory_bytes=settings.child_memory_bytes,
        cpu_s=(max_run_s + 60) * max(settings.threads, os.cpu_count() or 1),
        file_bytes=settings.child_file_bytes,
        gpu=gpu,
        require=settings.sandbox_floor,
        readable=tuple(str(path) for path in rules.program.import_path),
    )
    kills = memory.kills()
    with Child(_start(rules, order, folder, confinement), folder) as child:
        log.info("child started", pid=child.pid, kind=order.kind)
        seen = _watch(rules, child, ear, max_run_s)
        if seen is not None:
            child.stop(settings.kill_grace_s)
            _hear_last(child, ear)
            if isinstance(seen.outcome, Failed):
                log.info("child failed", problem=seen.outcome.problem.name, stderr=child.last_words())
            return seen
        child.wait(_SETTLE_S)
        return _autopsy(child, child.stop(settings.kill_grace_s), settings, kills)


def _start(rules: Rules, order: Order, folder: Path, confinement: Confinement) -> Process:
    env = environment(folder, rules.settings.threads, rules.program, gpu=confinement.gpu)
    checks = isinstance(order, CheckModelOrder | CheckDatasetOrder)
    nursery = rules.nurseries.get(Queue.CHECKS if checks else Queue.CPU)
    if nursery is not None and not confinement.gpu:
        forked = nursery.fork(rules.program.module, folder, confinement, env)
        if forked is not None:
            return forked
        log.warning("no warm child to be had")
    return Spawned(confinement.command(rules.program.module, str(folder)), folder, env)


def _wants_gpu(order: Order) -> bool:
    if isinstance(order, CompressOrder | SurveyOrder):
        wanted = order.device != "cpu"
    else:
        wanted = isinstance(order, BenchmarkOrder) and order.spec.provider == "cuda"
    return wanted and _GPU.exists()


def _watch(rules: Rules, child: Child, ear: "_Ear", max_run_s: int) -> _Exit | None:
    """Return with the answer, with the reason to stop, or with None when the child fell silent for good."""
    pulse = ear.pulse
    deadline, drain_until = time.monotonic() + max_run_s, None
    while not child.ended:
        try:
            for line in child.lines(_LOOK_S):
                answer = ear.hear(line)
                if answer is not None:
                    child.wait(_SETTLE_S)
                    return _Exit(answer, "ok" if isinstance(answer, Done) else "failed")
        except TooTalkative:
            return _failed(RuntimeCrashed("The compute child wrote without end."), "talkative")
        if pulse.displaced:
            return _Exit(End.DISPLACED, "displaced")
        if pulse.cancelled:
            return _Exit(End.CANCELLED, "cancelled")
        if time.monotonic() > deadline:
            return _failed(TimeLimitExceeded(f"The work ran longer than its limit of {max_run_s} s."), "deadline")
        if rules.drain.is_set():
            drain_until = drain_until or time.monotonic() + rules.settings.drain_s
            if time.monotonic() > drain_until:
                return _Exit(End.DRAINED, "drained")
    return None


@dataclass(frozen=True)
class _Ear:
    """Where the child's lines go."""

    pulse: Heartbeat
    keep: Keep
    attempt: Attempt
    stages: Stages

    def hear(self, line: bytes) -> Done | Failed | None:
        """Pass on what is on the way; return the answer if the line is one. Lines that are no message are dropped."""
        try:
            said = MESSAGE.validate_json(line)
        except ValidationError:
            _hear_level(line, self.pulse)
            return None
        if isinstance(said, Done | Failed):
            return said
        if isinstance(said, Kept):
            self.keep(said)
        else:
            self.pulse.note(said)
        if isinstance(said, Progress):
            self.attempt.enters(said.stage)
            self.stages.hear(said)
        return None


def _hear_last(child: Child, ear: _Ear) -> None:
    """Hear what the child said while it was stopped; an answer comes too late by then."""
    with suppress(TooTalkative):
        while not child.ended:
            for line in child.lines(0):
                ear.hear(line)


def _hear_level(line: bytes, pulse: Heartbeat) -> None:
    try:
        level = json.loads(line)["sandbox"]
    except (ValueError, KeyError, TypeError, RecursionError):
        log.warning("line dropped", line=printable(line[:200].decode("utf-8", "replace")))
        return
    pulse.note_sandbox(str(level))


def _autopsy(child: Child, code: int, settings: Settings, kills: int) -> _Exit:
    """Tell why a child died without an answer."""
    words = child.last_words()
    log.warning("child died without an answer", code=code, resident_bytes=child.resident_bytes, stderr=words)
    if code == EXIT_UNCONFINED:
        fault = ServiceFault("This worker cannot confine the compute child as its settings demand.")
        return _failed(fault, "unconfined")
    if code == -signal.SIGXCPU:
        return _failed(TimeLimitExceeded("The work used up its processor time."), "processor time")
    if "bad_alloc" in words or memory.was_the_cause(code, child.resident_bytes, settings.child_memory_bytes, kills):
        return _failed(LimitReached("The work needed more memory than this worker has."), "memory")
    if -code in _CRASHES:
        name = signal.Signals(-code).name
        return _failed(RuntimeCrashed(f"The runtime crashed with {name} on this model or data."), name)
    if code < 0:
        return _Exit(End.LOST, _name_of(-code))
    return _failed(ServiceFault("The compute child ended without an answer."), "silent")


def _name_of(number: int) -> str:
    """Return the signal's name; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal"


def _failed(error: ModelpressError, cause: str) -> _Exit:
    return _Exit(Failed(problem=problem_of(error)), cause)
