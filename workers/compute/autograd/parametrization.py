"""Trainable forms of a constrained weight: what autograd sees of a free tensor, a Mask, a Codebook, Signs."""

import functools
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.compute.autograd.dtypes import from_numpy, to_floats, to_numpy
from workers.compute.autograd.straight import Assigned, Gridded, Halved, Signed, spread
from workers.compute.graph.constraints import Codebook, Constraint, Grid, Half, Mask, Signs, zeros_of
from workers.compute.graph.signs import magnitudes


class Free(nn.Module):
    """An unconstrained weight."""

    def __init__(self, value: Tensor) -> None:
        """Train `value` itself."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)

    def forward(self) -> Tensor:
        """Return the weight."""
        return self.value


class Masked(nn.Module):
    """A weight whose pruned entries are zero and get no gradient."""

    kept: Tensor

    def __init__(self, value: Tensor, kept: Tensor) -> None:
        """Train the entries of `value` where `kept` is true."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self.register_buffer("kept", kept.to(self.value.dtype))

    def forward(self) -> Tensor:
        """Return the weight with its zeros."""
        return self.value * self.kept


class Clustered(nn.Module):
    """A weight that takes one of a few trained values."""

    indices: Tensor
    alive: Tensor

    def __init__(self, centroids: Tensor, indices: Tensor, zero: int | None) -> None:
        """Train `centroids`; the cluster `zero` stays at 0.0."""
        super().__init__()
        self.centroids = nn.Parameter(centroids)
        alive = torch.ones_like(centroids)
        if zero is not None:
            alive[zero] = 0
        self.register_buffer("indices", indices)
        self.register_buffer("alive", alive)

    def forward(self) -> Tensor:
        """Return the weight, one value per cluster."""
        return spread(self.centroids * self.alive, self.indices)


class Projected(nn.Module):
    """A weight under any other constraint: projected going forward, untouched going back (straight-through)."""

    def __init__(self, value: Tensor, constraint: Constraint) -> None:
        """Train `value`; the graph sees its projection."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self._constraint = constraint

    def forward(self) -> Tensor:
        """Return the projected weight."""
        projected = from_numpy(self._constraint.project(to_floats(self.value))).to(self.value.device)
        return self.value + (projected - self.value).detach()


Parametrization = Free | Masked | Clustered | Assigned | Signed | Gridded | Halved | Projected


@functools.singledispatch
def parametrize(constraint: Constraint | None, value: Tensor) -> Parametrization:
    """Return the trainable form of `value` (a tensor or the parameter that already trains it) under a constraint."""
    if constraint is None:
        return Free(value)
    return Projected(value, constraint)


@parametrize.register
def _(constraint: Mask, value: Tensor) -> Parametrization:
    return Masked(value, torch.from_numpy(constraint.kept.copy()).to(value.device))


@parametrize.register
def _(constraint: Codebook, value: Tensor) -> Parametrization:
    shared = constraint.project(to_floats(value))
    centroids = np.zeros(constraint.clusters, shared.dtype)
    centroids[constraint.indices.reshape(-1)] = shared.reshape(-1)
    free = np.delete(centroids, [] if constraint.zero is None else [constraint.zero])
    if constraint.latent is not None and free.size:
        if not isinstance(value, nn.Parameter):
            value = from_numpy(constraint.latent).to(value.device, value.dtype)
        return Assigned(value, from_numpy(free).to(value.device, value.dtype), zeros_of(constraint, shared))
    indices = torch.from_numpy(constraint.indices.astype(np.int32))
    return Clustered(from_numpy(centroids).to(value.device), indices.to(value.device), constraint.zero)


@parametrize.register
def _(constraint: Signs, value: Tensor) -> Parametrization:
    shown = to_floats(value)
    if not isinstance(value, nn.Parameter):
        value = from_numpy(constraint.behind(shown)).to(value.device, value.dtype)
    scale = from_numpy(magnitudes(constraint.project(shown), constraint.axis)).to(value.device, value.dtype)
    return Signed(value, constraint, scale)


@parametrize.register
def _(constraint: Grid, value: Tensor) -> Parametrization:
    if not isinstance(value, nn.Parameter):
        value = from_numpy(constraint.behind(to_floats(value))).to(value.device, value.dtype)
    return Gridded(value, constraint)


@parametrize.register
def _(constraint: Half, value: Tensor) -> Parametrization:
    return Halved(value, constraint)


def carried(weight: Parametrization, constraint: Constraint) -> Constraint:
    """Return the constraint with what training has to go on from, where it is more than the weight itself."""
    if isinstance(weight, Signed | Gridded) and isinstance(constraint, Signs | Grid):
        return replace(constraint, latent=to_floats(weight.value))
    if isinstance(weight, Assigned) and isinstance(constraint, Codebook):
        places = to_numpy(weight.nearest()[1]).astype(constraint.indices.dtype)
        zero = None if constraint.zero is None else constraint.clusters - 1  # the last, behind those in order
        indices = places if zero is None else np.where(zeros_of(constraint, places), zero, places).astype(places.dtype)
        return replace(constraint, indices=indices, zero=zero, latent=to_floats(weight.value))
    return constraint


def stored(value: Tensor, constraint: Constraint | None, kind: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return the weight as the model stores it: in the file's type, its constraint kept bit for bit."""
    array: NDArray[np.floating] = to_floats(value).astype(kind)
    return array if constraint is None else constraint.project(array)
