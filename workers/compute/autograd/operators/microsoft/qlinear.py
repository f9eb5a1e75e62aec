"""Operators from bytes to bytes: each is its float operator between a dequantizer and a quantizer. Forward only."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from workers.compute.autograd.operators import activations, pooling
from workers.compute.autograd.operators.base import Kernel, Node, Rule, TensorKernel, plain


def dequantized(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Return the numbers that bytes stand for."""
    wide = x.to(torch.float32)
    return (wide if zero is None else wide - zero.to(torch.float32).reshape(())) * scale.reshape(())


def quantized(value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Round to the grid of `scale` and `zero` (absent: 0 in uint8), half to even, and saturate."""
    kind = torch.uint8 if zero is None else zero.dtype
    limits = torch.iinfo(kind)
    point = 0 if zero is None else zero.reshape(()).to(value.dtype)
    return (torch.round(value / scale.reshape(())) + point).clamp(limits.min, limits.max).to(kind)


def _unary(make: Callable[[Node], TensorKernel]) -> Rule:
    """Return the rule of an operator of one quantized input."""

    def rule(node: Node) -> Kernel:
        function = make(node)

        def run(x: Tensor, scale: Tensor, zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None) -> Tensor:
            return quantized(function(dequantized(x, scale, zero)), y_scale, y_zero)

        return run

    return rule


def _binary(function: TensorKernel) -> Rule:
    """Return the rule of an operator of two quantized inputs, each with scale and zero point, then the output's."""

    def run(*inputs: Tensor) -> Tensor:
        return quantized(function(dequantized(*inputs[:3]), dequantized(*inputs[3:6])), *inputs[6:8])

    return plain(run)


def _softmax(node: Node) -> TensorKernel:
    return activations.RULES["Softmax"](replace(node, opset=node.integer("opset", 13)))


def _channels_last(make: Callable[[Node], TensorKernel]) -> Callable[[Node], TensorKernel]:
    """Give a pool the attribute that tells where the channels are."""

    def pool(node: Node) -> TensorKernel:
        kernel = make(node)
        if not node.integer("channels_last"):
            return kernel
        return lambda x: kernel(x.movedim(-1, 1)).movedim(1, -1)

    return pool


def _concat(node: Node) -> Kernel:
    axis = node.integer("axis")

    def run(y_scale: Tensor, y_zero: Tensor, *triples: Tensor) -> Tensor:
        parts = [dequantized(*triples[at : at + 3]) for at in range(0, len(triples), 3)]
        return quantized(torch.cat(parts, axis), y_scale, y_zero)

    return run


def _where(condition: Tensor, *inputs: Tensor) -> Tensor:
    x, y = dequantized(*inputs[:3]), dequantized(*inputs[3:6])
    return quantized(torch.where(condition, x, y), *inputs[6:8])


RULES: dict[str, Rule] = {
    "QLinearAdd": _binary(torch.add),
    "QLinearAveragePool": _unary(_channels_last(pooling.RULES["AveragePool"])),
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _unary(_channels_last(pooling.RULES["GlobalAveragePool"])),
    "QLinearLeakyRelu": _unary(activations.RULES["LeakyRelu"]),
    "QLinearMul": _binary(torch.mul),
    "QLinearSigmoid": _unary(activations.RULES["Sigmoid"]),
    "QLinearSoftmax": _unary(_softmax),
    "QLinearWhere": plain(_where),
}
