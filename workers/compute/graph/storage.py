"""Tells a model's weights from the scales and zero points that only say how they are stored. Knows no technique."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.model import FLOATS, Model

_INTEGERS = frozenset(
    {
        *(ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4),
        *(ir.DataType.INT2, ir.DataType.UINT2),
    }
)
# Inputs that hold scales or zero points, by operator.
_SLOTS: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), frozenset({1, 2})),
    **dict.fromkeys(("MatMulInteger", "ConvInteger"), frozenset({2, 3})),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), frozenset({1, 2, 4, 5, 6, 7})),
    "QGemm": frozenset({1, 2, 4, 5, 7, 8}),
    "DynamicQuantizeLSTM": frozenset({8, 9, 10, 11}),
    "DynamicQuantizeMatMul": frozenset({2, 3}),
    "MatMulNBits": frozenset({2, 3}),
}
# Where an operator takes a weight, and its zero point.
_ZERO_POINTS: Mapping[tuple[str, int], int] = {
    ("DequantizeLinear", 0): 2,
    ("MatMulInteger", 1): 3,
    ("ConvInteger", 1): 3,
    ("QLinearConv", 3): 5,
    ("QLinearMatMul", 3): 5,
    ("DynamicQuantizeLSTM", 1): 9,
    ("DynamicQuantizeLSTM", 2): 11,
}
# A quantised bias is int32, and a vector like the indices and shapes that are no weights.
_BIASES = frozenset({("DequantizeLinear", 0), ("QLinearConv", 8), ("QGemm", 6)})
_MOVING = frozenset({"Cast", "Gather", "Identity", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze"})


def is_weight(value: ir.Value) -> bool:
    """Whether an initializer holds weights or biases, in whatever type they are stored."""
    tensor = value.const_value
    if tensor is None or tensor.size <= 1:
        return False
    if tensor.dtype == ir.DataType.INT32:
        return any((use.node.op_type, use.idx) in _BIASES for use in value.uses())
    if tensor.dtype in _INTEGERS:
        return len(tensor.shape) > 1 and not _serves_storage(value)
    return tensor.dtype in FLOATS and not _serves_storage(value)


def nonzeros(model: Model, value: ir.Value) -> int:
    """Return how many weights of an initializer are not zero; its zero point is what stands for zero."""
    weights = model.read(str(value.name))
    point = next((found for use in value.uses() if (found := _zero_point(model, use.node, use.idx)) is not None), None)
    # Another shape than one scalar belongs to an axis; symmetric quantisation, which has no such point, is the rule.
    if point is None or point.size == 0 or (point != point.flat[0]).any():
        return int(np.count_nonzero(weights))
    return int(np.count_nonzero(weights != point.flat[0]))


def _zero_point(model: Model, node: ir.Node, index: int) -> NDArray[np.generic] | None:
    place = _ZERO_POINTS.get((node.op_type, index))
    if place is None or place >= len(node.inputs):
        return None
    point = node.inputs[place]
    return model.read(str(point.name)) if point is not None and point.is_initializer() else None


def _serves_storage(value: ir.Value) -> bool:
    """Whether a value is a scale or a zero point: read as one, or multiplied with what was an integer."""
    for use in value.uses():
        node = use.node
        if use.idx in _SLOTS.get(node.op_type, ()):
            return True
        if node.op_type == "Mul" and any(_was_integer(other) for other in node.inputs if other is not value):
            return True
        if use.idx == 0 and node.op_type in _MOVING and _serves_storage(node.outputs[0]):
            return True
    return False


def _was_integer(value: ir.Value | None) -> bool:
    """Whether a value is stored integers, retyped and moved about, or the scale that was found for a row."""
    while value is not None:
        producer = value.producer()
        if producer is None:
            return value.const_value is not None and value.const_value.dtype in _INTEGERS
        if producer.op_type == "DynamicQuantizeLinear":
            return True
        if producer.op_type not in _MOVING:
            return False
        value = producer.inputs[0]
    return False
