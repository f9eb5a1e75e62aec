"""Whether every name in the file is text. Protobuf hands out the bytes of a string field that is not UTF-8."""

from collections.abc import Iterator

import onnx

from app.errors import ModelMalformed
from workers.compute.importers import walk


def check(model: onnx.ModelProto) -> None:
    """Raise ModelMalformed for a name, type or symbol that is not UTF-8."""
    if not all(isinstance(name, str) for name in _names(model)):
        raise ModelMalformed("The model holds a name that is not UTF-8 text.")


def _names(model: onnx.ModelProto) -> Iterator[object]:
    yield from (model.producer_name, model.producer_version, model.domain, model.doc_string)
    yield from (entry.domain for entry in model.opset_import)
    for pair in model.metadata_props:
        yield from (pair.key, pair.value)
    for function in model.functions:
        yield from (function.name, function.domain, function.overload, *function.input, *function.output)
        yield from (*function.attribute, *(entry.domain for entry in function.opset_import))
    for graph in walk.graphs(model):
        yield graph.name
        yield graph.doc_string
        for value in [*graph.input, *graph.output, *graph.value_info]:
            yield from (value.name, value.doc_string, value.type.denotation)
            for dim in value.type.tensor_type.shape.dim:
                yield from (dim.dim_param, dim.denotation)
    for node in walk.nodes(model):
        yield from (node.name, node.op_type, node.domain, node.overload, node.doc_string, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name, attribute.doc_string)
    for tensor in walk.tensors(model):
        yield from (tensor.name, tensor.doc_string)
