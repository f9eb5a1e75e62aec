"""Shapes of every value of the graph, by ONNX's own inference. Knows no values but small integer constants."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from workers.compute.graph import nesting
from workers.compute.graph.dataflow import bodies
from workers.compute.graph.model import Model
from workers.compute.graph.nesting import NESTING
from workers.compute.graph.vendor_shapes import vendor_outputs

Shape = tuple[int | None, ...]
Array = NDArray[np.generic]

# Larger tensors are no shapes, axes or lengths.
_MAX_ELEMENTS = 64
# Operators that exporters build shapes with. All else computes with data, whose values do not matter here.
_SHAPE_ARITHMETIC = frozenset(
    {"Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor"}
    | {"Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceProd"}
    | {"Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
)
_BATCH_AXIS = 0
_NOT_INFERRED = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError)
VENDOR = "com.microsoft"
_BATCHED_SCAN = 8  # this opset's Scan had another form

# Sizes for free dimensions: primes that no kernel or width has, primes below short position tables, and multiples of
# 32 for image models that halve five times.
_APART = ((59, 61, 67, 71, 73, 79), (5, 7, 11, 13, 17, 19), (160, 224, 352, 416, 544, 608))


def symbols(model: Model) -> dict[str, list[tuple[str, int]]]:
    """Return each free dimension of the inputs, by its name or as `input.axis`, with the inputs and axes it has."""
    found: dict[str, list[tuple[str, int]]] = {}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                found.setdefault(_symbol(value, axis), []).append((str(value.name), axis))
    return found


def batch_symbols(model: Model) -> frozenset[str]:
    """Return the free dimensions that count rows: first of an input's."""
    return frozenset(name for name, places in symbols(model).items() if any(axis == _BATCH_AXIS for _, axis in places))


def infer(model: Model, sizes: Mapping[str, int]) -> dict[str, Shape]:
    """Return the shape of every value by name where it is known, with the free dimensions `sizes` fixed.

    A size that inference cannot find is None; so is a free dimension that `sizes` does not name.
    """
    return {name: shape for name, (_, shape) in infer_types(model, sizes).items()}


def infer_types(model: Model, sizes: Mapping[str, int]) -> dict[str, tuple[ir.DataType, Shape]]:
    """Return element type and shape of every value, as `infer` does.

    Nodes are inferred one by one, because only then are shapes that the graph computes from shapes known in time, at
    every opset.
    """
    return infer_all(model, sizes).types


@dataclass(frozen=True)
class Inferred:
    """Element type and shape by value name, and the small numbers that the graph computes with shapes.

    `inside` has the same for the bodies of If, Loop and Scan, with what they see around them.
    """

    types: dict[str, tuple[ir.DataType, Shape]] = field(default_factory=dict)
    numbers: dict[str, Array] = field(default_factory=dict)
    inside: dict[ir.Graph, "Inferred"] = field(default_factory=dict)

    @property
    def complete_shapes(self) -> int:
        """How many shapes are known whole."""
        return sum(complete(shape) is not None for _, shape in self.types.values())


def infer_all(model: Model, sizes: Mapping[str, int]) -> Inferred:
    """Return what `infer_types` does, with the numbers it found on the way."""
    walk = _Walk(dict(model.graph.opset_imports), {}, {})
    for value in model.graph.inputs:
        if value.dtype is not None and value.shape is not None:
            walk.types[str(value.name)] = _type(value.dtype, _fixed(value, sizes))
    walk.go_through(model.graph)
    return walk.inferred()


def infer_apart(model: Model) -> dict[str, tuple[ir.DataType, Shape]]:
    """Return types and shapes with a size of its own for each free dimension, so that equal sizes mean equal shapes."""
    return infer_all_apart(model).types


def infer_all_apart(model: Model) -> Inferred:
    """Return what `infer_apart` does, with the numbers found.

    Of several sets of sizes the one is taken that leaves the fewest shapes unknown: a model may not bear all of them.
    """
    free = sorted(symbols(model))
    tries = (infer_all(model, dict(zip(free, cycle(sizes), strict=False))) for sizes in _APART)
    best = Inferred()
    for found in tries:
        best = max(best, found, key=lambda each: each.complete_shapes)
        if best.complete_shapes == len(best.types) >= sum(len(node.outputs) for node in model.graph):
            break
    return best


class _Walk:
    """Types known so far by value name, and the values of those that are small constants."""

    def __init__(self, versions: dict[str, int], types: dict[str, onnx.TypeProto], known: dict[str, Array]) -> None:
        self.types = types
        self.known = known
        self.inside: dict[ir.Graph, Inferred] = {}
        self._versions = versions
        self._opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]

    def inferred(self) -> Inferred:
        """Return what is known by now."""
        typed = ((name, kind.tensor_type.elem_type, _sizes(kind)) for name, kind in self.types.items())
        types = {name: (ir.DataType(element), shape) for name, element, shape in typed if shape is not None}
        return Inferred(types, self.known, self.inside)

    def go_through(self, graph: ir.Graph) -> None:
        """Visit all nodes of a graph whose inputs' types are known."""
        for name, initializer in graph.initializers.items():
            if initializer.const_value is not None:
                tensor = initializer.const_value
                self.types[name] = _type(tensor.dtype, tuple(tensor.shape.numpy()))
                if tensor.size <= _MAX_ELEMENTS:
                    self.known[name] = tensor.numpy()
        for node in graph:
            if node.op_type in NESTING and self._versions.get("", 0) > _BATCHED_SCAN:
                self._enter(node)
            else:
                self.visit(node)

    def _enter(self, node: ir.Node) -> None:
        """Go through the bodies of a node, which see what is around it."""
        kinds = [self.types.get(str(value.name)) if value is not None else None for value in node.inputs]
        found = []
        for body in bodies(node):
            inner = _Walk(self._versions, dict(self.types), dict(self.known))
            pairs = zip(body.inputs, nesting.given(node, kinds), strict=False)
            inner.types.update((str(value.name), kind) for value, kind in pairs if kind is not None)
            inner.go_through(body)
            self.inside.update({**inner.inside, body: inner.inferred()})
            found.append([inner.types.get(str(value.name)) for value in body.outputs])
        results = nesting.yielded(node, kinds, found, trips(node, self.inferred()))
        pairs = zip(node.outputs, results, strict=False)
        self.types.update((str(value.name), kind) for value, kind in pairs if kind is not None)

    def visit(self, node: ir.Node) -> None:
        """Find the types of the node's outputs, and their values if it only calculates with shapes."""
        proto = ir.serde.serialize_node(node)
        if node.domain == VENDOR:
            self._infer_vendors(proto)
            return
        self._infer(node, proto)
        inputs = [name for name in proto.input if name]
        if node.op_type in {"Shape", "Size"}:
            shape = _sizes(self.types[inputs[0]]) if inputs[0] in self.types else None
            if shape is not None and (full := complete(shape)) is not None:
                self._evaluate(proto, {inputs[0]: np.broadcast_to(np.zeros((), np.int8), full)})
        elif node.op_type in _SHAPE_ARITHMETIC and all(name in self.known for name in inputs):
            self._evaluate(proto, {name: self.known[name] for name in inputs})

    def _infer_vendors(self, proto: onnx.NodeProto) -> None:
        if any(name not in self.types for name in proto.input if name):
            return
        kinds = vendor_outputs(proto, [self.types.get(name) for name in proto.input], self._standard)
        self.types.update((name, kind) for name, kind in zip(proto.output, kinds, strict=False) if name and kind)

    def _standard(self, proto: onnx.NodeProto, kinds: Sequence[onnx.TypeProto]) -> Sequence[onnx.TypeProto]:
        """Infer a node of the standard domain that is not in the graph."""
        schema = onnx.defs.get_schema(proto.op_type, self._versions.get("", 1), "")
        types = dict(zip(proto.input, kinds, strict=True))
        try:
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, opset_imports=self._opsets)
        except _NOT_INFERRED:
            return []
        return [found[name] for name in proto.output if name in found]

    def _infer(self, node: ir.Node, proto: onnx.NodeProto) -> None:
        inputs = [name for name in proto.input if name]
        version = self._versions.get(node.domain, 0)
        if not onnx.defs.has(node.op_type, version, node.domain) or any(name not in self.types for name in inputs):
            return
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        types = {name: self.types[name] for name in inputs}
        values = {name: onnx.numpy_helper.from_array(self.known[name]) for name in inputs if name in self.known}
        try:
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, values, opset_imports=self._opsets)
        except _NOT_INFERRED:
            return  # This shape stays unknown, as do those that depend on it.
        self.types.update(found)

    def _evaluate(self, proto: onnx.NodeProto, feeds: dict[str, Array]) -> None:
        """Run one node, unless its answer would be large: only inference knows that beforehand."""
        kind = self.types.get(proto.output[0])
        shape = complete(_sizes(kind)) if kind is not None else None
        if shape is None or math.prod(shape) > _MAX_ELEMENTS:
            return
        inputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds]
        outputs = [onnx.helper.make_value_info(proto.output[0], onnx.TypeProto())]
        graph = onnx.helper.make_graph([proto], "node", inputs, outputs)
        runner = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=self._opsets))
        with (
            contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError, RuntimeError),
            np.errstate(all="ignore"),
        ):
            (result,) = runner.run(None, feeds, intermediate=False)
            self.known[proto.output[0]] = np.asarray(result)


def trips(node: ir.Node, around: Inferred) -> int | None:
    """Return how often the body of a Loop or Scan runs, at most; None where that depends on data."""
    if node.op_type == "Scan":
        value = node.inputs[len(node.inputs) - nesting.rows(node)]
        _, shape = around.types.get(str(value.name), (None, None)) if value is not None else (None, None)
        return shape[nesting.row_axes(node)[0]] if shape is not None else None
    if node.op_type != "Loop":
        return None
    count, going = ((around.numbers.get(str(value.name)) if value is not None else None) for value in node.inputs[:2])
    if count is None:
        return None
    return max(0, int(count.reshape(-1)[0])) if going is None or going.all() else 0


def complete(shape: Shape | None) -> tuple[int, ...] | None:
    """Return the shape if every size in it is known."""
    sizes = tuple(size for size in shape or () if size is not None)
    return sizes if shape is not None and len(sizes) == len(shape) else None


def _type(dtype: ir.DataType, shape: Shape) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(int(dtype), shape)


def _symbol(value: ir.Value, axis: int) -> str:
    size = value.shape[axis] if value.shape is not None else None
    return str(size.value) if isinstance(size, ir.SymbolicDim) and size.value else f"{value.name}.{axis}"


def _fixed(value: ir.Value, sizes: Mapping[str, int]) -> Shape:
    shape = value.shape or ()
    return tuple(size if isinstance(size, int) else sizes.get(_symbol(value, axis)) for axis, size in enumerate(shape))


def _sizes(kind: onnx.TypeProto) -> Shape | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.tensor_type.shape.dim)
