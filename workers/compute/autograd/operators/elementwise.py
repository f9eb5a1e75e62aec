"""Arithmetic, comparison, logic and bits, element by element."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule, TensorKernel, plain, scalar

_UNSIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def _wide(kernel: TensorKernel) -> Rule:
    """Compute unsigned types, for which PyTorch lacks kernels, in a signed type that holds their bits."""

    def run(*inputs: Tensor) -> Tensor:
        kind = inputs[0].dtype
        if kind not in _UNSIGNED:
            return kernel(*inputs)
        return kernel(*(x.to(_UNSIGNED[kind]) if x.dtype == kind else x for x in inputs)).to(kind)

    return plain(run)


def _compare(kernel: TensorKernel) -> Rule:
    def run(a: Tensor, b: Tensor) -> Tensor:
        kind = _UNSIGNED.get(a.dtype)
        return kernel(a, b) if kind is None else kernel(a.to(kind), b.to(kind))

    return plain(run)


def _legacy(kernel: TensorKernel, node: Node) -> Kernel:
    """Opset 6 and older broadcast `b` from the attribute `axis` on."""
    if node.opset >= 7 or "axis" not in node.attributes:  # noqa: PLR2004 - opset numbers are the standard's
        return kernel
    axis = node.integer("axis")

    def run(a: Tensor, b: Tensor) -> Tensor:
        return kernel(a, b.reshape(*b.shape, *([1] * (a.dim() - axis - b.dim()))))

    return run


def _arithmetic(kernel: TensorKernel) -> Rule:
    return lambda node: _legacy(_wide(kernel)(node), node)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide; integers truncate towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(a: Tensor, b: Tensor) -> Tensor:
    if b.numel() == 1 and b.dim() <= a.dim() and not b.requires_grad:
        exponent = scalar(b)
        whole = float(exponent).is_integer() and a.dtype.is_floating_point
        return torch.pow(a, int(exponent) if whole else exponent).to(a.dtype)
    return torch.pow(a.double(), b.double()).to(a.dtype) if a.dtype != b.dtype else torch.pow(a, b)


def _modulo(node: Node) -> TensorKernel:
    return torch.fmod if node.integer("fmod") else torch.remainder


def _fold(kernel: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    def run(*inputs: Tensor) -> Tensor:
        return functools.reduce(kernel, inputs)

    return _wide(run)


def _maximum(a: Tensor, b: Tensor) -> Tensor:
    return torch.maximum(a, b)


def _mean(*inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def _clip(node: Node) -> Kernel:
    low, high = node.attributes.get("min"), node.attributes.get("max")
    if low is not None or high is not None:
        return lambda x: torch.clamp(x, low, high)

    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        if low is None and high is None:
            return x
        if x.dtype in _UNSIGNED:
            wide = _UNSIGNED[x.dtype]
            bounds = [None if bound is None else bound.to(wide) for bound in (low, high)]
            return torch.clamp(x.to(wide), bounds[0], bounds[1]).to(x.dtype)
        # A lower bound above the upper one yields the upper one, as the standard's min(max(x, low), high).
        return torch.clamp(x, low, high)

    return run


def _shift(node: Node) -> Kernel:
    left = node.text("direction") == "LEFT"

    def run(a: Tensor, b: Tensor) -> Tensor:
        kind, bits = a.dtype, a.dtype.itemsize * 8
        wide_a, wide_b = a.to(torch.int64), b.to(torch.int64)
        if left:
            return (wide_a << wide_b).to(kind)
        # A 64-bit number with its top bit set is negative in the signed type; the mask removes the copied sign bits.
        shifted = wide_a >> wide_b
        if bits == 64:  # noqa: PLR2004 - bits of a word
            shifted = torch.where(wide_b > 0, shifted & ~(-1 << (64 - wide_b.clamp(min=1))), wide_a)
        return shifted.to(kind)

    return run


def _is_inf(node: Node) -> Kernel:
    positive, negative = node.integer("detect_positive", 1), node.integer("detect_negative", 1)

    def run(x: Tensor) -> Tensor:
        x = x if x.dtype.itemsize > 1 else x.float()
        found = torch.zeros_like(x, dtype=torch.bool)
        if positive:
            found = found | torch.isposinf(x)
        return found | torch.isneginf(x) if negative else found

    return run


def _is_nan(x: Tensor) -> Tensor:
    return torch.isnan(x if x.dtype.itemsize > 1 else x.float())


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _round(x: Tensor) -> Tensor:
    return torch.round(x)


RULES: dict[str, Rule] = {
    "Abs": _wide(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": _arithmetic(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "BitShift": _shift,
    "BitwiseAnd": _wide(torch.bitwise_and),
    "BitwiseNot": _wide(torch.bitwise_not),
    "BitwiseOr": _wide(torch.bitwise_or),
    "BitwiseXor": _wide(torch.bitwise_xor),
    "Ceil": plain(torch.ceil),
    "Clip": _clip,
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": _arithmetic(divide),
    "Equal": _compare(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Greater": _compare(torch.gt),
    "GreaterOrEqual": _compare(torch.ge),
    "Identity": plain(lambda x: x),
    "IsInf": _is_inf,
    "IsNaN": plain(_is_nan),
    "Less": _compare(torch.lt),
    "LessOrEqual": _compare(torch.le),
    "Log": plain(torch.log),
    "Max": _fold(_maximum),
    "Mean": plain(_mean),
    "Min": _fold(torch.minimum),
    "Mod": lambda node: _wide(_modulo(node))(node),
    "Mul": _arithmetic(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "Pow": plain(_power),
    "Reciprocal": plain(torch.reciprocal),
    "Round": plain(_round),
    "Sign": _wide(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Sqrt": plain(torch.sqrt),
    "Sub": _arithmetic(torch.sub),
    "Sum": _fold(torch.add),
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "Where": plain(_where),
    "Xor": plain(torch.logical_xor),
}
