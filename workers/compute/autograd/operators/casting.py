"""Cast and CastLike, including the types that PyTorch holds in a wider one."""

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compute.autograd.dtypes import TORCH_TYPES, widen
from workers.compute.autograd.operators.base import Kernel, Node

_BITS = {ir.DataType.INT4: 4, ir.DataType.UINT4: 4, ir.DataType.INT2: 2, ir.DataType.UINT2: 2}
_SIGNED = frozenset({ir.DataType.INT4, ir.DataType.INT2})


def to_type(x: Tensor, kind: ir.DataType, precision: torch.dtype) -> Tensor:
    """Convert to an ONNX type; 2- and 4-bit integers keep their low bits, as a conversion in C does."""
    if kind in _BITS:
        bits = _BITS[kind]
        low = x.to(torch.int64) & ((1 << bits) - 1)
        if kind in _SIGNED:
            low = torch.where(low >= 1 << (bits - 1), low - (1 << bits), low)
        return low.to(TORCH_TYPES[kind])
    target = TORCH_TYPES[kind]
    return x.to(widen(target, precision))


def cast(node: Node) -> Kernel:
    """Return the kernel of Cast."""
    kind, precision = ir.DataType(node.integer("to")), node.precision
    if kind not in TORCH_TYPES:
        raise node.refuse(f"element type {kind.name}")
    return lambda x: to_type(x, kind, precision)


def cast_like(node: Node) -> Kernel:
    """Return the kernel of CastLike."""
    del node
    return lambda x, like: x.to(like.dtype)
