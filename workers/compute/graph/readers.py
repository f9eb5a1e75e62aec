"""Which operators compute with a weight, past those that only move or retype it on its way."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from workers.compute.graph.model import Model

_PASSING = frozenset({"Identity", "Transpose", "Reshape", "Cast", "DequantizeLinear", "Unsqueeze", "Squeeze"})
# Operators whose matrices may be pruned and shared, with the inputs that hold them. Biases, norms and masks may not.
_MATRICES: dict[str, frozenset[int]] = {
    **dict.fromkeys(("MatMul", "Gemm"), frozenset({0, 1})),
    **dict.fromkeys(("Conv", "ConvTranspose"), frozenset({1})),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), frozenset({1, 2})),
    "Gather": frozenset({0}),
    "Einsum": frozenset({0, 1, 2, 3}),
}
_MATRIX = 2


@dataclass(frozen=True)
class Reader:
    """A node, the input at which it reads the weight, and the weight's axes in the order in which they arrive there.

    `axes` is None where a reshape on the way mixed them.
    """

    node: ir.Node
    index: int
    axes: tuple[int, ...] | None


def readers(value: ir.Value) -> Iterator[Reader]:
    """Yield every operator that computes with `value`."""
    rank = len(value.shape) if value.shape is not None else 0
    yield from _follow(value, tuple(range(rank)))


def matrices(model: Model) -> dict[str, Reader]:
    """Return the weights of rank 2 or more that are matrices, kernels or tables, with their first such reader."""
    found = {}
    for name, value in model.weights().items():
        if value.const_value is None or len(value.const_value.shape) < _MATRIX:
            continue
        every = (reader for reader in readers(value) if reader.index in _MATRICES.get(reader.node.op_type, ()))
        if (reader := next(every, None)) is not None:
            found[name] = reader
    return found


def input_axis(reader: Reader) -> int | None:
    """Return the weight's axis that is summed over when the reader multiplies, or None where there is no one such."""
    if reader.axes is None:
        return None
    place = _summed(reader)
    return None if place is None else reader.axes[place]


def output_axis(reader: Reader) -> int | None:
    """Return the weight's axis of output channels, or of a table's rows, or None where there is no one such."""
    if reader.axes is None or len(reader.axes) < _MATRIX:
        return None
    node, last = reader.node, len(reader.axes) - 1
    if node.op_type in {"Conv", "Gather"}:
        return reader.axes[0]
    if node.op_type in {"ConvTranspose", "LSTM", "GRU", "RNN"}:
        return reader.axes[1]
    if node.op_type in {"MatMul", "Gemm"} and reader.index == 1:
        transposed = node.attributes.get("transB")
        return reader.axes[last - 1 if transposed is not None and transposed.as_int() else last]
    return None


def _summed(reader: Reader) -> int | None:
    node, last = reader.node, len(reader.axes or ()) - 1
    if node.op_type in {"MatMul", "Gemm"}:
        transposed = node.attributes.get("transA" if reader.index == 0 else "transB")
        flipped = transposed is not None and bool(transposed.as_int())
        return last - 1 if flipped == (reader.index == 0) else last
    return {"Conv": 1, "ConvTranspose": 0, "LSTM": 2, "GRU": 2, "RNN": 2}.get(node.op_type)


def _follow(value: ir.Value, axes: tuple[int, ...] | None) -> Iterator[Reader]:
    for use in value.uses():
        node = use.node
        if node.op_type in _PASSING and use.idx == 0 and node.outputs:
            yield from _follow(node.outputs[0], _moved(node, axes))
        else:
            yield Reader(node, use.idx, axes)


def _moved(node: ir.Node, axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if axes is None or node.op_type in {"Reshape", "Unsqueeze", "Squeeze"}:
        return None
    if node.op_type != "Transpose":
        return axes
    order = node.attributes.get("perm")
    return axes[::-1] if order is None else tuple(axes[place] for place in order.as_ints())
