"""Weights of one magnitude per channel and their signs: {-a, 0, a} or {-a, a}. Arrays in and out; knows no graph."""

import numpy as np
from numpy.typing import NDArray

from workers.compute.graph.precision import short

Float = NDArray[np.floating]
Kept = NDArray[np.bool_]


def others(rank: int, axis: int | None) -> tuple[int, ...]:
    """Return the axes that share one magnitude: all but the channels' (None: one magnitude for the tensor)."""
    return tuple(place for place in range(rank) if place != axis)


def magnitudes(values: Float, axis: int | None) -> Float:
    """Return the largest |value| of each channel, its other axes kept as 1."""
    return np.asarray(np.abs(values).max(axis=others(values.ndim, axis), keepdims=True))


def nearest(values: Float, axis: int | None, kept: Kept, threshold: float | None) -> Float:
    """Return ±a or 0 for each value, +0.0 where `kept` is False; same shape and type.

    With a threshold, what lies at or below threshold · mean|w| of its channel becomes 0, and a is the mean |w| of the
    rest (Li & Liu, 2016); without one nothing does, and a is the mean |w| (Rastegari et al., 2016). Both to the digits
    of half precision.
    """
    sizes = np.abs(values)
    shown = kept
    if threshold is not None:
        shown = kept & (sizes > (threshold * _mean(sizes, kept, axis)).astype(values.dtype))
    scale = short(_mean(sizes, shown, axis)).astype(values.dtype)
    return np.where(shown, np.copysign(scale, values), np.zeros((), values.dtype))


def _mean(sizes: Float, shown: Kept, axis: int | None) -> NDArray[np.float64]:
    axes = others(sizes.ndim, axis)
    totals = np.where(shown, sizes, 0).sum(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray(totals / np.maximum(shown.sum(axis=axes, keepdims=True), 1))
