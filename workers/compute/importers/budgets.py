"""Complexity counted arithmetically, before any library expands, infers or folds anything."""

import math
from collections.abc import Iterable
from itertools import islice

import onnx

from app.errors import ModelMalformed, ModelTooComplex
from workers.compute.importers import walk
from workers.compute.wording import shown

MAX_NODES = 50_000
MAX_EXPANDED_NODES = 100_000
MAX_DEPTH = 16  # subgraphs within subgraphs
MAX_CALL_DEPTH = 100  # functions calling functions; the runtime's own limit
MAX_TENSORS = 50_000
MAX_TENSOR_BYTES = 1 << 30  # of any shape that the file states
_WIDEST_ITEM_BYTES = 8
_MAX_AXES = 64

FunctionKey = tuple[str, str, str]


def check(model: onnx.ModelProto) -> None:
    """Raise ModelTooComplex when a count is over its budget, ModelMalformed when functions call themselves."""
    # Counting stops at the limit, so that a file of millions of nodes costs no more than one of 50,000.
    if next(islice(walk.nodes(model), MAX_NODES, None), None) is not None:
        raise ModelTooComplex(f"The model has more than {MAX_NODES:,} nodes.")
    if next(islice(walk.tensors(model), MAX_TENSORS, None), None) is not None:
        raise ModelTooComplex(f"The model has more than {MAX_TENSORS:,} tensors.")
    _depth(model)
    expanded = _Expansion(model).nodes(model.graph.node, 0)
    if expanded > MAX_EXPANDED_NODES:
        raise ModelTooComplex(f"Its local functions expand to {expanded:,} nodes; the limit is {MAX_EXPANDED_NODES:,}.")


def _depth(model: onnx.ModelProto) -> None:
    level = [model.graph]
    level += [graph for function in model.functions for graph in walk.nested_graphs(function.node)]
    for _ in range(MAX_DEPTH):
        level = [inner for graph in level for inner in walk.nested_graphs(graph.node)]
        if not level:
            return
    raise ModelTooComplex(f"Subgraphs are nested deeper than {MAX_DEPTH} levels.")


class _Expansion:
    """Counts the nodes that a graph has once every local function is inlined; each function is counted once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._functions: dict[FunctionKey, onnx.FunctionProto] = {
            (function.domain, function.name, function.overload): function for function in model.functions
        }
        self._known: dict[FunctionKey, int] = {}
        self._open: set[FunctionKey] = set()

    def nodes(self, nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        """Return the number of nodes after inlining."""
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += self._function(key, depth + 1) if key in self._functions else 1
            total += sum(self.nodes(graph.node, depth) for graph in walk.nested_graphs([node]))
        return total

    def _function(self, key: FunctionKey, depth: int) -> int:
        if key in self._open:
            raise ModelMalformed(f"Local function {shown(key[1])!r} calls itself.")
        if depth > MAX_CALL_DEPTH:
            raise ModelTooComplex(f"Local functions call each other deeper than {MAX_CALL_DEPTH} levels.")
        if key not in self._known:
            self._open.add(key)
            self._known[key] = self.nodes(self._functions[key].node, depth)
            self._open.remove(key)
        return self._known[key]


def check_stated_sizes(model: onnx.ModelProto) -> None:
    """Raise ModelTooComplex for a shape that stands for too many bytes. Shapes must be inside the model by now."""
    for graph in walk.graphs(model):
        weights = {tensor.name for tensor in graph.initializer}  # as large as their data, which `tensors` measures
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.name not in weights and value.type.HasField("tensor_type"):
                dims = value.type.tensor_type.shape.dim
                _fits(value.name, [dim.dim_value for dim in dims if dim.HasField("dim_value")])
        shapes = {name: tensor for name, tensor in walk.constants(graph) if tensor.data_type == onnx.TensorProto.INT64}
        for node in graph.node:
            if node.op_type in {"ConstantOfShape", "Expand"} and node.input and node.input[-1] in shapes:
                stated = shapes[node.input[-1]]
                if len(stated.int64_data) + len(stated.raw_data) // 8 <= _MAX_AXES:
                    _fits(node.name or node.op_type, onnx.numpy_helper.to_array(stated).reshape(-1).tolist())


def _fits(name: str, dims: list[int]) -> None:
    size = math.prod(dim for dim in dims if dim > 0) * _WIDEST_ITEM_BYTES
    if size > MAX_TENSOR_BYTES * 2:
        raise ModelTooComplex(
            f"{shown(name)!r} states a tensor of about {size:,} bytes; the limit is {MAX_TENSOR_BYTES * 2:,}."
        )
