"""Codebooks of single weights or of sub-vectors, for a tensor or for each of its blocks. Knows no graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.share_weights import ShareWeights
from workers.compute.graph.clustering import assign, cluster
from workers.compute.graph.constraints import Codebook
from workers.compute.graph.vector_clustering import cluster_vectors

Float = NDArray[np.floating]
Truths = NDArray[np.bool_]
_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True)
class Layout:
    """What shares a codebook: `rows` of the output `axis` (None: all), in runs of `dimension` along the other axes."""

    axis: int
    rows: int | None
    dimension: int

    def matrix(self, values: NDArray[_Kind]) -> NDArray[_Kind]:
        """Return the values as (outputs, inputs)."""
        return np.moveaxis(values, self.axis, 0).reshape(values.shape[self.axis], -1)

    def restored(self, matrix: NDArray[_Kind], shape: tuple[int, ...]) -> NDArray[_Kind]:
        """Return a matrix in the shape that it came from."""
        rest = tuple(size for axis, size in enumerate(shape) if axis != self.axis)
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape[self.axis], *rest), 0, self.axis))

    def blocks(self, outputs: int) -> Iterator[slice]:
        """Yield the rows of each codebook."""
        step = self.rows or outputs
        yield from (slice(start, start + step) for start in range(0, outputs, step))


def share(values: Float, zeros: Truths, layout: Layout, spec: ShareWeights, seed: int) -> tuple[Codebook, Float]:
    """Return the codebook and the values that it makes; where `zeros` is True is a cluster of its own."""
    matrix, pruned = layout.matrix(values), layout.matrix(zeros)
    numbers, found, total = np.zeros(matrix.shape, np.int32), list[Float](), 0
    for rows in layout.blocks(len(matrix)):
        numbers[rows], table = _codebook(matrix[rows], pruned[rows], layout.dimension, spec, seed)
        numbers[rows] += total
        total += table.size
        found.append(table)
    zero = total if zeros.any() else None
    table = np.concatenate([*found, np.zeros(0 if zero is None else 1, values.dtype)])
    numbers[pruned] = total
    few: NDArray[np.integer] = numbers.astype(np.uint8) if table.size <= np.iinfo(np.uint8).max + 1 else numbers
    indices = layout.restored(few, values.shape)
    return Codebook(indices, int(table.size), zero), table[indices]


def _codebook(
    matrix: Float, pruned: Truths, dimension: int, spec: ShareWeights, seed: int
) -> tuple[NDArray[np.integer], Float]:
    """Return each weight's place in a flat table, and the table, of one block; pruned weights have no place in it."""
    rest = matrix[~pruned]
    if not rest.size:
        return np.zeros(matrix.shape, np.int32), np.zeros(0, matrix.dtype)
    while matrix.shape[1] % dimension:
        dimension //= 2
    if dimension == 1:
        table = cluster(rest, max(1, spec.clusters - bool(pruned.any())), spec.init, seed)
        return assign(matrix, table), table
    vectors, known = matrix.reshape(-1, dimension), ~pruned.reshape(-1, dimension)
    centroids, places = cluster_vectors(vectors, known, spec.clusters, seed)
    slots = places[:, None] * dimension + np.arange(dimension)
    return slots.reshape(matrix.shape), centroids.astype(matrix.dtype).reshape(-1)
