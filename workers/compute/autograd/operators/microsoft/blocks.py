"""Weights of 2, 4 or 8 bits in blocks, each with its scale and zero point; gradients reach all but the packed bits."""

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule

_BYTE = 8


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Spread bytes of the last axis into their numbers of `bits` bits, lowest first."""
    if bits == _BYTE:
        return packed
    shifts = torch.arange(0, _BYTE, bits, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)


def _zero_points(points: Tensor | None, shape: tuple[int, int], bits: int, like: Tensor) -> Tensor | float:
    """Return (rows, blocks, 1) zero points; the middle of the range where there are none."""
    if points is None:
        return float(1 << (bits - 1))
    rows, blocks = shape
    if points.dtype == torch.uint8:
        points = unpack(points.reshape(rows, -1), bits)[:, :blocks]
    return points.reshape(rows, blocks, 1).to(like.dtype)


def _matmul_bits(node: Node) -> Kernel:
    bits, block = node.integer("bits", 4), node.integer("block_size")
    columns, rows = node.integer("K"), node.integer("N")
    blocks = -(-columns // block)
    if node.integer("weight_prepacked"):
        raise node.refuse("weights packed for one device")

    def run(
        x: Tensor,
        packed: Tensor,
        scales: Tensor,
        points: Tensor | None = None,
        groups: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        numbers = unpack(packed.reshape(rows, blocks, -1), bits).to(scales.dtype)
        zero = _zero_points(points, (rows, blocks), bits, scales)
        if groups is not None:  # the block of each column, as GPTQ orders them
            return F.linear(x, _by_group(numbers, zero, scales.reshape(rows, blocks), groups[:columns]), bias)
        weight = (numbers - zero) * scales.reshape(rows, blocks, 1)
        return F.linear(x, weight.flatten(1)[:, :columns], bias)

    return run


def _by_group(numbers: Tensor, zero: Tensor | float, scales: Tensor, groups: Tensor) -> Tensor:
    chosen = groups.long()
    points = zero.squeeze(-1)[:, chosen] if isinstance(zero, Tensor) else zero
    return (numbers.flatten(1)[:, : len(chosen)] - points) * scales[:, chosen]


def _gather_blocks(node: Node) -> Kernel:
    block, bits = node.integer("block_size", 128), node.integer("bits", 4)
    gather_axis, quantized_axis = node.integer("gather_axis"), node.integer("quantize_axis", 1)
    packed = node.types[0] == ir.DataType.UINT8

    def run(data: Tensor, indices: Tensor, scales: Tensor, points: Tensor | None = None) -> Tensor:
        numbers = unpack(data, bits) if packed else data
        axis, chosen = gather_axis % numbers.dim(), indices.long()
        chosen = torch.where(chosen < 0, chosen + numbers.shape[axis], chosen)
        along = quantized_axis % numbers.dim()
        zero: Tensor | None = None
        if points is not None:
            zero = unpack(points, bits).narrow(-1, 0, scales.shape[-1]) if packed else points
        parts = [_picked(part, axis, chosen) for part in (numbers, scales, zero)]
        moved = along if along < axis else along + chosen.dim() - 1
        values, factor, offset = parts
        assert values is not None  # noqa: S101 - only the zero point may be absent
        assert factor is not None  # noqa: S101
        shift = float(1 << (bits - 1)) if packed else 0.0
        wide = values.to(factor.dtype) - (
            shift if offset is None else _spread(offset.to(factor.dtype), block, moved, values)
        )
        return wide * _spread(factor, block, moved, values)

    return run


def _picked(part: Tensor | None, axis: int, chosen: Tensor) -> Tensor | None:
    if part is None:
        return None
    found = part.index_select(axis, chosen.reshape(-1))
    return found.reshape(*found.shape[:axis], *chosen.shape, *found.shape[axis + 1 :])


def _spread(factor: Tensor, block: int, axis: int, like: Tensor) -> Tensor:
    return factor.repeat_interleave(block, axis).narrow(axis, 0, like.shape[axis])


RULES: dict[str, Rule] = {"GatherBlockQuantized": _gather_blocks, "MatMulNBits": _matmul_bits}
