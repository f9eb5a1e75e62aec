"""Weights that a file computes from constants, put back into plain tensors so that techniques see them.

So are the weights of our own packed artifacts, and those kept as integers, in another type, or turned. A runtime does
the same when it loads the file. Knows no encoding.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper

from app.errors import RuntimeRefused
from workers.compute.graph.dataflow import bodies, constants, drop_dead, reads
from workers.compute.graph.model import MAX_FILE_BYTES, MAX_FOLDED_ELEMENTS, Model
from workers.compute.graph.shapes import VENDOR, Shape, complete, infer_types
from workers.compute.runtime import SessionOptions, open_session, translated

MAX_TOTAL_BYTES = 4 << 30  # a child has 16 GiB for the model, its copies and its training
_TOGETHER_BYTES = 64 << 20  # evaluated in one session, whose start takes longer than a small tensor
# Constants of fewer elements are shapes, axes and numbers to make masks and positions from, not stored weights.
_LEAST_STORED = 64
# Constants of more elements are not copied: what several operators read is one weight, which stays one. The tables that
# serve the decoding of many tensors have no more.
_MOST_COPIED = 256
# What repeats a tensor takes less room as it is; Dropout is random in training mode.
_STAYING = frozenset(
    {"Bernoulli", "Dropout", "Expand", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike", "Tile"}
)
_DECODING = "DequantizeLinear"
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
_SIGNED = (ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64)
_UNSIGNED = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64)
_KINDS = frozenset({*_FLOATS, *_SIGNED, *_UNSIGNED})
_NARROW = frozenset(kind for kind in ir.DataType if kind.is_integer() and kind.bitwidth <= 16)  # noqa: PLR2004  # bits

_Array = NDArray[np.generic]


def fold(model: Model, *, dequantize: bool = True) -> Model:
    """Return a copy whose stored weights are initializers, named as what computed them was, with the runtime's bits.

    Left alone are values that are not finite, of unknown size or too large, and weights that are also read in another
    form. DequantizeLinear stays where activations are quantised too, since the runtime then calculates in integers, and
    everywhere without `dequantize`.
    """
    if not any(_reads_stored(node) for node in model.graph):
        return model
    copy = model.clone()
    staying = _STAYING if dequantize and not _quantizes_activations(copy.graph) else _STAYING | {_DECODING}
    constant = _Constant(copy, infer_types(copy, {}), staying)
    for batch in _batches(constant, _stored_values(constant)):
        for value, array in zip(batch, _evaluated(constant, batch), strict=False):
            if array.dtype.kind != "f" or np.isfinite(array).all():  # an infinite one is a mask
                _replace(copy.graph, value, array)
    drop_dead(copy.graph)
    return copy


def _reads_stored(node: ir.Node) -> bool:
    read = reads(node)
    return all(value.is_initializer() for value in read) and any(_size(value) >= _LEAST_STORED for value in read)


def _size(value: ir.Value) -> int:
    """Return the elements of a constant that may store a weight: truths make masks."""
    tensor = value.const_value
    return 0 if tensor is None or tensor.dtype in {ir.DataType.BOOL, ir.DataType.STRING} else tensor.size


@dataclass(frozen=True)
class _Beneath:
    """What a value is computed from: the elements of the largest constant, of all wide ones, and of narrow integers."""

    largest: int = 0
    wide: int = 0
    narrow: int = 0

    def __add__(self, other: "_Beneath") -> "_Beneath":
        return _Beneath(max(self.largest, other.largest), self.wide + other.wide, self.narrow + other.narrow)


def _constant_alone(value: ir.Value) -> _Beneath:
    size = _size(value)
    narrow = value.const_value is not None and value.const_value.dtype in _NARROW
    return _Beneath(size, 0 if narrow else size, size if narrow else 0)


def _quantizes_activations(graph: ir.Graph) -> bool:
    known = constants(graph)
    return any(node.op_type == "QuantizeLinear" and node.inputs[0] not in known for node in graph)


@dataclass(frozen=True)
class _Constant:
    """A model, the types of its values, and the operators that are not evaluated whatever they read."""

    model: Model
    types: Mapping[str, tuple[ir.DataType, Shape]]
    staying: Collection[str]

    def nodes(self, without: Collection[ir.Node]) -> list[ir.Node]:
        """Return the nodes that can be evaluated with what is in the file, in order; none of `without`."""
        known = set(self.model.graph.initializers.values()) - set(self.model.graph.inputs)
        found = []
        for node in self.model.graph:
            if node not in without and self._is_plain(node) and all(value in known for value in reads(node)):
                found.append(node)
                known.update(node.outputs)
        return found

    def _is_plain(self, node: ir.Node) -> bool:
        """Whether a node has one result that depends on its inputs alone, of a known size within the limit."""
        if node.domain not in {"", "ai.onnx", VENDOR} or node.op_type in self.staying or len(node.outputs) != 1:
            return False
        if any(True for _ in bodies(node)) or node.op_identifier() in self.model.ir.functions:
            return False
        elements = self.elements(node.outputs[0])
        return elements is not None and elements <= MAX_FOLDED_ELEMENTS

    def holds(self, value: ir.Value, beneath: _Beneath) -> bool:
        """Whether a result is a weight that was stored, not one made larger: only narrow integers decode to more."""
        kind, elements = self.types[str(value.name)][0], self.elements(value) or 0
        decoded = beneath.narrow >= _LEAST_STORED or elements <= beneath.wide
        read = bool(value.uses()) and not value.is_graph_output()
        return read and kind in _KINDS and beneath.largest >= _LEAST_STORED and decoded

    def elements(self, value: ir.Value) -> int | None:
        """Return the number of elements, None where it is not known."""
        shape = complete(self.types[str(value.name)][1]) if str(value.name) in self.types else None
        return None if shape is None else math.prod(shape)

    def size_bytes(self, value: ir.Value) -> int:
        """Return the bytes of the result of one of `nodes`."""
        return (self.elements(value) or 0) * -(-self.types[str(value.name)][0].bitwidth // 8)


def _stored_values(constant: _Constant) -> list[ir.Value]:
    """Return the values that storage ends in: computed from stored constants alone, and read by what is not."""
    without = set[ir.Node]()
    while True:
        nodes = constant.nodes(without)
        stored = _stored(constant.model.graph, nodes)
        ends, copying = _ends(nodes, stored)
        if not copying:
            break
        without |= copying
    made = (node.outputs[0] for node in nodes)
    return [value for value in made if ends[value] is value and constant.holds(value, stored[value])]


def _stored(graph: ir.Graph, nodes: Sequence[ir.Node]) -> dict[ir.Value, _Beneath]:
    """Return what each value is computed from, in the order of the graph."""
    found = {value: _constant_alone(value) for value in graph.initializers.values()}
    for node in nodes:
        found[node.outputs[0]] = sum((found[value] for value in reads(node)), start=_Beneath())
    return found


def _ends(nodes: Sequence[ir.Node], stored: dict[ir.Value, _Beneath]) -> tuple[dict[ir.Value, ir.Value], set[ir.Node]]:
    """Return the one value that each serves, itself where it is read otherwise, and nodes that would copy a weight."""
    inside, ends, copying = set(nodes), dict[ir.Value, ir.Value](), set[ir.Node]()
    for value in reversed(stored):
        served = {ends[use.node.outputs[0]] if use.node in inside else value for use in value.uses()}
        ends[value] = served.pop() if len(served) == 1 and not value.is_graph_output() else value
        if ends[value] is value and stored[value].largest > _MOST_COPIED:
            copying.update(use.node for use in value.uses() if use.node in inside)
    return ends, copying


def _batches(constant: _Constant, values: Sequence[ir.Value]) -> Iterator[list[ir.Value]]:
    """Yield the values some at a time, as many of them as there may be in all."""
    batch, together, total = list[ir.Value](), 0, 0
    for value in values:
        size = constant.size_bytes(value)
        if total + size > MAX_TOTAL_BYTES:
            continue
        if batch and together + size > _TOGETHER_BYTES:
            yield batch
            batch, together = [], 0
        batch.append(value)
        together, total = together + size, total + size
    if batch:
        yield batch


def _evaluated(constant: _Constant, values: Sequence[ir.Value]) -> Sequence[_Array]:
    """Return the values' contents as ONNX Runtime computes them; nothing where it cannot."""
    file = _file(constant, values)
    if file is None:
        return []
    try:
        session = open_session(file, SessionOptions(threads=1, basic=True))
        with translated("run"):
            found: Sequence[_Array] = session.run([str(value.name) for value in values], {})
    except RuntimeRefused:
        return []
    return found


def _file(constant: _Constant, values: Sequence[ir.Value]) -> bytes | None:
    """Return an ONNX file without inputs that computes the values, None where one file cannot hold it."""
    needed, pending = set[ir.Value](), list(values)
    while pending:
        value = pending.pop()
        producer = value.producer()
        if value not in needed and producer is not None:
            pending += reads(producer)
        needed.add(value)
    model = constant.model
    tensors = {name: value.const_value for name, value in model.graph.initializers.items() if value in needed}
    if sum(tensor.nbytes for tensor in tensors.values() if tensor is not None) > MAX_FILE_BYTES // 2:
        return None
    initializers = []
    for name, tensor in tensors.items():
        if tensor is not None:
            initializers.append(ir.serde.serialize_tensor(tensor))
            initializers[-1].name = name
    nodes = [ir.serde.serialize_node(node) for node in model.graph if not needed.isdisjoint(node.outputs)]
    kinds = ((str(value.name), constant.types[str(value.name)]) for value in values)
    outputs = [helper.make_tensor_value_info(name, int(kind), complete(shape)) for name, (kind, shape) in kinds]
    graph = helper.make_graph(nodes, "constants", [], outputs, initializers)
    opsets = [helper.make_opsetid(domain, version) for domain, version in model.graph.opset_imports.items()]
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=model.ir.ir_version)
    content: bytes = proto.SerializeToString()
    return content


def _replace(graph: ir.Graph, value: ir.Value, array: _Array) -> None:
    """Let readers of a computed value read an initializer of its name."""
    name = str(value.name)
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    weight = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    value.replace_all_uses_with(weight)
    graph.register_initializer(weight)
