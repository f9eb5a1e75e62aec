"""Trainable weights that the graph sees as few values: those behind are trained, gradients pass straight through."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.compute.graph.constraints import Grid, Half, Signs
from workers.compute.graph.precision import DROPPED_BITS
from workers.compute.graph.signs import others


class _Spread(torch.autograd.Function):
    """Spread centroids over a tensor; the gradient of a centroid is the sum over its cluster (Han et al., 2016)."""

    @staticmethod
    def forward(ctx: Any, centroids: Tensor, indices: Tensor) -> Tensor:  # noqa: ANN401 - PyTorch's context
        """Return centroids[indices]."""
        ctx.save_for_backward(indices)
        ctx.clusters = len(centroids)
        return centroids.index_select(0, indices.reshape(-1)).reshape(indices.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - PyTorch's context
        """Sum the gradient over each cluster, in the order of the weights."""
        (indices,) = ctx.saved_tensors
        gradient = gradients[0].reshape(-1)
        if gradient.device.type == "cpu":
            return torch.bincount(indices.reshape(-1), gradient, ctx.clusters).to(gradient.dtype), None
        return run_sums(gradient, indices.reshape(-1), ctx.clusters), None


def run_sums(values: Tensor, indices: Tensor, clusters: int) -> Tensor:
    """Return the sum of each cluster's values, (clusters,), added in a fixed order, as atomic additions are not."""
    ordered, order = indices.sort(stable=True)
    edges = torch.arange(clusters + 1, dtype=ordered.dtype, device=ordered.device)
    lengths = torch.searchsorted(ordered, edges).diff()
    return torch.segment_reduce(values[order], "sum", lengths=lengths)


def spread(centroids: Tensor, indices: Tensor) -> Tensor:
    """Return centroids[indices], with gradients that are the same whatever adds them up."""
    spread: Tensor = _Spread.apply(centroids, indices)  # type: ignore[no-untyped-call] # torch leaves `apply` untyped
    return spread


class _Straight(torch.autograd.Function):
    """Show something else than a value; gradients reach both unchanged (Bengio et al., 2013)."""

    @staticmethod
    def forward(_ctx: Any, _value: Tensor, shown: Tensor) -> Tensor:  # noqa: ANN401 - PyTorch's context
        """Return what is shown, bit for bit."""
        return shown.view_as(shown)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - PyTorch's context
        """Pass the gradient to both."""
        return gradients[0], gradients[0]


def _straight(value: Tensor, shown: Tensor, pruned: Tensor | None) -> Tensor:
    """Return `shown`, zero where pruned; the gradient reaches the rest of `value` unchanged."""
    if pruned is not None:
        value, shown = value.masked_fill(pruned, 0), shown.masked_fill(pruned, 0)
    straight: Tensor = _Straight.apply(value, shown)  # type: ignore[no-untyped-call] # torch leaves `apply` untyped
    return straight


def _pruned(kept: NDArray[np.bool_], device: torch.device) -> Tensor | None:
    """Return where zeros are promised, None where nowhere: passing over large weights for nothing costs time."""
    return None if kept.all() else torch.from_numpy(~kept).to(device)


def _short(scale: Tensor) -> Tensor:
    """Round as `graph.precision.short` does."""
    bits = scale.to(torch.float32).contiguous().view(torch.int32)
    return ((bits + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS << DROPPED_BITS).view(torch.float32)


class Signed(nn.Module):
    """A weight of one magnitude per channel: the latent weights behind it are trained, straight-through.

    Computes what `graph.signs.nearest` does, sums in float64 as there, so that both choose the same zeros.
    """

    pruned: Tensor | None

    def __init__(self, value: Tensor, promise: Signs, scale: Tensor) -> None:
        """Train the latent `value` and, where magnitudes are learned, `scale` (one per channel, other axes 1)."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self.scale = nn.Parameter(scale) if promise.learned else None
        self._threshold = promise.threshold
        self._others = others(value.dim(), promise.axis)
        self.register_buffer("pruned", _pruned(promise.kept, value.device))

    def forward(self) -> Tensor:
        """Return the signs times their magnitudes; the gradient reaches the latent weights unchanged."""
        latent = self.value.detach()
        sizes = latent.abs() if self.pruned is None else latent.abs().masked_fill(self.pruned, 0)
        count = math.prod(latent.shape[axis] for axis in self._others)
        alive: Tensor | int = count if self.pruned is None else count - self.pruned.sum(self._others, keepdim=True)
        if self._threshold is None:
            return _straight(self.value, torch.copysign(self._scale(sizes, alive), latent), self.pruned)
        shown = sizes > (self._threshold * self._mean(sizes, alive)).to(sizes.dtype)
        scale = self._scale(sizes * shown, shown.sum(self._others, keepdim=True))
        return _straight(self.value, torch.where(shown, torch.copysign(scale, latent), 0), self.pruned)

    def _scale(self, sizes: Tensor, count: Tensor | int) -> Tensor:
        if self.scale is None:
            return _short(self._mean(sizes, count)).to(sizes.dtype)
        scale = self.scale.abs()
        return _straight(scale, _short(scale.detach()).to(scale.dtype), None)

    def _mean(self, sizes: Tensor, count: Tensor | int) -> Tensor:
        return sizes.sum(self._others, keepdim=True, dtype=torch.float64) / torch.as_tensor(count).clamp(min=1)


class Assigned(nn.Module):
    """A weight that takes the nearest of a few trained values (LQ-Nets: Zhang et al., 2018, arXiv 1807.10029).

    The latent weights behind are trained straight-through, so that a weight may change its cluster; the gradient of a
    value is the sum over those that have it.
    """

    pruned: Tensor | None

    def __init__(self, value: Tensor, centroids: Tensor, pruned: NDArray[np.bool_]) -> None:
        """Train the latent `value` and `centroids`, which are one or more; where `pruned` the weight is zero."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self.centroids = nn.Parameter(centroids)
        self.register_buffer("pruned", _pruned(~pruned, value.device))

    def nearest(self) -> tuple[Tensor, Tensor]:
        """Return the values in ascending order, and each weight's place among them."""
        table, _order = self.centroids.sort()
        edges = (table[1:] + table[:-1]).detach() / 2
        return table, torch.bucketize(self.value.detach(), edges, out_int32=True)

    def forward(self) -> Tensor:
        """Return each weight's value; the gradient reaches the latent weights unchanged."""
        return _straight(self.value, spread(*self.nearest()), self.pruned)


class Gridded(nn.Module):
    """A weight on a grid of few numbers per group: the latent weights behind it are trained, straight-through."""

    pruned: Tensor | None
    scale: Tensor
    zero: Tensor

    def __init__(self, value: Tensor, promise: Grid) -> None:
        """Train the latent `value`; the grid stays as it is."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self._view, self._range = promise.view, (promise.steps.low, promise.steps.high)
        self.register_buffer("pruned", _pruned(promise.kept, value.device))
        for name, array in (("scale", promise.steps.scale), ("zero", promise.steps.zero)):
            self.register_buffer(name, torch.from_numpy(array.copy()).to(value.device, value.dtype))

    def forward(self) -> Tensor:
        """Return the values on the grid; the gradient reaches the latent weights unchanged."""
        latent = self.value.detach()
        numbers = torch.round(latent.reshape(self._view) / self.scale).add(self.zero).clamp(*self._range)
        return _straight(self.value, ((numbers - self.zero) * self.scale).reshape(latent.shape), self.pruned)


class Halved(nn.Module):
    """A weight rounded to a shorter floating type going forward, untouched going back (straight-through)."""

    pruned: Tensor | None

    def __init__(self, value: Tensor, promise: Half) -> None:
        """Train `value`; the graph sees it rounded."""
        super().__init__()
        self.value = value if isinstance(value, nn.Parameter) else nn.Parameter(value)
        self._kind = torch.float16 if promise.format == "float16" else torch.bfloat16
        self.register_buffer("pruned", _pruned(promise.kept, value.device))

    def forward(self) -> Tensor:
        """Return the rounded weight; the gradient reaches the value unchanged."""
        value, limit = self.value.detach(), torch.finfo(self._kind).max
        return _straight(self.value, value.clamp(-limit, limit).to(self._kind).to(value.dtype), self.pruned)
