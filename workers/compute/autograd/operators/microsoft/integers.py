"""Products of integers that end in floats or in integers again, and attention over them. Forward only."""

import torch
from torch import Tensor

from workers.compute.autograd.operators import pooling, quantization
from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain
from workers.compute.autograd.operators.microsoft.attention import attend, heads_of, projected, with_past
from workers.compute.autograd.operators.microsoft.qlinear import quantized

_DYNAMIC = quantization.RULES["DynamicQuantizeLinear"](Node(op_type="DynamicQuantizeLinear", opset=11))
_PRODUCT = quantization.RULES["MatMulInteger"](Node(op_type="MatMulInteger", opset=10))


def to_float(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, *rest: Tensor | None) -> Tensor:
    """Multiply integers and scale the product; `rest` are both zero points and a bias.

    A vector of right scales or zero points belongs to the columns.
    """
    a_zero, b_zero, bias = (*rest, None, None, None)[:3]
    product: Tensor = _PRODUCT(a, b, a_zero, _columns(b_zero, b)).to(a_scale.dtype)
    product = product * (a_scale * _columns(b_scale, b))
    return product if bias is None else product + bias


def _columns(factor: Tensor | None, b: Tensor) -> Tensor:
    """Shape a scale or zero point of the right factor: one number, one per column, or one per column and batch."""
    if factor is None:
        return torch.zeros((), dtype=b.dtype, device=b.device)
    if factor.numel() == 1:
        return factor.reshape(())
    return factor if factor.dim() == 1 or factor.shape[-2] == 1 else factor.unsqueeze(-2)


def dynamic_matmul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Round the left factor to bytes by its own range, multiply and scale back."""
    quantized_a, scale, zero = _DYNAMIC(a)
    return to_float(quantized_a, b, scale, b_scale, zero, b_zero, bias)


def _gemm(node: Node) -> Kernel:
    alpha, flip_a, flip_b = node.number("alpha", 1.0), node.integer("transA"), node.integer("transB")

    def run(  # noqa: PLR0913, PLR0917 - the operator's own inputs
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        c: Tensor | None = None,
        y_scale: Tensor | None = None,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        a, b = a.T if flip_a else a, b.T if flip_b else b
        total = _PRODUCT(a, b, a_zero, _columns(b_zero, b))
        total = total if c is None else total + c
        y = total.double() * (alpha * a_scale.double() * _columns(b_scale, b).double())
        return y.float() if y_scale is None else quantized(y, y_scale, y_zero)

    return run


def _convolution(node: Node) -> Kernel:
    kernel, last = quantization.RULES["QLinearConv"](node), bool(node.integer("channels_last"))
    if not last:
        return kernel
    return lambda x, *rest: kernel(x.movedim(-1, 1), *rest).movedim(1, -1)


def _max_pool(node: Node) -> Kernel:
    kernel = pooling.RULES["MaxPool"](node)
    return lambda x: kernel(x.movedim(-1, 1)).movedim(1, -1)


def _attention(node: Node) -> Kernel:
    heads = heads_of(node)

    def run(  # noqa: PLR0913, PLR0917 - the operator's own inputs
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        x_scale: Tensor,
        w_scale: Tensor,
        mask: Tensor | None = None,
        x_zero: Tensor | None = None,
        w_zero: Tensor | None = None,
        past: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        flat = to_float(x, weight, x_scale.reshape(()), w_scale, x_zero, w_zero, bias)
        q, k, v = projected(flat, None, heads)
        k, v = with_past(past, k, v)
        return attend((q, k, v), heads, mask, None), torch.stack([k, v])

    return run


def _matmul_16(a: Tensor, b: Tensor) -> Tensor:
    # Sums of products of 16-bit numbers are exact in float64 below 2^53.
    return torch.matmul(a.double(), b.double()).to(torch.int32)


RULES: dict[str, Rule] = {
    "DynamicQuantizeMatMul": plain(dynamic_matmul),
    "MatMulInteger16": plain(_matmul_16),
    "MatMulIntegerToFloat": plain(to_float),
    "NhwcMaxPool": _max_pool,
    "QAttention": _attention,
    "QGemm": _gemm,
    "QLinearConv": _convolution,
}
