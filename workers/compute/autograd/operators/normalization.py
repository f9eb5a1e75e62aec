"""Normalizations. Batch normalization is the one operator whose training differs from its inference."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, root


def _per_channel(values: Tensor, rank: int) -> Tensor:
    return values.reshape(1, -1, *([1] * (rank - 2)))


def _batch_normalization(node: Node) -> Kernel:
    epsilon, momentum = node.number("epsilon", 1e-5), node.number("momentum", 0.9)
    # Until opset 13 the outputs that a node names said that it normalizes by the batch.
    if node.declared > 1 and (node.integer("training_mode") or node.opset < 14):  # noqa: PLR2004 - opset numbers
        return _batch_statistics(epsilon, momentum)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        # One value per channel has no variance: such a batch goes through the running statistics.
        learns = node.training() and x.numel() > x.shape[1]
        kind = mean.dtype
        scale, bias = scale.to(kind), bias.to(kind)
        return F.batch_norm(x.to(kind), mean, var, scale, bias, learns, 1 - momentum, epsilon).to(x.dtype)

    return run


def _batch_statistics(epsilon: float, momentum: float) -> Kernel:
    """Normalize by the batch itself, as `training_mode` asks; return the running statistics after it and its own."""

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
        axes, rank = [axis for axis in range(x.dim()) if axis != 1], x.dim()
        batch_var, batch_mean = torch.var_mean(x, axes, correction=0)
        normal = (x - _per_channel(batch_mean, rank)) * torch.rsqrt(_per_channel(batch_var, rank) + epsilon)
        y = normal * _per_channel(scale, rank) + _per_channel(bias, rank)
        later_mean, later_var = (
            old * momentum + new * (1 - momentum) for old, new in ((mean, batch_mean), (var, batch_var))
        )
        return y, later_mean, later_var, batch_mean, batch_var

    return run


def _instance_normalization(node: Node) -> Kernel:
    epsilon = node.number("epsilon", 1e-5)
    return lambda x, scale, bias: (
        _normalize(x, list(range(2, x.dim())), epsilon)[0] * _per_channel(scale, x.dim()) + _per_channel(bias, x.dim())
    )


def _normalize(x: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + epsilon)
    return (x - mean) * inverse, mean, inverse


def _layer_normalization(node: Node) -> Kernel:
    axis, epsilon = node.integer("axis", -1), node.number("epsilon", 1e-5)
    in_float = node.integer("stash_type", 1) == 1

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        first = axis % x.dim()
        normal_shape = x.shape[first:]
        same = scale.shape == normal_shape and (bias is None or bias.shape == normal_shape)
        if node.outputs == 1 and same:
            return F.layer_norm(x, list(normal_shape), scale, bias, epsilon)
        source = x.float() if in_float and x.dtype.itemsize < torch.float32.itemsize else x
        normal, mean, inverse = _normalize(source, list(range(first, x.dim())), epsilon)
        y = normal.to(x.dtype) * scale
        return (y if bias is None else y + bias), mean, inverse

    return run


def _group_normalization(node: Node) -> Kernel:
    groups, epsilon = node.integer("num_groups", 1), node.number("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if len(scale) != x.shape[1]:  # opset 18 scaled groups, 21 and later scale channels
            scale, bias = (part.repeat_interleave(x.shape[1] // groups) for part in (scale, bias))
        return F.group_norm(x, groups, scale, bias, epsilon)

    return run


def _rms_normalization(node: Node) -> Kernel:
    axis, epsilon = node.integer("axis", -1), node.number("epsilon", 1e-5)
    in_float = node.integer("stash_type", 1) == 1

    def run(x: Tensor, scale: Tensor) -> Tensor:
        source = x.float() if in_float and x.dtype.itemsize < torch.float32.itemsize else x
        axes = list(range(axis % x.dim(), x.dim()))
        return (source * torch.rsqrt(source.square().mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale

    return run


def _local_response(node: Node) -> Kernel:
    size, alpha, beta = node.integer("size"), node.number("alpha", 1e-4), node.number("beta", 0.75)
    bias = node.number("bias", 1.0)

    def run(x: Tensor) -> Tensor:
        squares = x.square().transpose(1, -1)
        padded = F.pad(squares, ((size - 1) // 2, math.ceil((size - 1) / 2)))
        total = padded.unfold(-1, size, 1).sum(-1).transpose(1, -1)
        return x / (bias + alpha / size * total) ** beta

    return run


def _lp_normalization(node: Node) -> Kernel:
    axis, order = node.integer("axis", -1), node.integer("p", 2)

    def run(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, order, axis, keepdim=True)
        return torch.where(norm == 0, torch.zeros_like(x), x / norm.masked_fill(norm == 0, 1))

    return run


def _mean_variance(node: Node) -> Kernel:
    axes = node.integers("axes") or [0, 2, 3]

    def run(x: Tensor) -> Tensor:
        mean = x.mean(axes, keepdim=True)
        deviation = root((x * x).mean(axes, keepdim=True) - mean * mean)
        return (x - mean) / (deviation + 1e-9)

    return run


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _local_response,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_normalization,
}
