"""The last step before publishing: gives each tensor its smallest lossless encoding, whatever technique made it so.

Every decode subgraph is run in ONNX Runtime before it is used; one that does not give back the very same bits is not.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime

from app.contracts.report import TensorReport
from workers.compute.encodings import ENCODINGS
from workers.compute.encodings.base import MAX_ELEMENTS, Array, Contents, Encoded
from workers.compute.graph.model import Model
from workers.compute.graph.readers import readers

# A decode subgraph costs some 0.5 to 1 kB of names, operators and small constants.
MIN_BYTES = 2048
PACKABLE = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.UINT8})
_ERRORS_ONLY = 3  # ONNX Runtime's log severity


@dataclass(frozen=True)
class Packed:
    """The packed model and one record for every tensor of 2 kB or more."""

    model: Model
    tensors: tuple[TensorReport, ...]


def pack(model: Model) -> Packed:
    """Return a copy of `model` in which each large tensor is stored in the fewest bytes, and what was chosen."""
    packed = model.clone()
    opset = packed.graph.opset_imports.get("", 0)
    start = next(iter(packed.graph), None)
    candidates = [value for value in packed.graph.initializers.values() if start is not None and _packable(value)]
    reports = []
    prefix = _unused_prefix(packed)
    for number, value in enumerate(candidates):
        contents = Contents(str(value.name), packed.read(str(value.name)), prefix, number)
        encoding, encoded, size_bytes = _smallest(contents, opset, packed.ir.ir_version)
        reports.append(_report(value, contents, encoding, size_bytes))
        if encoded.nodes and start is not None:
            _replace(packed.graph, value, encoded, start)
    return Packed(packed, tuple(reports))


def _unused_prefix(model: Model) -> str:
    """Return the beginning of a name that no value of the model has."""
    names = {str(value.name) for node in model.graph.all_nodes() for value in (*node.inputs, *node.outputs) if value}
    prefix = "packed"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _packable(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.nbytes < MIN_BYTES or tensor.size > MAX_ELEMENTS or tensor.dtype not in PACKABLE:
        return False
    return bool(value.uses()) and not value.is_graph_output() and not value.is_graph_input()


def _smallest(contents: Contents, opset: int, ir_version: int) -> tuple[str, Encoded, int]:
    """Return the name, the encoding and its bytes, decode subgraph included; dense unless something is smaller."""
    dense = ENCODINGS["dense"](contents, opset)
    if dense is None:
        msg = f"the dense encoding refused {contents.name}"
        raise RuntimeError(msg)
    options = [(name, encode(contents, opset)) for name, encode in ENCODINGS.items() if name != "dense"]
    # Names and operators count: in a small tensor they outweigh what one encoding's constants save over another's.
    files = [(name, found, decoder_file(found, opset, ir_version)) for name, found in options if found]
    for name, found, file in sorted(files, key=lambda option: len(option[2])):
        if len(file) < dense.constant_bytes and _decodes(file, contents):
            return name, found, len(file)
    return "dense", dense, dense.constant_bytes


def decoder_file(encoded: Encoded, opset: int, ir_version: int) -> bytes:
    """Return a whole ONNX file without inputs whose one output is the decoded tensor."""
    graph = ir.Graph(
        [], [encoded.output], nodes=encoded.nodes, initializers=encoded.constants, opset_imports={"": opset}, name="g"
    )
    file: bytes = ir.serde.serialize_model(ir.Model(graph, ir_version=ir_version)).SerializeToString()
    graph.outputs.clear()
    graph.remove(encoded.nodes)
    for node in encoded.nodes:
        node.name = None  # it was named in this small graph; the model's graph gives it a name of its own
    graph.initializers.clear()
    return file


def _decodes(file: bytes, contents: Contents) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (decoded,) = session.run(None, {})
    same_kind = decoded.dtype == contents.values.dtype and decoded.shape == contents.values.shape
    return same_kind and np.array_equal(Contents(contents.name, decoded).bits, contents.bits)


def _replace(graph: ir.Graph, value: ir.Value, encoded: Encoded, start: ir.Node) -> None:
    del graph.initializers[str(value.name)]
    value.replace_all_uses_with(encoded.output)
    for constant in encoded.constants:
        known = graph.initializers.get(str(constant.name))
        if known is None:
            graph.register_initializer(constant)
        else:
            constant.replace_all_uses_with(known)
    graph.insert_before(start, encoded.nodes)


def _report(value: ir.Value, contents: Contents, encoding: str, size_bytes: int) -> TensorReport:
    array: Array = contents.values
    return TensorReport(
        name=contents.name,
        operator=_operator(value),
        shape=list(array.shape),
        parameters=array.size,
        nonzeros=int(np.count_nonzero(array)),
        unique_values=int(contents.distinct.size),
        encoding=encoding,
        bits_per_weight=8 * size_bytes / array.size,
        entropy_bits_per_weight=contents.entropy_bits,
        dense_bytes=array.nbytes,
        packed_bytes=size_bytes,
        snr_db=None,
    )


def _operator(value: ir.Value) -> str:
    """Return the type of the first operator that computes with this weight."""
    found = next(readers(value), None)
    return "output" if found is None else found.node.op_type
