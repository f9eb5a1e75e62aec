"""Whether the graph hangs together: names, order, inputs, outputs."""

from collections.abc import Iterable

import onnx

from app.errors import ModelMalformed, ModelUnsupported
from workers.compute.wording import shown

MAX_AXES = 32
_FREE = -1  # what some exporters write for an axis of any length


def check(model: onnx.ModelProto) -> None:
    """Raise ModelMalformed for cycles, dangling or doubled names; ModelUnsupported without usable inputs or outputs."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    if len(graph.initializer) != len({tensor.name for tensor in graph.initializer}):
        raise ModelMalformed("Two initializers have the same name.")
    fed = [value for value in graph.input if value.name not in weights]
    if not fed:
        raise ModelUnsupported("The model has no inputs.")
    if not graph.output:
        raise ModelMalformed("The model has no outputs.")
    for value in fed:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise ModelUnsupported(f"Input {shown(value.name)!r} is not a tensor of known rank.")
    _check_axes([*graph.input, *graph.output, *graph.value_info])
    known = _known_after_every_node(graph, weights | {value.name for value in fed})
    for value in graph.output:
        if value.name not in known:
            raise ModelMalformed(f"Output {shown(value.name)!r} is made by no node.")
        _refuse_collection(value)


def _check_axes(values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        axes = value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else []
        if len(axes) > MAX_AXES:
            raise ModelUnsupported(f"Value {shown(value.name)!r} has {len(axes)} axes; up to {MAX_AXES} are supported.")
        if any(axis.dim_value < _FREE for axis in axes):
            raise ModelMalformed(f"Value {shown(value.name)!r} has a negative axis.")


def _refuse_collection(output: onnx.ValueInfoProto) -> None:
    kind = output.type.WhichOneof("value")
    if kind in {"sequence_type", "map_type"}:  # skl2onnx gives classifiers a sequence of maps by default
        msg = (
            f"Output {shown(output.name)!r} is a {kind.removesuffix('_type')}, not a tensor; "
            "with skl2onnx, convert with options={'zipmap': False}."
        )
        raise ModelUnsupported(msg)


def _known_after_every_node(graph: onnx.GraphProto, known: set[str]) -> set[str]:
    made = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                why = "there is a cycle, or nodes are out of order" if name in made else "nothing makes that value"
                raise ModelMalformed(f"Node {shown(node.name or node.op_type)!r} reads {shown(name)!r}, but {why}.")
        for name in node.output:
            if name and name in known:
                raise ModelMalformed(f"The value {shown(name)!r} is made twice.")
        known.update(name for name in node.output if name)
    return known
