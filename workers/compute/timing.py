"""Time two sessions against each other in one run, in short turns, so that noise meets both alike."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

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
FEWEST_TURNS, MOST_TURNS = 3, 250


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

    def turn_ms(self, turn: int) -> list[float]:
        """Settle, then return the milliseconds of each call of one turn."""
        settled, spent = 0, 0.0
        while settled < SETTLING_CALLS or spent < SETTLING_MS:
            spent += self.call_ms(settled)
            settled += 1
        return [self.call_ms(turn * TURN_CALLS + call) for call in range(TURN_CALLS)]


@dataclass(frozen=True)
class Setting:
    """What one race is about."""

    batch_size: int
    threads: int
    provider: Provider = "cpu"
    seed: int = 0


def race(candidate: Racer, original: Racer, setting: Setting, seconds: float) -> tuple[Latency, Latency]:
    """Return both latencies; the candidate's carries the ratio original / candidate with its interval.

    Turns alternate, and who goes first alternates too. Ends after `seconds`, but not before 3 turns of each.
    """
    times: tuple[list[list[float]], list[list[float]]] = ([], [])
    racers = (candidate, original)
    with translated("run"):
        for call in range(WARM_UP_CALLS):
            for racer in racers:
                racer.call_ms(call)
        end = time.perf_counter() + seconds
        while len(times[0]) < FEWEST_TURNS or (time.perf_counter() < end and len(times[0]) < MOST_TURNS):
            turn = len(times[0])
            for place in (0, 1) if turn % 2 else (1, 0):
                times[place].append(racers[place].turn_ms(turn))
    ours, theirs = np.array(times[0]), np.array(times[1])
    ratio = ratio_of_medians(theirs, ours, setting.seed)
    return _latency(ours.ravel(), setting, ratio), _latency(theirs.ravel(), setting, None)


def _latency(times: NDArray[np.float64], setting: Setting, ratio: Estimate | None) -> Latency:
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return Latency(
        batch_size=setting.batch_size,
        threads=setting.threads,
        provider=setting.provider,
        calls=len(times),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        throughput_per_s=setting.batch_size * 1000 / float(p50),
        ratio=ratio,
    )
