"""The standard's own definitions of composite operators, as bodies of simpler ones. Knows no tensors."""

import onnx
import onnx_ir as ir
from onnx import defs

from workers.compute.autograd.operators.base import Node


def function_body(node: ir.Node, described: Node) -> ir.Function | None:
    """Return the standard's body of an operator at this node's opset, None where it has none."""
    if described.domain or not defs.has(node.op_type, described.domain):
        return None
    try:
        schema = defs.get_schema(node.op_type, described.opset, described.domain)
    except defs.SchemaError:
        return None
    if schema.has_function:
        return ir.serde.deserialize_function(schema.function_body)
    if not schema.has_context_dependent_function:
        return None
    return _context_dependent(node, described, schema)


def _context_dependent(node: ir.Node, described: Node, schema: defs.OpSchema) -> ir.Function | None:
    types = [b"" if value is None else _type_of(value) for value in node.inputs]
    versions = [version for version in schema.context_dependent_function_opset_versions if version <= described.opset]
    if not versions:
        return None
    encoded = schema.get_context_dependent_function_with_opset_version(
        max(versions), ir.serde.serialize_node(node).SerializeToString(), types
    )
    proto = onnx.FunctionProto()
    proto.ParseFromString(encoded)
    return ir.serde.deserialize_function(proto)


def _type_of(value: ir.Value) -> bytes:
    proto = onnx.TypeProto()
    if value.dtype is not None:
        proto.tensor_type.elem_type = int(value.dtype)
    return proto.SerializeToString()
