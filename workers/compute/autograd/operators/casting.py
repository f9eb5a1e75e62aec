"""Cast and CastLike, including the types that PyTorch holds in a wider one."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from workers.compute.autograd.dtypes import TORCH_TYPES, from_numpy, to_numpy, widen
from workers.compute.autograd.operators.base import Kernel, Node

_BITS = {ir.DataType.INT4: 4, ir.DataType.UINT4: 4, ir.DataType.INT2: 2, ir.DataType.UINT2: 2}
_SIGNED = frozenset({ir.DataType.INT4, ir.DataType.INT2})
_INFINITE = frozenset({ir.DataType.FLOAT8E5M2})


def _to_bits(x: Tensor, kind: ir.DataType) -> Tensor:
    """Keep the low bits, as a conversion in C does."""
    bits = _BITS[kind]
    low = x.to(torch.int64) & ((1 << bits) - 1)
    if kind in _SIGNED:
        low = torch.where(low >= 1 << (bits - 1), low - (1 << bits), low)
    return low.to(TORCH_TYPES[kind])


def _to_float8(x: Tensor, kind: ir.DataType, *, saturate: bool) -> Tensor:
    """Convert by the standard's table: too large a number saturates, or becomes infinity or NaN."""
    target = TORCH_TYPES[kind]
    largest, wide = torch.finfo(target).max, x.float()
    if saturate:
        return torch.where(torch.isnan(wide), wide, wide.clamp(-largest, largest)).to(target)
    outside = float("inf") if kind in _INFINITE else float("nan")
    rounded = wide.clamp(-largest, largest).to(target)
    # Half a step above the largest number still rounds down to it.
    step = largest - float(torch.tensor([largest]).to(target).view(torch.uint8).sub(1).view(target).float())
    beyond = wide.abs() >= largest + step / 2
    return torch.where(
        beyond | torch.isinf(wide), torch.copysign(torch.full_like(wide, outside), wide), rounded.float()
    ).to(target)


def to_type(x: Tensor, kind: ir.DataType, precision: torch.dtype, *, saturate: bool = True) -> Tensor:
    """Convert to an ONNX type."""
    if kind in _BITS:
        return _to_bits(x, kind)
    if kind == ir.DataType.FLOAT4E2M1:
        with np.errstate(invalid="ignore"):  # there is no NaN among the 4-bit floats
            return from_numpy(to_numpy(x.float()).astype(ml_dtypes.float4_e2m1fn)).to(x.device)
    target = TORCH_TYPES[kind]
    if kind == ir.DataType.FLOAT8E8M0:
        mantissa, exponent = torch.frexp(x.float())
        up = torch.ldexp(torch.ones_like(mantissa), torch.where(mantissa == 0.5, exponent - 1, exponent))  # noqa: PLR2004
        up = torch.where(mantissa == 0, 2.0**-127, up)  # the smallest: there is no zero
        return torch.where(torch.isfinite(x.float()), up, x.float()).to(target)
    if target.is_floating_point and target.itemsize == 1:
        return _to_float8(x, kind, saturate=saturate)
    return x.to(widen(target, precision))


def cast(node: Node) -> Kernel:
    """Return the kernel of Cast."""
    return _conversion(node, ir.DataType(node.integer("to")))


def cast_like(node: Node) -> Kernel:
    """Return the kernel of CastLike; where the graph does not tell the type, the tensor at run time does."""
    kind = node.types[1]
    return (lambda x, like: x.to(like.dtype)) if kind is None else _conversion(node, kind)


def bit_cast(node: Node) -> Kernel:
    """Return the kernel of BitCast: the same bits as another type of the same width."""
    target = TORCH_TYPES[ir.DataType(node.integer("to"))]
    return lambda x: x.view(target)


def _conversion(node: Node, kind: ir.DataType) -> Kernel:
    precision, saturate = node.precision, bool(node.integer("saturate", 1))
    if kind not in TORCH_TYPES:
        raise node.refuse(f"element type {kind.name}")
    return lambda x, *_: to_type(x, kind, precision, saturate=saturate)
