"""k-means of short vectors of which parts may be unknown. Knows no graph."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Double = NDArray[np.float64]

# Iterations on a sample, whose cost does not grow with the number of vectors, then on all of them.
_SAMPLE, _SAMPLED_ITERATIONS, _ITERATIONS = 32_768, 25, 2
_TOGETHER = 16_384  # vectors compared with every centroid at once: 34 MB at 256 centroids


def cluster_vectors(
    vectors: Float, known: NDArray[np.bool_], clusters: int, seed: int
) -> tuple[Double, NDArray[np.intp]]:
    """Return centroids, (at most `clusters`, length), and the centroid that is nearest to each vector.

    Both arrays are (vectors, length); values that are not `known` count nowhere. Starts are drawn by distance
    (k-means++, 2007). Same arguments, same centroids.
    """
    random = np.random.default_rng(seed)
    values, weights = np.where(known, vectors, 0).astype(np.float64), known.astype(np.float64)
    chosen = np.arange(len(values)) if len(values) <= _SAMPLE else random.integers(0, len(values), _SAMPLE)
    centroids = _spread(values[chosen], weights[chosen], clusters, random)
    for _ in range(_SAMPLED_ITERATIONS):
        centroids = _moved(values[chosen], weights[chosen], centroids)
    for _ in range(_ITERATIONS):
        centroids = _moved(values, weights, centroids)
    used, places = np.unique(_nearest(values, weights, centroids), return_inverse=True)
    return centroids[used], places.reshape(-1)


def _spread(values: Double, weights: Double, clusters: int, random: np.random.Generator) -> Double:
    chosen = [values[random.integers(len(values))]]
    distances = _distances(values, weights, chosen[0])
    while len(chosen) < clusters and (total := distances.sum()) > 0:
        place = np.searchsorted(np.cumsum(distances), random.random() * total, side="right")
        chosen.append(values[min(int(place), len(values) - 1)])
        distances = np.minimum(distances, _distances(values, weights, chosen[-1]))
    return np.stack(chosen)


def _distances(values: Double, weights: Double, centroid: Double) -> Double:
    squares: Double = (weights * (values - centroid) ** 2).sum(axis=1)
    return squares


def _moved(values: Double, weights: Double, centroids: Double) -> Double:
    """Return the mean of what is known of each cluster's vectors; a centroid stays where that is nothing."""
    places, count = _nearest(values, weights, centroids), len(centroids)
    columns = range(values.shape[1])
    totals = np.stack([np.bincount(places, values[:, column], count) for column in columns], axis=1)
    counts = np.stack([np.bincount(places, weights[:, column], count) for column in columns], axis=1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), centroids)


def _nearest(values: Double, weights: Double, centroids: Double) -> NDArray[np.intp]:
    places = np.empty(len(values), np.intp)
    for start in range(0, len(values), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        # |x - c|² without |x|², which is the same for every centroid.
        scores = weights[part] @ np.square(centroids).T - 2 * (values[part] @ centroids.T)
        places[part] = scores.argmin(axis=1)
    return places
