"""Operators that make tensors from shapes and numbers."""

import math

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compute.autograd.dtypes import TORCH_TYPES, widen
from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain, scalar


def _constant_of_shape(node: Node) -> Kernel:
    value = node.attributes.get("value")
    filler = torch.zeros(1) if value is None else value
    kind = widen(filler.dtype, node.precision)

    def run(shape: Tensor) -> Tensor:
        return torch.full(shape.tolist(), scalar(filler), dtype=kind, device=shape.device)

    return run


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = scalar(start), scalar(limit), scalar(delta)
    count = max(math.ceil((last - first) / step), 0)
    steps: Tensor = torch.arange(count, device=start.device) * step + first
    return steps.to(start.dtype)


def _eye_like(node: Node) -> Kernel:
    diagonal, kind = node.integer("k"), node.attributes.get("dtype")

    def run(x: Tensor) -> Tensor:
        target = x.dtype if kind is None else widen(TORCH_TYPES[ir.DataType(kind)], node.precision)
        ones = torch.ones(x.shape, device=x.device)
        return (torch.triu(ones, diagonal) * torch.tril(ones, diagonal)).to(target)

    return run


RULES: dict[str, Rule] = {
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "Range": plain(_range),
}
