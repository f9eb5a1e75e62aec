"""Position tables that are longer than the model's inputs: found by running one row, and cut. Knows no options."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.autograd.prediction import predict
from workers.compute.datasets.samples import Samples
from workers.compute.graph.constraints import shrink
from workers.compute.graph.dataflow import descendants
from workers.compute.graph.model import Model
from workers.compute.wording import shown

_TABLE = 2


@dataclass(frozen=True)
class Cut:
    """Whether a table was cut, and what to tell."""

    changed: bool
    note: str


def cut_positions(model: Model, row: Samples) -> Cut:
    """Cut, in place, the tables of which no input can reach the last rows; `row` is any one row of data."""
    if not _fixed(model):
        return Cut(changed=False, note="the inputs' length is free, so position tables stay as long as they are")
    lengths = {}
    for name, node in _candidates(model):
        table = model.read(name)
        used = _used(model, row, node, table)
        if used is not None and used < len(table):
            lengths[name] = (len(table), used)
            model.write(name, table[:used])
            if name in model.constraints:
                model.constraints[name] = shrink(model.constraints[name], [np.arange(used), None])
    if not lengths:
        return Cut(changed=False, note="no position table is longer than the inputs")
    told = ", ".join(f"{shown(name)} from {old} to {new} rows" for name, (old, new) in lengths.items())
    return Cut(changed=True, note=f"cut to the length of the inputs: {told}")


def _fixed(model: Model) -> bool:
    """Whether every axis of every input but the first, that of the rows, has one size."""
    shapes = [value.shape for value in model.graph.inputs]
    return all(shape is not None and all(isinstance(axis, int) for axis in list(shape)[1:]) for shape in shapes)


def _candidates(model: Model) -> Iterator[tuple[str, ir.Node]]:
    """Yield the tables read once, by a Slice or Gather that does not depend on what the inputs hold."""
    reached = set[ir.Value]()
    for value in model.graph.inputs:
        reached |= descendants(list(model.graph), value)[1]
    for name, value in model.weights().items():
        uses = list(value.uses())
        if len(uses) != 1 or len(model.read(name).shape) != _TABLE or value.is_graph_output():
            continue
        node = uses[0].node
        known = node.graph is model.graph and uses[0].idx == 0 and reached.isdisjoint(node.inputs[1:])
        if known and node.op_type in {"Slice", "Gather"}:
            yield name, node


def _used(model: Model, row: Samples, node: ir.Node, table: NDArray[np.generic]) -> int | None:
    """Return how many of the first rows are read, or None where that is not all that the node does."""
    if node.op_type == "Slice":
        found = _seen(model, row, node.outputs[0])
        return len(found) if np.array_equal(found, table[: len(found)]) else None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    places = None if axis or node.inputs[1] is None else _seen(model, row, node.inputs[1])
    if places is None or not places.size or int(places.min()) < 0:
        return None
    return int(places.max()) + 1


def _seen(model: Model, row: Samples, value: ir.Value) -> NDArray[np.generic]:
    name = str(value.name)
    if name in model.graph.initializers:
        return model.read(name)
    return predict(model, row, capture=(name,))[name]
