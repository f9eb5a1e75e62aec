"""The standard's own definitions of composite operators, as bodies of simpler ones. Knows no tensors."""

from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx import defs

from workers.compute.autograd.operators.base import Node


def _schema(described: Node) -> defs.OpSchema | None:
    if not defs.has(described.op_type, described.domain):
        return None
    try:
        return defs.get_schema(described.op_type, described.opset, described.domain)
    except defs.SchemaError:
        return None


def default_attributes(described: Node) -> dict[str, ir.Attr]:
    """Return the attributes that the standard gives a value when the node does not."""
    schema = _schema(described)
    if schema is None:
        return {}
    defaults = [attribute.default_value for attribute in schema.attributes.values()]
    return {proto.name: ir.serde.deserialize_attribute(proto) for proto in defaults if proto.type}


def function_body(node: ir.Node, described: Node, given: Mapping[str, ir.Attr]) -> ir.Function | None:
    """Return the standard's body of an operator at this node's opset, None where it has none.

    `given` are the node's attributes with references resolved: some bodies depend on their values.
    """
    schema = _schema(described)
    if schema is None:
        return None
    if schema.has_function:  # type: ignore[attr-defined] # missing from the stubs
        return ir.serde.deserialize_function(schema.function_body)
    if not schema.has_context_dependent_function:  # type: ignore[attr-defined] # missing from the stubs
        return None
    return _context_dependent(node, described, schema, given)


def _context_dependent(
    node: ir.Node, described: Node, schema: defs.OpSchema, given: Mapping[str, ir.Attr]
) -> ir.Function | None:
    types = _input_types(node, described, schema)
    # The stubs of onnx lack this part of its interface.
    opsets: list[int] = schema.context_dependent_function_opset_versions  # type: ignore[attr-defined]
    versions = [version for version in opsets if version <= described.opset]
    if not versions:
        return None
    call = ir.serde.serialize_node(node)
    del call.attribute[:]
    call.attribute.extend(ir.serde.serialize_attribute(_named(attribute, name)) for name, attribute in given.items())
    expand = schema.get_context_dependent_function_with_opset_version  # type: ignore[attr-defined]
    own = list(call.output)
    # Most bodies name every output of the schema, also those that this node leaves out; a few refuse to.
    padded = [*own, *([""] * len(schema.outputs))][: max(len(schema.outputs), len(own))]
    for names in ([name or f"unused{at}" for at, name in enumerate(padded)], own):
        del call.output[:]
        call.output.extend(names)
        if encoded := expand(max(versions), call.SerializeToString(), types):
            return _deserialized(encoded)
    return None


def _deserialized(encoded: bytes) -> ir.Function:
    """Return the function; outputs that its body does not make, which nobody reads, are its first output again."""
    proto = onnx.FunctionProto()
    proto.ParseFromString(encoded)
    made = {name for node in proto.node for name in node.output}
    outputs = [name if name in made else proto.output[0] for name in proto.output]
    del proto.output[:]
    proto.output.extend(outputs)
    return ir.serde.deserialize_function(proto)


def _named(attribute: ir.Attr, name: str) -> ir.Attr:
    """Return the attribute under the name that this node calls it by."""
    return ir.Attr(name, attribute.type, attribute.value)


def _input_types(node: ir.Node, described: Node, schema: defs.OpSchema) -> list[bytes]:
    """Return each input's type; one that the graph does not tell takes its kin's, else the usual one for its place."""
    kin = {
        formal.type_str: kind for formal, kind in zip(schema.inputs, described.types, strict=False) if kind is not None
    }
    found = []
    for at, kind in enumerate(described.types):
        formal = schema.inputs[min(at, len(schema.inputs) - 1)]
        usual = ir.DataType.FLOAT if "tensor(float)" in formal.types else ir.DataType.INT64
        chosen = kind or kin.get(formal.type_str, usual)
        proto = onnx.TypeProto()
        if described.has(at):
            proto.tensor_type.elem_type = int(chosen)
            value = node.inputs[at]
            if value is not None and value.shape is not None:
                ir.serde.serialize_shape_into(proto, value.shape)
        found.append(proto.SerializeToString())
    return found
