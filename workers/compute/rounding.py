"""Rewrites the integer products of dynamic int8 as floating ones of rounded inputs, which training can pass through."""

import numpy as np
import onnx_ir as ir

from workers.compute.graph.model import Model

_LEVELS = 255  # of DynamicQuantizeLinear, whose rule for scale and zero point this is
_LEAST = 1e-30  # instead of a scale of zero


def rounded_inputs(model: Model) -> None:
    """Replace every MatMulInteger with the casts and scales around it, in place."""
    known: dict[int, ir.Value] = {}
    for node in list(model.graph):
        if node.op_type == "MatMulInteger":
            _rewrite(model, node, known)


def _rewrite(model: Model, product: ir.Node, known: dict[int, ir.Value]) -> None:
    """MatMulInteger → Cast → Mul(x's scale · w's scale) becomes MatMul(rounded x, DequantizeLinear(w))."""
    source = product.inputs[0].producer() if product.inputs[0] is not None else None
    cast = _only(product.outputs[0], "Cast")
    scaled = None if cast is None else _only(cast.outputs[0], "Mul")
    if source is None or source.op_type != "DynamicQuantizeLinear" or cast is None or scaled is None:
        return
    factors = next(value.producer() for value in scaled.inputs if value is not None and value is not cast.outputs[0])
    scale = next((v for v in (factors.inputs if factors else ()) if v is not None and v.is_initializer()), None)
    weight, x = product.inputs[1], source.inputs[0]
    if scale is None or weight is None or weight.shape is None or x is None:
        return
    if id(x) not in known:
        known[id(x)] = _rounded(model, source, x)
    output = scaled.outputs[0]
    zero = [product.inputs[3]] if len(product.inputs) > 3 else []  # noqa: PLR2004  # the weight's zero point
    axis = {"axis": len(weight.shape) - 1}
    decoded = ir.node("DequantizeLinear", [weight, scale, *zero], axis, name=f"{weight.name}/decoded")
    dense = ir.node("MatMul", [known[id(x)], decoded.outputs[0]], name=f"{output.name}/product")
    decoded.outputs[0].name, dense.outputs[0].name = f"{weight.name}/float", f"{output.name}/float"
    model.graph.insert_after(scaled, [decoded, dense])
    name, shape, kind = output.name, output.shape, output.type
    output.replace_all_uses_with(dense.outputs[0], replace_graph_outputs=True)
    model.graph.remove([scaled, cast, product], safe=True)
    dense.outputs[0].name, dense.outputs[0].shape, dense.outputs[0].type = name, shape, kind


def _only(value: ir.Value, op_type: str) -> ir.Node | None:
    uses = [use.node for use in value.uses()]
    return uses[0] if len(uses) == 1 and uses[0].op_type == op_type else None


def _rounded(model: Model, source: ir.Node, x: ir.Value) -> ir.Value:
    """Add what finds a range and rounds to it: DynamicQuantizeLinear in parts that gradients pass."""
    prefix, nodes = f"{x.name}/rounded", list[ir.Node]()

    def add(op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        nodes.append(ir.node(op_type, list(inputs), attributes, name=f"{prefix}/{len(nodes)}"))
        nodes[-1].outputs[0].name = f"{prefix}/{len(nodes)}"
        return nodes[-1].outputs[0]

    nothing, levels, least = (
        model.add(f"{prefix}/{number:g}", np.asarray(number, np.float32)) for number in (0.0, _LEVELS, _LEAST)
    )
    low = add("Min", add("ReduceMin", x, keepdims=0), nothing)
    high = add("Max", add("ReduceMax", x, keepdims=0), nothing)
    scale = add("Max", add("Div", add("Sub", high, low), levels), least)
    zero = add("Cast", add("Round", add("Div", add("Neg", low), scale)), to=int(ir.DataType.UINT8))
    found = add("DequantizeLinear", add("QuantizeLinear", x, scale, zero), scale, zero)
    model.graph.insert_after(source, nodes)
    return found
