"""Time two sessions against each other in one run, in short turns, so that noise meets both alike."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.contracts.report import Estimate, Latency, Provider
from workers.compute.feeds import Feed
from workers.compute.intervals import ratio_of_medians
from workers.compute.runtime import translated

WARM_UP_CALLS = 3
# A turn: calls that count, after some that do not. Those give the caches back to the session, and let the threads of
# the other one fall asleep: they spin for a while, as in production.
TURN_CALLS, SETTLING_CALLS, SETTLING_MS = 8, 2, 5.0
FEWEST_TURNS, ENOUGH_TURNS, MOST_TURNS = 3, 20, 250
# A call is disturbed when this process's threads stood ready, but without a processor, for more than this share of it:
# 0.3 ms on two threads become 10 ms once another process holds a core. A busy machine gets twice the time.
DISTURBED_SHARE, PATIENCE = 0.1, 2
_THREADS = Path("/proc/self/task")


@dataclass(frozen=True)
class Racer:
    """A session and the batches that it is fed in turn."""

    session: ort.InferenceSession
    feeds: Sequence[Feed]

    def call_ms(self, turn: int) -> float:
        """Run one batch, inputs and outputs copied as a caller would, and return its milliseconds."""
        feed = self.feeds[turn % len(self.feeds)]
        start = time.perf_counter_ns()
        self.session.run(None, feed)
        return (time.perf_counter_ns() - start) / 1e6

    def take_turn(self, turn: int) -> list[tuple[float, float]]:
        """Settle, then return for each call of one turn its milliseconds and those that it waited for a processor."""
        settled, spent = 0, 0.0
        while settled < SETTLING_CALLS or spent < SETTLING_MS:
            spent += self.call_ms(settled)
            settled += 1
        return [self._watched_ms(turn * TURN_CALLS + call) for call in range(TURN_CALLS)]

    def _watched_ms(self, turn: int) -> tuple[float, float]:
        before = waiting_ms()
        return self.call_ms(turn), waiting_ms() - before


@dataclass(frozen=True)
class Setting:
    """What one race is about."""

    batch_size: int
    threads: int
    provider: Provider = "cpu"
    seed: int = 0


def race(candidate: Racer, original: Racer, setting: Setting, seconds: float) -> tuple[Latency, Latency]:
    """Return both latencies; the candidate's carries the ratio original / candidate with its interval.

    Turns alternate, and who goes first alternates too. Ends after `seconds`, but not before 3 turns of each. Calls that
    other processes disturbed are left out if enough remain; `disturbed` is their share.
    """
    turns: list[list[list[tuple[float, float]]]] = []
    racers = (candidate, original)
    with translated("run"):
        for call in range(WARM_UP_CALLS):
            for racer in racers:
                racer.call_ms(call)
        started = time.perf_counter()
        while not _enough(turns, time.perf_counter() - started, seconds):
            order = (0, 1) if len(turns) % 2 else (1, 0)
            taken = {place: racers[place].take_turn(len(turns)) for place in order}
            turns.append([taken[0], taken[1]])
    times, quiet = _watched(turns)
    disturbed = 1 - float(quiet.mean())
    kept = _undisturbed(quiet)
    if kept.sum() >= FEWEST_TURNS:
        times = np.where(quiet, times, np.nan)[kept]
    ours, theirs = times[:, 0], times[:, 1]
    ratio = ratio_of_medians(theirs, ours, setting.seed)
    return _latency(ours, setting, disturbed, ratio), _latency(theirs, setting, disturbed, None)


def waiting_ms() -> float:
    """Return how long this process's threads have waited for a processor so far; 0 where the system does not tell.

    The second figure of `/proc/<pid>/task/<tid>/schedstat` (Documentation/scheduler/sched-stats.rst of Linux).
    """
    waited = 0
    for thread in _THREADS.glob("*/schedstat"):
        try:
            waited += int(thread.read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return waited / 1e6


def _watched(turns: list[list[list[tuple[float, float]]]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return times (turns, 2, calls) in milliseconds, and whether each call was undisturbed."""
    times, waits = np.moveaxis(np.array(turns), -1, 0)
    return times, waits <= DISTURBED_SHARE * times


def _undisturbed(quiet: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (turns,): whether both sides have at least one undisturbed call."""
    kept: NDArray[np.bool_] = quiet.any(axis=2).min(axis=1)
    return kept


def _enough(turns: list[list[list[tuple[float, float]]]], spent: float, seconds: float) -> bool:
    """Return whether to stop after `spent` seconds: later while too few turns were undisturbed."""
    if len(turns) < FEWEST_TURNS:
        return False
    if len(turns) >= MOST_TURNS or spent >= PATIENCE * seconds:
        return True
    return spent >= seconds and _undisturbed(_watched(turns)[1]).sum() >= ENOUGH_TURNS


def _latency(times: NDArray[np.float64], setting: Setting, disturbed: float, ratio: Estimate | None) -> Latency:
    p50, p95, p99 = np.nanpercentile(times, (50, 95, 99))
    return Latency(
        batch_size=setting.batch_size,
        threads=setting.threads,
        provider=setting.provider,
        calls=int(np.isfinite(times).sum()),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        throughput_per_s=setting.batch_size * 1000 / float(p50),
        ratio=ratio,
        disturbed=disturbed,
    )
