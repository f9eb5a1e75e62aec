"""Quantizers and integer products. Rounding passes gradients straight through (Bengio et al., 2013)."""

from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compute.autograd.dtypes import TORCH_TYPES, widen
from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain
from workers.compute.autograd.operators.casting import to_type
from workers.compute.autograd.operators.convolution import convolve
from workers.compute.autograd.operators.windows import window_of

_RANGES = {
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
}


class _Quantize(torch.autograd.Function):
    """Round to a grid; the gradient passes where the value was inside it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:  # noqa: ANN401 - PyTorch's context
        """Return x rounded half to even and limited to [low, high]."""
        ctx.save_for_backward((x >= low) & (x <= high))
        return torch.round(x).clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - PyTorch's context
        """Pass the gradient of values inside the grid."""
        return gradients[0] * ctx.saved_tensors[0], None, None


def _spread(factor: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Shape a scale or zero point to multiply `x`: one number, one for each slice of `axis`, or one for each block."""
    if factor.numel() == 1 and factor.dim() <= 1:
        return factor.reshape(())
    if block:
        return factor.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = -1
    return factor.reshape(shape) if factor.dim() == 1 else factor


def _output_type(node: Node) -> ir.DataType:
    if kind := node.integer("output_dtype"):
        return ir.DataType(kind)
    return node.types[2] if node.has(2) and node.types[2] is not None else ir.DataType.UINT8


def _quantize(node: Node) -> Kernel:
    axis, block, kind = node.integer("axis", 1), node.integer("block_size"), _output_type(node)
    saturate = bool(node.integer("saturate", 1))

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        scaled = x / _spread(scale, x, axis, block).to(x.dtype)
        if kind not in _RANGES:
            offset = 0 if zero is None else _spread(zero.float(), x, axis, block)
            return to_type(scaled.float() + offset, kind, node.precision, saturate=saturate)
        low, high = _RANGES[kind]
        offset = torch.zeros(()) if zero is None else _spread(zero.to(torch.int32), x, axis, block).to(x.dtype)
        offset = offset.to(x.device)
        rounded: Tensor = _Quantize.apply(scaled.float(), low - offset.float(), high - offset.float())  # type: ignore[no-untyped-call] # torch leaves `apply` untyped
        rounded = rounded + offset
        # Gradients need floats: while training, the integers travel as floats of equal value.
        return rounded if torch.is_grad_enabled() and rounded.requires_grad else rounded.to(TORCH_TYPES[kind])

    return run


def _dequantize(node: Node) -> Kernel:
    axis, block = node.integer("axis", 1), node.integer("block_size")
    wanted = node.integer("output_dtype")

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        kind = widen(TORCH_TYPES[ir.DataType(wanted)], node.precision) if wanted else scale.dtype
        wide = kind if kind.itemsize >= torch.float32.itemsize else torch.float32
        value = x.to(wide)
        if zero is not None:
            value = value - _spread(zero.to(wide), x, axis, block)
        return (value * _spread(scale.to(wide), x, axis, block)).to(kind)

    return run


def _dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    quantized = torch.round(x / scale).add(zero).clamp(0, 255)
    return quantized.to(torch.uint8), scale, zero.to(torch.uint8)


def _centred(x: Tensor, zero: Tensor | None, *, rows: bool) -> Tensor:
    """Subtract a zero point; a vector of them belongs to the rows of the left or the columns of the right factor."""
    value = x.to(torch.float64)
    if zero is None:
        return value
    point = zero.to(torch.float64)
    return value - (point.unsqueeze(-1) if rows and point.dim() == 1 and point.numel() > 1 else point)


def _matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    # Products of bytes summed in float64 are exact below 2^53 and far faster than PyTorch's integer product.
    product = torch.matmul(_centred(a, a_zero, rows=True), _centred(b, b_zero, rows=False))
    return product.to(torch.int32)


def _limits(kind: torch.dtype) -> tuple[int, int]:
    return (torch.iinfo(kind).min, torch.iinfo(kind).max)


def _requantize(value: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    low, high = _limits(zero.dtype)
    return (torch.round(value / scale) + zero.to(value.dtype)).clamp(low, high).to(zero.dtype)


def _qlinear_matmul(*inputs: Tensor) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    scale = a_scale.double() if a_scale.dim() == 0 or a_scale.numel() == 1 else a_scale.double().unsqueeze(-1)
    product = torch.matmul(_centred(a, a_zero, rows=True), _centred(b, b_zero, rows=False)) * scale * b_scale.double()
    return _requantize(product, y_scale.double(), y_zero)


def _conv_integer(node: Node) -> Kernel:
    groups = node.integer("group", 1)

    def run(x: Tensor, weight: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
        window = window_of(node, tuple(weight.shape[2:]))
        kernel = _per_filter(weight, w_zero)
        return convolve(_centred(x, x_zero, rows=False), kernel, None, window, groups).round().to(torch.int32)

    return run


def _per_filter(weight: Tensor, zero: Tensor | None) -> Tensor:
    if zero is None or zero.numel() == 1:
        return _centred(weight, None if zero is None else zero.reshape(()), rows=False)
    return weight.double() - zero.double().reshape(-1, *([1] * (weight.dim() - 1)))


def _qlinear_conv(node: Node) -> Kernel:
    groups = node.integer("group", 1)

    def run(*inputs: Tensor) -> Tensor:
        x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero = inputs[:8]
        window = window_of(node, tuple(weight.shape[2:]))
        summed = convolve(_centred(x, x_zero, rows=False), _per_filter(weight, w_zero), None, window, groups)
        shape = (1, -1, *([1] * (x.dim() - 2)))
        if len(inputs) > 8:  # noqa: PLR2004 - the ninth input is the optional bias
            summed = summed + inputs[8].double().reshape(shape)
        scale = x_scale.double() * w_scale.double()
        return _requantize(summed * (scale.reshape(shape) if scale.numel() > 1 else scale), y_scale.double(), y_zero)

    return run


RULES: dict[str, Rule] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": plain(_dynamic_quantize),
    "MatMulInteger": plain(_matmul_integer),
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": plain(_qlinear_matmul),
    "QuantizeLinear": _quantize,
}
