"""What values a weight tensor may take, as plain data that travels with the model.

A tensor has at most one constraint; a technique that adds to one replaces it by the combination (zeros inside a
codebook are a cluster fixed at zero). Training goes through it (`autograd.parametrization`), the runner checks it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workers.compute.graph import signs
from workers.compute.graph.grids import Steps

Float = NDArray[np.floating]

# The largest numbers of the shorter types: (2 - 2^-10) · 2^15 and (2 - 2^-7) · 2^127.
_LARGEST = {"float16": 65504.0, "bfloat16": float.fromhex("0x1.fep127")}


class Constraint(Protocol):
    """A promise about one tensor's values."""

    @property
    def kind(self) -> str:
        """The promise's name in reports."""

    def holds(self, value: Float) -> bool:
        """Whether `value` (the tensor's shape) keeps the promise."""

    def project(self, value: Float) -> Float:
        """Return the nearest value that keeps the promise, same shape and dtype."""


@dataclass(frozen=True)
class Mask:
    """Zeros stay zero. `kept` has the tensor's shape; False marks a pruned weight."""

    kept: NDArray[np.bool_]
    kind: str = "zeros"

    def holds(self, value: Float) -> bool:
        """Whether every pruned weight is exactly zero."""
        return not np.any(value[~self.kept])

    def project(self, value: Float) -> Float:
        """Set the pruned weights to zero."""
        return np.where(self.kept, value, np.zeros((), value.dtype))


@dataclass(frozen=True)
class Codebook:
    """Weights of one cluster share one value. `indices` (the tensor's shape) names each weight's cluster.

    Where blocks have codebooks of their own, each value of each is a cluster; where sub-vectors are shared (product
    quantisation), so is each place in each of them. Whatever weights go, the others still share as they did.
    `zero` is the cluster that holds pruned weights and stays at 0.0, if any. While training also decides which weights
    share, `latent` are the weights behind: each belongs to the nearest value.
    """

    indices: NDArray[np.integer]
    clusters: int
    zero: int | None = None
    kind: str = "shared"
    latent: Float | None = None

    def centroids(self, value: Float) -> Float:
        """Return the mean of each cluster's weights, shape (clusters,); an empty cluster gets 0."""
        flat = self.indices.reshape(-1)
        totals = np.bincount(flat, weights=value.reshape(-1).astype(np.float64), minlength=self.clusters)
        counts = np.maximum(np.bincount(flat, minlength=self.clusters), 1)
        means = (totals / counts).astype(value.dtype)
        if self.zero is not None:
            means[self.zero] = 0
        return means

    def holds(self, value: Float) -> bool:
        """Whether all weights of each cluster are equal, and pruned ones zero."""
        return bool(np.array_equal(self.project(value), value))

    def project(self, value: Float) -> Float:
        """Replace each weight by its cluster's value."""
        first = np.zeros(self.clusters, value.dtype)
        first[self.indices.reshape(-1)] = value.reshape(-1)
        shared = first[self.indices]
        if np.array_equal(shared, value) and (self.zero is None or first[self.zero] == 0):
            return value  # already shared: a mean in floating point could move it by one unit in the last place
        means: Float = self.centroids(value)[self.indices]
        return means


@dataclass(frozen=True)
class Signs:
    """Each weight is -a or a, and 0 where it may be, with one a for each index of `axis` (None: one for the tensor).

    With a `threshold` (of the channel's mean magnitude, below 1) any weight may be 0: ternary. Without one only those
    are that `kept` calls pruned: binary. `latent` is what training goes on from: the weights behind those shown.
    `learned` lets training move a itself instead of taking the mean magnitude of what is shown.
    """

    axis: int | None
    kept: NDArray[np.bool_]
    threshold: float | None = None
    learned: bool = False
    latent: Float | None = None

    @property
    def kind(self) -> str:
        """The promise's name in reports."""
        return "binary" if self.threshold is None else "ternary"

    def holds(self, value: Float) -> bool:
        """Whether each weight has its channel's one magnitude, or is a zero that is allowed."""
        sizes = np.abs(value)
        zero = sizes == 0 if self.threshold is not None else ~self.kept
        fits = np.where(zero, sizes == 0, sizes == signs.magnitudes(value, self.axis))
        return bool(fits.all() and not sizes[~self.kept].any())

    def project(self, value: Float) -> Float:
        """Return the signs and magnitudes nearest to `value`, or `value` itself where it keeps the promise."""
        return value if self.holds(value) else signs.nearest(value, self.axis, self.kept, self.threshold)

    def behind(self, value: Float) -> Float:
        """Return the latent weights if they are those behind `value`, which a step may have changed, else `value`."""
        latent = self.latent
        if latent is None or latent.shape != value.shape:
            return value
        shown = signs.nearest(latent, self.axis, self.kept, self.threshold)
        return latent if np.array_equal(np.sign(shown), np.sign(value)) else value


@dataclass(frozen=True)
class Grid:
    """Each weight is its group's scale times a whole number of few bits; pruned ones (`kept` is False) are zero.

    `view` is the shape in which the groups are: a blocked axis is two there, of blocks and within. `latent` is what
    training goes on from: the weights behind those shown.
    """

    view: tuple[int, ...]
    steps: Steps
    kept: NDArray[np.bool_]
    latent: Float | None = None
    kind: str = "grid"

    def holds(self, value: Float) -> bool:
        """Whether every weight lies exactly on its group's grid, and pruned ones are zero."""
        return bool(np.array_equal(self.project(value), value))

    def project(self, value: Float) -> Float:
        """Return the nearest values on the grid."""
        shown = self.steps.nearest(value.reshape(self.view)).reshape(value.shape)
        return np.where(self.kept, shown, np.zeros((), value.dtype))

    def behind(self, value: Float) -> Float:
        """Return the latent weights if they are those behind `value`, which a step may have changed, else `value`."""
        latent = self.latent
        return value if latent is None or not np.array_equal(self.project(latent), value) else latent


@dataclass(frozen=True)
class Half:
    """A shorter floating type holds each weight exactly; pruned ones (`kept` is False) are zero."""

    kept: NDArray[np.bool_]
    format: Literal["float16", "bfloat16"]
    kind: str = "half"

    def holds(self, value: Float) -> bool:
        """Whether no weight would lose a bit, and pruned ones are zero."""
        return bool(np.array_equal(self.project(value), value))

    def reaches(self, value: Float) -> bool:
        """Whether no weight lies beyond the type's range."""
        return bool(np.abs(value).max() <= _LARGEST[self.format])

    def project(self, value: Float) -> Float:
        """Round to the nearest, at most the largest that the type has."""
        limit = _LARGEST[self.format]
        short = np.clip(value, -limit, limit).astype(ml_dtypes.bfloat16 if self.format == "bfloat16" else np.float16)
        return np.where(self.kept, short.astype(value.dtype), np.zeros((), value.dtype))


def behind(constraint: Constraint | None, value: Float) -> Float:
    """Return the weights that training goes on from: those behind `value` where the constraint has them, else it."""
    return constraint.behind(value) if isinstance(constraint, Signs | Grid) else value


def zeros_of(constraint: Constraint | None, value: Float) -> NDArray[np.bool_]:
    """Return where a tensor's promised zeros are, in the shape of `value`; nowhere without such a promise."""
    if isinstance(constraint, Mask | Signs | Grid | Half):
        return ~constraint.kept
    if isinstance(constraint, Codebook) and constraint.zero is not None:
        zeros: NDArray[np.bool_] = constraint.indices == constraint.zero
        return zeros
    return np.zeros(value.shape, np.bool_)


def is_settled(constraint: Constraint | None) -> bool:
    """Whether every value is already one of a few of its own group's, which no codebook could name in fewer bits."""
    return isinstance(constraint, Signs | Grid)


def with_zeros(constraint: Constraint | None, value: Float, kept: NDArray[np.bool_]) -> Constraint:
    """Return the constraint that also keeps zeros where `kept` is False; earlier zeros stay.

    In a codebook the zeros become a cluster: one that pruning emptied, else a new one, else (all that the indices can
    name are in use) the one nearest to zero, whose other weights become zero with it.
    """
    kept = kept & ~zeros_of(constraint, value)
    if isinstance(constraint, Signs | Grid | Half):
        return replace(constraint, kept=kept)
    if not isinstance(constraint, Codebook):
        return Mask(kept)
    zero, clusters = constraint.zero, constraint.clusters
    if zero is None:
        left = np.bincount(constraint.indices[kept].reshape(-1), minlength=clusters)
        if not left.all():
            zero = int(np.argmin(left > 0))
        elif clusters <= np.iinfo(constraint.indices.dtype).max:
            zero, clusters = clusters, clusters + 1
        else:
            zero = int(np.argmin(np.abs(constraint.centroids(value))))
    indices = np.where(kept, constraint.indices, zero).astype(constraint.indices.dtype)
    return Codebook(indices, clusters, zero)


def shrink(constraint: Constraint, kept: Sequence[NDArray[np.intp] | None]) -> Constraint:
    """Return the promise about the positions that are kept of each axis (None: all of them)."""
    for axis, places in enumerate(kept):
        if places is None:
            continue
        if isinstance(constraint, Mask):
            constraint = Mask(np.take(constraint.kept, places, axis))
        elif isinstance(constraint, Codebook):
            constraint = Codebook(np.take(constraint.indices, places, axis), constraint.clusters, constraint.zero)
        elif isinstance(constraint, Signs):
            latent = None if constraint.latent is None else np.take(constraint.latent, places, axis)
            constraint = replace(constraint, kept=np.take(constraint.kept, places, axis), latent=latent)
        elif isinstance(constraint, Half):
            constraint = replace(constraint, kept=np.take(constraint.kept, places, axis))
        elif isinstance(constraint, Grid):
            constraint = _cut_grid(constraint, places, axis)
    return constraint


def _cut_grid(grid: Grid, places: NDArray[np.intp], axis: int) -> Grid:
    """Return the grid without some positions. Where they leave blocks in pieces, each weight keeps its own scale."""
    kept = np.take(grid.kept, places, axis)
    latent = None if grid.latent is None else np.take(grid.latent, places, axis)
    scale, zero = grid.steps.scale, grid.steps.zero
    if len(grid.view) > grid.kept.ndim:
        scale = np.broadcast_to(scale, grid.view).reshape(grid.kept.shape)
        zero = np.broadcast_to(zero, grid.view).reshape(grid.kept.shape)
    if scale.shape[axis] > 1:
        scale, zero = np.take(scale, places, axis), np.take(zero, places, axis)
    return Grid(kept.shape, replace(grid.steps, scale=scale, zero=zero), kept, latent)
