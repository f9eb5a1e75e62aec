"""Softmax as exporters that know no such operator write it: exponentials over their sum (TensorFlow, JAX)."""

import onnx_ir as ir

from workers.compute.graph.model import Model
from workers.compute.graph.operands import given, listed, stored

# Between the sum and the division: what gives the sum the exponentials' shape.
_RESHAPING = frozenset({"Reshape", "Expand", "Unsqueeze", "Squeeze", "Identity", "Cast"})


def written_out(model: Model, quotient: ir.Node | None) -> tuple[ir.Value, int] | None:
    """Return the exponents and the axis that they are summed over, where `quotient` gives a softmax's results.

    That is exp(z) / sum(exp(z)) or exp(z) · (1 / sum(exp(z))). The exponents are logits less a number for each row,
    which no softmax sees.
    """
    if quotient is None or quotient.op_type not in {"Div", "Mul"}:
        return None
    pairs = [(0, 1)] if quotient.op_type == "Div" else [(0, 1), (1, 0)]
    for over, under in pairs:
        powers, total = given(quotient, over), given(quotient, under)
        if quotient.op_type == "Mul":
            inverse = _producer(total)
            total = given(inverse, 0) if inverse is not None and inverse.op_type == "Reciprocal" else None
        exp, summed = _producer(powers), _producer(total)
        if exp is None or summed is None or (exp.op_type, summed.op_type) != ("Exp", "ReduceSum"):
            continue
        axes = listed(summed, "axes", stored(model, summed, 1))
        exponents = given(exp, 0)
        if given(summed, 0) is exp.outputs[0] and exponents is not None and axes is not None and len(axes) == 1:
            return exponents, axes[0]
    return None


def _producer(value: ir.Value | None) -> ir.Node | None:
    """Return the node behind a value and behind what reshapes it."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _RESHAPING:
        value = given(node, 0)
        node = None if value is None else value.producer()
    return node
