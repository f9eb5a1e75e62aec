"""Shapes of every value of the graph, by ONNX's own inference. Knows no values but small integer constants."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from workers.compute.graph.model import Model

Shape = tuple[int | None, ...]
Array = NDArray[np.generic]

# Larger tensors are no shapes, axes or lengths.
_MAX_ELEMENTS = 64
# Operators that exporters build shapes with. All else computes with data, whose values do not matter here.
_SHAPE_ARITHMETIC = frozenset(
    {"Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather", "Greater"}
    | {"Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceProd", "Reshape", "Slice"}
    | {"Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
)
_BATCH_AXIS = 0

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
    """Element type and shape by value name, and the small numbers that the graph computes with shapes."""

    types: dict[str, tuple[ir.DataType, Shape]] = field(default_factory=dict)
    numbers: dict[str, Array] = field(default_factory=dict)

    @property
    def complete_shapes(self) -> int:
        """How many shapes are known whole."""
        return sum(complete(shape) is not None for _, shape in self.types.values())


def infer_all(model: Model, sizes: Mapping[str, int]) -> Inferred:
    """Return what `infer_types` does, with the numbers it found on the way."""
    walk = _Walk(model, sizes)
    for node in model.graph:
        walk.visit(node)
    typed = ((name, kind.tensor_type.elem_type, _sizes(kind)) for name, kind in walk.types.items())
    types = {name: (ir.DataType(element), shape) for name, element, shape in typed if shape is not None}
    return Inferred(types, walk.known)


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

    def __init__(self, model: Model, sizes: Mapping[str, int]) -> None:
        self.types: dict[str, onnx.TypeProto] = {}
        self.known: dict[str, Array] = {}
        self._opsets = [
            onnx.helper.make_opsetid(domain, version) for domain, version in model.graph.opset_imports.items()
        ]
        self._versions = dict(model.graph.opset_imports)
        for value in model.graph.inputs:
            if value.dtype is not None and value.shape is not None:
                self.types[str(value.name)] = _type(value.dtype, _fixed(value, sizes))
        for name, initializer in model.graph.initializers.items():
            if initializer.const_value is not None:
                tensor = initializer.const_value
                self.types[name] = _type(tensor.dtype, tuple(tensor.shape.numpy()))
                if tensor.size <= _MAX_ELEMENTS:
                    self.known[name] = tensor.numpy()

    def visit(self, node: ir.Node) -> None:
        """Find the types of the node's outputs, and their values if it only calculates with shapes."""
        proto = ir.serde.serialize_node(node)
        self._infer(node, proto)
        inputs = [name for name in proto.input if name]
        if node.op_type in {"Shape", "Size"}:
            shape = _sizes(self.types[inputs[0]]) if inputs[0] in self.types else None
            if shape is not None and (full := complete(shape)) is not None:
                self._evaluate(proto, {inputs[0]: np.broadcast_to(np.zeros((), np.int8), full)})
        elif node.op_type in _SHAPE_ARITHMETIC and all(name in self.known for name in inputs):
            self._evaluate(proto, {name: self.known[name] for name in inputs})

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
        except (onnx.shape_inference.InferenceError, RuntimeError):
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
