"""What a model costs before it is run: parameters, non-zeros and multiply-accumulates (MACs), per node and in total."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from workers.compute.graph.model import Model
from workers.compute.graph.shapes import batch_symbols, complete, infer
from workers.compute.graph.storage import is_weight, nonzeros

# Operators that multiply but have no rule here: a total that left them out would be too small.
_UNCOUNTED = frozenset(
    {"Attention", "DeformConv", "DynamicQuantizeLSTM", "Einsum", "If", "Loop", "MatMulNBits", "Scan", "DFT", "STFT"}
)

Sizes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class NodeCost:
    """One node: the weights it is the first to read, and its MACs for one row (None: a shape is unknown)."""

    name: str
    operator: str
    parameters: int
    nonzeros: int
    macs: int | None


@dataclass(frozen=True)
class Cost:
    """A whole model. `macs` is None when that of any node is."""

    nodes: tuple[NodeCost, ...]

    @property
    def parameters(self) -> int:
        """Weights, each counted once."""
        return sum(node.parameters for node in self.nodes)

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return sum(node.nonzeros for node in self.nodes)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one row."""
        known = [node.macs for node in self.nodes if node.macs is not None]
        return sum(known) if len(known) == len(self.nodes) else None


def cost(model: Model, sizes: Mapping[str, int] | None = None) -> Cost:
    """Return what `model` costs for one row: its batch dimension is 1, `sizes` fixes the other free dimensions."""
    shapes = infer(model, {**(sizes or {}), **dict.fromkeys(batch_symbols(model), 1)})
    known = {name: full for name, shape in shapes.items() if (full := complete(shape)) is not None}
    rows = _fixed_rows(model)
    seen: set[str] = set()
    return Cost(tuple(_node(model, node, known, rows, seen) for node in model.graph))


def _fixed_rows(model: Model) -> int:
    """Return the batch size that is built into the model, or 1 where it is free."""
    shapes = [value.shape for value in model.graph.inputs if value.shape is not None and len(value.shape) > 0]
    return next((size for shape in shapes if isinstance(size := shape[0], int) and size > 0), 1) if shapes else 1


def _node(model: Model, node: ir.Node, shapes: Sizes, rows: int, seen: set[str]) -> NodeCost:
    parameters = others = 0
    for value in node.inputs:
        if value is None or value.name in seen or not value.is_initializer() or not is_weight(value):
            continue
        seen.add(str(value.name))
        parameters, others = parameters + model.read(str(value.name)).size, others + nonzeros(model, value)
    macs = _macs(node, shapes)
    return NodeCost(str(node.name), node.op_type, parameters, others, None if macs is None else macs // rows)


def _macs(node: ir.Node, shapes: Sizes) -> int | None:
    if node.op_type in _UNCOUNTED:
        return None
    if node.op_type not in _RULES:
        return 0
    data, weight = _OPERANDS.get(node.op_type, (0, 1))
    found = [shapes.get(str(value.name)) for value in (node.inputs[data], node.inputs[weight]) if value is not None]
    result = next((shapes.get(str(value.name)) for value in node.outputs if value.name), None)
    if any(shape is None for shape in (*found, result)):
        return None
    inputs = [shape for shape in found if shape is not None]
    return _RULES[node.op_type](node, inputs[0], inputs[1], result or ())


Sized = tuple[int, ...]
Rule = Callable[[ir.Node, Sized, Sized, Sized], int]


def _matmul(_: ir.Node, left: Sized, __: Sized, result: Sized) -> int:
    return math.prod(result) * left[-1]


def _gemm(node: ir.Node, left: Sized, _: Sized, result: Sized) -> int:
    transposed = node.attributes.get("transA")
    return math.prod(result) * left[0 if transposed is not None and transposed.as_int() else -1]


def _conv(_: ir.Node, __: Sized, weight: Sized, result: Sized) -> int:
    return math.prod(result) * math.prod(weight[1:])


def _conv_transpose(_: ir.Node, data: Sized, weight: Sized, __: Sized) -> int:
    return math.prod(data) * math.prod(weight[1:])


def _recurrent(_: ir.Node, data: Sized, weight: Sized, result: Sized) -> int:
    """Count W·x and R·h for every step: weight (directions, gates·hidden, input), hidden = output's last axis."""
    steps, batch, width = data
    directions, rows, _input = weight
    return steps * batch * directions * rows * (width + result[-1])


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    "Gemm": _gemm,
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _conv),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}
_OPERANDS: Mapping[str, tuple[int, int]] = dict.fromkeys(("QLinearMatMul", "QLinearConv"), (0, 3))
