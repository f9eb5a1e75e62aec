"""How far values lie from what they were. Knows arrays alone."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]


def snr_db(pairs: Iterable[tuple[Float, Float]]) -> float:
    """Return the signal-to-noise ratio of all (before, after) together in decibels.

    Infinite where nothing moved, minus infinite where there was no signal.
    """
    signal = noise = 0.0
    for before, after in pairs:
        signal += float(np.square(before, dtype=np.float64).sum())
        noise += float(np.square(before.astype(np.float64) - after).sum())
    if not noise or not signal:
        return math.inf if not noise else -math.inf
    return 10 * math.log10(signal / noise)


def cosine(before: Float, after: Float) -> float:
    """Return the cosine of the angle between two tensors of one shape: 1 where they are equal, 0 where one is zero."""
    if np.array_equal(before, after):
        return 1.0
    one, other = (values.astype(np.float64).ravel() for values in (before, after))
    # Each is divided by its largest magnitude, so that squares of values at the edge of the type are still numbers.
    one, other = (values / (np.abs(values).max(initial=0) or 1.0) for values in (one, other))
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip(one @ other / norms, -1.0, 1.0)) if norms else 0.0
