"""Tables whose rows are looked up by a model's inputs: which they are, and the edit that removes rows of them.

Knows no data and no reason to remove a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.constraints import shrink
from workers.compute.graph.model import Model

# Operators that hand ids on as they are.
_PASSING = frozenset({"Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Expand"})
_TABLE = 2


@dataclass(frozen=True)
class Table:
    """An embedding, the nodes that look its rows up and the graph inputs whose ids they take; `tied` to another use."""

    name: str
    lookups: tuple[ir.Node, ...]
    sources: tuple[str, ...]
    tied: bool


def tables(model: Model) -> Iterator[Table]:
    """Yield every table of rank 2 with a row looked up by a graph input."""
    for name, value in model.weights().items():
        uses = list(value.uses())
        found = [(use.node, source) for use in uses if (source := _source(model, use.node, use.idx)) is not None]
        if len(model.read(name).shape) == _TABLE and found:
            nodes, sources = zip(*found, strict=True)
            tied = len(found) < len(uses) or value.is_graph_output()
            yield Table(name, nodes, tuple(dict.fromkeys(sources)), tied)


def _source(model: Model, node: ir.Node, index: int) -> str | None:
    """Return the graph input that names the rows, if this is a lookup of rows."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if node.op_type != "Gather" or index != 0 or axis != 0 or node.graph is not model.graph:
        return None
    ids = node.inputs[1]
    while ids is not None and (producer := ids.producer()) is not None and producer.op_type in _PASSING:
        ids = producer.inputs[0]
    return str(ids.name) if ids is not None and ids.is_graph_input() else None


def trim(model: Model, table: Table, kept: NDArray[np.bool_], fallback: int | NDArray[np.generic]) -> None:
    """Leave only the `kept` rows, in place; other ids find the row of the id `fallback`, or that new row."""
    rows = model.read(table.name)
    places = np.cumsum(kept) - 1
    left = rows[kept]
    if isinstance(fallback, int):
        other = int(places[fallback])
    else:
        other, left = len(left), np.concatenate([left, fallback[None].astype(rows.dtype)])
    if table.name in model.constraints:
        model.constraints[table.name] = shrink(model.constraints[table.name], [np.flatnonzero(kept), None])
    model.write(table.name, left)
    remap = _remap(model, table.name, np.where(kept, places, other).astype(np.int32))
    order = {id(node): place for place, node in enumerate(model.graph)}
    for node in sorted(table.lookups, key=lambda node: order[id(node)]):
        _insert(model, node, remap)


def _remap(model: Model, table: str, values: NDArray[np.int32]) -> ir.Value:
    """Return the initializer of these values: one that is there, or a new one."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.INT32 and np.array_equal(model.read(name), values):
            return value
    return model.add(f"{table}.rows", values)


def _insert(model: Model, lookup: ir.Node, remap: ir.Value) -> None:
    """Map the ids on their way to the lookup; lookups by the same ids share the node that does it."""
    ids = lookup.inputs[1]
    if ids is None:
        return
    shared = (use.node for use in ids.uses() if use.idx == 1 and use.node.inputs[0] is remap)
    mapping = next(shared, None)
    if mapping is None:
        mapping = ir.node("Gather", [remap, ids], name=f"{lookup.name or remap.name}.row")
        mapping.outputs[0].name = model.unused(f"{ids.name}.{remap.name}")
        mapping.outputs[0].type, mapping.outputs[0].shape = ir.TensorType(ir.DataType.INT32), ids.shape
        model.graph.insert_before(lookup, mapping)
    lookup.replace_input_with(1, mapping.outputs[0])
