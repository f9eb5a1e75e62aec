"""Operators that draw random numbers. A node with a `seed` draws the same numbers in each new executor."""

from collections.abc import Callable

import onnx_ir as ir
import torch
from torch import Generator, Tensor

from workers.compute.autograd.dtypes import TORCH_TYPES, widen
from workers.compute.autograd.operators.base import Kernel, Node, Rule

# Draws a tensor of a shape, from the node's own generator or, for None, from PyTorch's.
Draw = Callable[[list[int], Generator | None], Tensor]


def _generator(node: Node) -> Generator | None:
    """Return the node's own generator, None when it has no seed; its numbers are drawn on the host."""
    if "seed" not in node.attributes:
        return None
    return torch.Generator().manual_seed(int(node.number("seed") * 1000))  # seeds are floats: 0.5 is not 0


def _normal(node: Node) -> Draw:
    mean, scale = node.number("mean"), node.number("scale", 1.0)
    return lambda shape, source: torch.randn(shape, generator=source) * scale + mean


def _uniform(node: Node) -> Draw:
    low, high = node.number("low"), node.number("high", 1.0)
    return lambda shape, source: torch.rand(shape, generator=source) * (high - low) + low


def _shaped(make: Callable[[Node], Draw]) -> Rule:
    def rule(node: Node) -> Kernel:
        draw, source, shape = make(node), _generator(node), node.integers("shape") or []
        kind = widen(TORCH_TYPES[ir.DataType(node.integer("dtype", ir.DataType.FLOAT))], node.precision)
        return lambda: draw(shape, source).to(kind)

    return rule


def _like(make: Callable[[Node], Draw]) -> Rule:
    def rule(node: Node) -> Kernel:
        draw, source, wanted = make(node), _generator(node), node.integer("dtype")
        kind = widen(TORCH_TYPES[ir.DataType(wanted)], node.precision) if wanted else None
        return lambda x: draw(list(x.shape), source).to(x.device, kind or x.dtype)

    return rule


def _multinomial(node: Node) -> Kernel:
    count, source = node.integer("sample_size", 1), _generator(node)
    kind = TORCH_TYPES[ir.DataType(node.integer("dtype", ir.DataType.INT32))]

    def run(x: Tensor) -> Tensor:
        odds = torch.softmax(x.float(), -1).cpu()
        return torch.multinomial(odds, count, replacement=True, generator=source).to(x.device, kind)

    return run


RULES: dict[str, Rule] = {
    "Multinomial": _multinomial,
    "RandomNormal": _shaped(_normal),
    "RandomNormalLike": _like(_normal),
    "RandomUniform": _shaped(_uniform),
    "RandomUniformLike": _like(_uniform),
}
