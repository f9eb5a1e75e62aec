"""Values scale · (number - zero) with one scale for each group of weights. Arrays in and out; knows no graph."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.compute.graph.precision import short

Float = NDArray[np.floating]

# Shares of the range that are tried: cutting the largest values off makes the steps between all others finer. Beyond 1
# for zero points, whose rounding would else cut one end of the range.
_SHARES = np.linspace(1.1, 0.6, 21)


@dataclass(frozen=True)
class Steps:
    """`scale` and `zero` have the rank of the view and size 1 along its groups; numbers lie in [low, high].

    A scale of 11 bits times a number of 5 is exact in float32, whatever computes it.
    """

    scale: Float
    zero: NDArray[np.int16]
    low: int
    high: int

    def nearest(self, view: Float) -> Float:
        """Return the value on the grid nearest to each, +0.0 for zero; same shape and type."""
        zero = self.zero.astype(view.dtype)
        numbers = np.clip(np.rint(view / self.scale) + zero, self.low, self.high)
        return np.asarray((numbers - zero) * self.scale, view.dtype)


def fit(view: Float, axes: tuple[int, ...], bits: int, *, symmetric: bool) -> Steps:
    """Return the steps of least squared error, among several shares of each group's range; groups span `axes`."""
    best, least = None, None
    for steps in _candidates(view, axes, bits, symmetric=symmetric):
        error = np.square(view - steps.nearest(view), dtype=np.float64).sum(axis=axes, keepdims=True)
        if best is None or least is None:
            best, least = steps, error
            continue
        better = error < least
        scale, zero = np.where(better, steps.scale, best.scale), np.where(better, steps.zero, best.zero)
        best, least = Steps(scale, zero, best.low, best.high), np.where(better, error, least)
    if best is None:
        msg = "no share of the range was tried"
        raise ValueError(msg)
    return best


def _candidates(view: Float, axes: tuple[int, ...], bits: int, *, symmetric: bool) -> Iterator[Steps]:
    numbers = 2**bits
    if symmetric:
        largest = np.abs(view).max(axis=axes, keepdims=True)
        for share in _SHARES:
            scale = _short(share * largest / (numbers // 2 - 1))
            yield Steps(scale, np.zeros(scale.shape, np.int16), -numbers // 2, numbers // 2 - 1)
        return
    least = np.minimum(view.min(axis=axes, keepdims=True), 0)
    span = np.maximum(view.max(axis=axes, keepdims=True), 0) - least
    for share in _SHARES:
        scale = _short(share * span / (numbers - 1))
        zero = np.clip(np.rint(-share * least / scale), 0, numbers - 1).astype(np.int16)
        yield Steps(scale, zero, 0, numbers - 1)


def _short(scale: Float) -> NDArray[np.float32]:
    """Return the scales rounded to few digits; 1 for a group of zeros."""
    found = short(scale)
    # Below the smallest normal number a scale would lose its digits or be zero; such weights become zero.
    return np.where(found > np.finfo(np.float32).tiny, found, np.float32(1))
