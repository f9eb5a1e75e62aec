"""A learning rate that nobody has to set: each rate of a short ladder trains a copy, and the best one is taken.

After the range test of Smith (2017, arXiv 1506.01186), which raises the rate within one run. Here every rate begins at
the state that the training begins at, since a damaged model is far from where it ends. Knows no loop and no technique.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
# What a training gets that is too short to try anything.
FIXED = 5e-4
# All trials together take at most this share of the planned steps, each of them as many steps as can tell rates apart.
_SHARE, _LEAST, _MOST = 0.15, 8, 40
# A loss this many times the least one ends the climb: higher rates only get worse.
_WORSE = 1.5
# Losses this share above the least count as equal.
_MARGIN = 0.05
# Of the largest rate that is as good as the best: what a few steps bear is more than what a whole training gains by.
CAUTION = 0.5


@dataclass(frozen=True)
class Found:
    """A rate, and how it came about."""

    rate: float
    note: str


def trial_steps(planned: int) -> int:
    """Return the steps of each trial, 0 where the training is too short for any."""
    steps = int(_SHARE * planned / len(LADDER))
    return 0 if steps < _LEAST else min(steps, _MOST)


@contextmanager
def undisturbed(device: str, guide: nn.Module | None) -> Iterator[None]:
    """Put random numbers and the guide's projections back to what they were."""
    state = {name: value.clone() for name, value in guide.state_dict().items()} if guide is not None else {}
    with torch.random.fork_rng([torch.device(device)] if device.startswith("cuda") else []):
        try:
            yield
        finally:
            if guide is not None:
                guide.load_state_dict(state)


def find_rate(planned: int, trial: Callable[[float, int], float]) -> Found:
    """Return the best rate for a training of `planned` steps.

    `trial` trains a copy at a rate for some steps and returns its loss on held-out rows, infinite if it diverged.
    """
    steps = trial_steps(planned)
    if not steps:
        return Found(FIXED, f"learning rate {FIXED:g}: {planned} steps are too few for a range test")
    losses: list[float] = []
    for rate in LADDER:
        losses.append(trial(rate, steps))
        if not losses[-1] <= _WORSE * min(losses):
            break
    rate = CAUTION * chosen(losses)
    tried = f"{LADDER[0]:g} to {LADDER[len(losses) - 1]:g}"
    return Found(rate, f"learning rate {rate:g}, found by a range test over {tried} ({steps} steps each)")


def chosen(losses: Sequence[float]) -> float:
    """Return the largest rate whose loss is about as small as the least; `losses` go up the ladder."""
    best = min(losses)
    as_good = (rate for rate, loss in zip(LADDER, losses, strict=False) if loss <= (1 + _MARGIN) * best < math.inf)
    return max(as_good, default=LADDER[0])
