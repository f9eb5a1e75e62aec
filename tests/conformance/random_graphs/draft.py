"""A graph that grows node by node, each run in ONNX Runtime as it is added: what it refuses, or what two right
implementations may answer differently, never becomes part of the graph. Knows no operator."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

Array = NDArray[np.generic]
Shape = tuple[int, ...]
T = TypeVar("T")

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
INT64, INT32, INT8, UINT8 = (np.dtype(kind) for kind in (np.int64, np.int32, np.int8, np.uint8))
BOOL = np.dtype(np.bool_)
FLOATS, WHOLE = (FLOAT, DOUBLE), (INT64, INT32, INT8, UINT8)

# Beyond these, rounding of one operator is an error of the next.
LARGEST_FLOAT, LARGEST_INTEGER, LARGEST_SIZE = 60.0, 10**6, 4000
# How far a number stays from where an operator jumps: between float32's rounding and the values' size.
MARGIN = 2e-3
BATCH = "batch"

# ONNX Runtime's ways to say that it has no kernel for a node, or that the node is not valid.
REFUSALS = tuple(
    getattr(refusals, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "NotImplemented", "RuntimeException", "InvalidProtobuf")
)


class Unfit(Exception):
    """This node cannot be added here."""


@dataclass(frozen=True)
class Value:
    """A value of the graph, as ONNX Runtime computes it for the first batch."""

    name: str
    array: Array

    @property
    def kind(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def shape(self) -> Shape:
        return self.array.shape

    @property
    def rank(self) -> int:
        return self.array.ndim


@dataclass(frozen=True)
class Given:
    """How an input of the graph is filled: uniformly from `low` to `high`."""

    kind: np.dtype[Any]
    shape: Shape
    low: float
    high: float
    grows: bool

    def fill(self, rng: np.random.Generator, batch: int) -> Array:
        shape = (batch, *self.shape[1:]) if self.grows else self.shape
        return filled(rng, self.kind, shape, (self.low, self.high))


def filled(rng: np.random.Generator, kind: np.dtype[Any], shape: Shape, bounds: tuple[float, float]) -> Array:
    low, high = bounds
    if kind == BOOL:
        return np.asarray(rng.random(shape) < 0.5)
    if kind.kind == "f":
        return np.asarray(rng.uniform(low, high, shape), kind)
    return np.asarray(rng.integers(int(low), int(high), shape, endpoint=True), kind)


@dataclass
class Draft:
    """The graph so far. `steady` is false once a value was seen to stay clear of a jump, which holds for it alone."""

    draw: st.DrawFn
    opset: int
    batch: int
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Given] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    steady: bool = True
    prefix: str = ""

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, among: Sequence[T]) -> T:
        return self.draw(st.sampled_from(among))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def integers(self, count: int, low: int, high: int) -> list[int]:
        return [self.integer(low, high) for _ in range(count)]

    def dims(self, low: int, high: int) -> Shape:
        """Draw a shape of a rank between both; its first axis is often the batch."""
        rank = self.integer(low, high)
        first = [self.batch] if rank and self.flag() else []
        return (*first, *self.integers(rank - len(first), 1, 4))

    def since(self, opset: int) -> None:
        """Refuse operators, or forms of them, that are younger than the graph."""
        if self.opset < opset:
            raise Unfit

    def name(self, stem: str) -> str:
        return f"{self.prefix}{stem}{len(self.nodes) + len(self.weights) + len(self.inputs)}"

    def constant(self, array: Any, kind: np.dtype[Any] = INT64) -> Value:
        """Add an initializer, or a Constant node."""
        value = Value(self.name("c"), np.asarray(array, kind))
        if self.integer(0, 4):
            self.weights[value.name] = value.array
        else:
            tensor = numpy_helper.from_array(value.array, value.name)
            self.nodes.append(helper.make_node("Constant", [], [value.name], value=tensor))
        return value

    def weight(self, kind: np.dtype[Any], shape: Shape, low: float = -2, high: float = 2) -> Value:
        """Add an initializer of random numbers that no later node changes the meaning of."""
        value = Value(self.name("w"), filled(self.rng, kind, shape, (low, high)))
        self.weights[value.name] = value.array
        return value

    def fresh(self, kind: np.dtype[Any], shape: Shape, low: float = -2, high: float = 2) -> Value:
        """Add an input of the graph, or an initializer."""
        low = max(low, 0) if kind == UINT8 else low
        if self.prefix or self.integer(0, 3) == 0:
            return self.weight(kind, shape, low, high)
        given = Given(kind, shape, low, high, bool(shape) and shape[0] == self.batch)
        value = Value(self.name("x"), given.fill(self.rng, self.batch))
        self.inputs[value.name] = given
        self.values.append(value)
        return value

    def distinct(self, shape: Shape) -> Value:
        """Add an initializer of floats far from each other, whose order is certain."""
        size = int(np.prod(shape))
        return self.constant(self.rng.permutation(size).reshape(shape) * (8 / size) - 4, FLOAT)

    def pick(
        self,
        kinds: Collection[np.dtype[Any]] = FLOATS,
        ranks: tuple[int, int] = (0, 5),
        fits: Callable[[Value], bool] = lambda _: True,
    ) -> Value:
        """Return a value of the graph with such a type and rank, or a new one."""
        found = [
            value
            for value in self.values
            if value.kind in kinds and ranks[0] <= value.rank <= ranks[1] and value.array.size and fits(value)
        ]
        if found and self.integer(0, 4):
            return self.choice(found[::-1])
        value = self.fresh(self.choice([kind for kind in (FLOAT, *kinds) if kind in kinds]), self.dims(*ranks))
        if not fits(value):
            raise Unfit
        return value

    def partner(self, x: Value) -> Value:
        """Return a value of the same type that broadcasts with `x`."""
        found = [other for other in self.values if other.kind == x.kind and _broadcasts(other.shape, x.shape)]
        if found and self.flag():
            return self.choice(found[::-1])
        start = self.integer(0, x.rank)
        shape = tuple(size if self.integer(0, 2) else 1 for size in x.shape[start:])
        return self.fresh(x.kind, shape)

    def add(
        self, op_type: str, *inputs: Value | None, outputs: int = 1, reads: Sequence[Value] = (), **attributes: Any
    ) -> list[Value]:
        """Add a node, unless ONNX Runtime refuses it or its results are too large; `reads` is what its bodies read."""
        names = [self.name("v") + (f"_{at}" if at else "") for at in range(outputs)]
        node = helper.make_node(op_type, [value.name if value else "" for value in inputs], names, **attributes)
        read = {value.name: value.array for value in (*inputs, *reads) if value is not None}
        arrays = self.run(node, read)
        if any(not _moderate(array) for array in arrays):
            raise Unfit
        self.nodes.append(node)
        made = [Value(name, array) for name, array in zip(names, arrays, strict=True)]
        self.values += made
        return made

    def run(self, node: onnx.NodeProto, read: Mapping[str, Array]) -> list[Array]:
        weights = {name: array for name, array in read.items() if name in self.weights}
        inputs = {name: array for name, array in read.items() if name not in weights}
        graph = helper.make_graph([node], "node", declared(inputs), outputs_of(node.output), tensors(weights))
        return infer(model(graph, self.opset), inputs)

    def permutation(self, count: int) -> list[int]:
        return self.draw(st.permutations(range(count)))

    def clear_gaps(self, array: Array, axis: int) -> None:
        """Refuse the node if two numbers along the axis are too close for their order to be certain."""
        ordered = np.sort(array, axis=axis)
        if array.dtype.kind == "f":
            self.clear_of(np.diff(ordered, axis=axis))

    def clear_of(self, distance: Array) -> None:
        """Refuse the node unless every distance from a jump is above the margin."""
        self.steady = False
        if distance.size and np.min(np.abs(distance.astype(np.float64))) < MARGIN:
            raise Unfit


Form = Callable[[Draft], None]


def axes_given(
    draft: Draft, op_type: str, x: Value, axes: Sequence[int], *, since: int, **attributes: Any
) -> list[Value]:
    """Add a node whose axes are an attribute before opset `since`, an input from then on."""
    if draft.opset < since:
        return draft.add(op_type, x, axes=list(axes), **attributes)
    return draft.add(op_type, x, draft.constant(list(axes)), **attributes)


def _broadcasts(left: Shape, right: Shape) -> bool:
    return all(1 in pair or pair[0] == pair[1] for pair in zip(left[::-1], right[::-1], strict=False))


def _moderate(array: Array) -> bool:
    if not isinstance(array, np.ndarray) or array.size > LARGEST_SIZE:
        return False
    if array.dtype.kind == "f":
        return bool(np.isfinite(array).all() and (not array.size or np.abs(array).max() <= LARGEST_FLOAT))
    return array.dtype.kind == "b" or not array.size or int(np.abs(array.astype(np.float64)).max()) <= LARGEST_INTEGER


def declared(arrays: Mapping[str, Array], grows: Collection[str] = ()) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            [BATCH, *array.shape[1:]] if name in grows else array.shape,
        )
        for name, array in arrays.items()
    ]


def outputs_of(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    return [onnx.ValueInfoProto(name=name) for name in names if name]


def tensors(arrays: Mapping[str, Array]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


@functools.cache
def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def infer(proto: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """Run a model in ONNX Runtime, operator by operator as written. Raises Unfit where it refuses."""
    try:
        session = ort.InferenceSession(proto.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
        needed = {value.name for value in session.get_inputs()}
        found: list[Array] = session.run(None, {name: inputs[name] for name in inputs if name in needed})
    except REFUSALS as refusal:
        raise Unfit(str(refusal)) from refusal
    return found
