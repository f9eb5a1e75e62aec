"""k-means in one dimension: exact sums by sorting once, so millions of weights take a second. Knows no graph."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Init = Literal["linear", "density", "kmeans++"]

# Lloyd's iterations until centroids rest; each costs k binary searches, whatever the number of weights.
_MAX_ITERATIONS = 300
# k-means++ draws from a sample: its cost grows with weights times clusters, and seeds need no more.
_SAMPLE = 65_536


def cluster(values: Float, clusters: int, init: Init, seed: int) -> Float:
    """Return at most `clusters` distinct centroids of the flat `values`, ascending, in their type.

    Centroids that no value is nearest to are left out. Same arguments, same centroids.
    """
    ordered = np.sort(values.reshape(-1)).astype(np.float64)
    sums = np.concatenate([np.zeros(1), np.cumsum(ordered)])
    centroids = np.unique(_first(ordered, clusters, init, seed))
    for _ in range(_MAX_ITERATIONS):
        edges = np.concatenate([[0], np.searchsorted(ordered, _middles(centroids), side="right"), [ordered.size]])
        counts = np.diff(edges)
        moved = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    centroids = np.unique(centroids.astype(values.dtype))
    used = np.bincount(assign(ordered.astype(values.dtype), centroids), minlength=centroids.size)
    return centroids[used > 0]


def assign(values: Float, centroids: Float) -> NDArray[np.intp]:
    """Return the index of the centroid nearest to each value; `centroids` ascending."""
    return np.searchsorted(_middles(centroids), values, side="left")


def _middles(centroids: Float) -> Float:
    return (centroids[1:] + centroids[:-1]) / 2


def _first(ordered: Float, clusters: int, init: Init, seed: int) -> Float:
    if init == "linear":
        return np.linspace(ordered[0], ordered[-1], clusters)
    if init == "density":
        places = (np.arange(clusters) + 0.5) / clusters * ordered.size
        return ordered[places.astype(np.intp)]
    return _spread(ordered, clusters, np.random.default_rng(seed))


def _spread(ordered: Float, clusters: int, random: np.random.Generator) -> Float:
    """Draw each centroid with a chance in proportion to the squared distance to the nearest one (k-means++, 2007)."""
    sample = ordered if ordered.size <= _SAMPLE else ordered[random.integers(0, ordered.size, _SAMPLE)]
    chosen = [sample[random.integers(sample.size)]]
    distances = (sample - chosen[0]) ** 2
    while len(chosen) < clusters and (total := distances.sum()) > 0:
        place = np.searchsorted(np.cumsum(distances), random.random() * total, side="right")
        chosen.append(sample[min(int(place), sample.size - 1)])
        distances = np.minimum(distances, (sample - chosen[-1]) ** 2)
    return np.asarray(chosen)
