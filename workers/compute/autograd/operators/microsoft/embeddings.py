"""Normalizations that add their residual first, and the embedding sum that ends in one."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule

# ONNX Runtime's default where the attribute is absent.
_EPSILON = 1e-12


# Like ONNX Runtime on the CPU, these leave the mean and the inverse deviation unset.
def _skip_normalization(node: Node) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)

    def run(
        x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        total = x + skip if bias is None else x + skip + bias
        return F.layer_norm(total, scale.shape, scale, shift, epsilon), None, None, total

    return run


def _skip_simplified(node: Node) -> Kernel:
    epsilon = node.number("epsilon", _EPSILON)

    def run(x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor | None, ...]:
        total = x + skip if bias is None else x + skip + bias
        return F.rms_norm(total, scale.shape, scale, epsilon), None, None, total

    return run


def _simplified(node: Node) -> Kernel:
    """Root mean square normalization (Zhang & Sennrich, 2019)."""
    axis, epsilon = node.integer("axis", -1), node.number("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        axes = list(range(axis % x.dim(), x.dim()))
        inverse = torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon)
        return x * inverse * scale, inverse

    return run


def _embed(node: Node) -> Kernel:
    epsilon, counts = node.number("epsilon", _EPSILON), node.integer("mask_index_type", 1)

    def run(ids: Tensor, segments: Tensor | None, words: Tensor, places: Tensor, *rest: Tensor | None) -> object:
        kinds, scale, shift, mask, positions = (*rest, None, None)[:5]
        where = torch.arange(ids.shape[1], device=ids.device) if positions is None else positions
        total = F.embedding(ids, words) + F.embedding(where, places)
        if segments is not None and kinds is not None:
            total = total + F.embedding(segments, kinds)
        lengths = torch.zeros(len(ids), dtype=torch.int32, device=ids.device)
        if mask is not None and counts:
            lengths = (mask == 1).sum(1, dtype=torch.int32)
        return F.layer_norm(total, words.shape[1:], scale, shift, epsilon), lengths, total

    return run


def _dequantized(values: Tensor | None, scale: Tensor | None, zero: Tensor | None) -> Tensor | None:
    if values is None or scale is None:
        return None
    point = 0 if zero is None else zero.to(scale.dtype).reshape(())
    return (values.to(scale.dtype) - point) * scale.reshape(())


def _quantized_embed(node: Node) -> Kernel:
    embed = _embed(node)

    def run(ids: Tensor, segments: Tensor | None, *rest: Tensor | None) -> object:
        tables, mask = rest[:5], rest[5]
        scales, zeros = rest[6:11], rest[11:16]
        parts = [_dequantized(*three) for three in zip(tables, scales, zeros, strict=True)]
        return embed(ids, segments, *parts, mask)

    return run


RULES: dict[str, Rule] = {
    "EmbedLayerNormalization": _embed,
    "QEmbedLayerNormalization": _quantized_embed,
    "SkipLayerNormalization": _skip_normalization,
    "SkipSimplifiedLayerNormalization": _skip_simplified,
}
UNREGISTERED_RULES: dict[str, Rule] = {"SimplifiedLayerNormalization": _simplified}
