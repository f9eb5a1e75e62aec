"""Older names and variants of standard operators, by the standard's own rules."""

from dataclasses import replace

import torch
from torch import Tensor

from workers.compute.autograd.operators import generation, indexing, quantization, vision
from workers.compute.autograd.operators import shapes as standard
from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain, scalar

# The opset whose GridSample has the same attributes and modes.
_SAMPLING = 16


def _expand_dims(x: Tensor, axis: Tensor) -> Tensor:
    return x.unsqueeze(int(scalar(axis)))


def _range(start: Tensor, limit: Tensor, delta: Tensor | None = None) -> Tensor:
    steps: Tensor = _STEPS(start, limit, torch.ones_like(start) if delta is None else delta)
    return steps


def _grid_sample(node: Node) -> Kernel:
    return vision.RULES["GridSample"](replace(node, opset=_SAMPLING))


def _unique(node: Node) -> Kernel:
    """Unique values in the order in which they first occur, each element's place among them, and counts."""
    kernel = indexing.RULES["Unique"](replace(node, attributes={"sorted": 0}))

    def run(x: Tensor) -> tuple[Tensor, ...]:
        values, _, places, counts = kernel(x)
        return values, places, counts

    return run


_STEPS = generation.RULES["Range"](Node(op_type="Range", opset=11))

RULES: dict[str, Rule] = {
    "DequantizeLinear": quantization.RULES["DequantizeLinear"],
    "ExpandDims": plain(_expand_dims),
    "GatherND": indexing.RULES["GatherND"],
    "GridSample": _grid_sample,
    "Inverse": plain(torch.linalg.inv),
    "Pad": standard.RULES["Pad"],
    "QuantizeLinear": quantization.RULES["QuantizeLinear"],
    "Range": plain(_range),
    "Trilu": standard.RULES["Trilu"],
    "Unique": _unique,
}
