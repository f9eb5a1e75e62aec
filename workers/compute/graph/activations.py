"""Bytes of what the nodes of a graph yield: of each, and of those that are alive together. Knows no runtime.

A runtime may do better, by writing results over what is no longer needed, or worse, by keeping copies.
"""

import math
from collections.abc import Collection, Mapping

import onnx_ir as ir

from workers.compute.graph.dataflow import constants, reads
from workers.compute.graph.shapes import Shape, complete

Types = Mapping[str, tuple[ir.DataType, Shape]]


def value_bytes(value: ir.Value, types: Types) -> int | None:
    """Return the bytes of a dense tensor; None where its type or a size is not known."""
    dtype, shape = types.get(str(value.name), (None, None))
    sizes = complete(shape)
    if dtype is None or sizes is None or dtype in {ir.DataType.UNDEFINED, ir.DataType.STRING}:
        return None
    return math.ceil(math.prod(sizes) * dtype.itemsize)


def output_bytes(node: ir.Node, types: Types, fixed: Collection[ir.Value]) -> int | None:
    """Return the bytes of what a node yields, but for `fixed` values, which are computed once, at loading."""
    sizes = [value_bytes(value, types) for value in node.outputs if value.name and value not in fixed]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def peak_bytes(graph: ir.Graph, types: Types) -> int | None:
    """Return the largest sum of values alive at one node, in the graph's order; None where a size is not known.

    A value lives from the node that yields it to the last that reads it: inputs from the beginning, outputs to the end,
    and what nobody reads for that node alone. Weights, and what is computed from them alone, do not count.
    """
    fixed = constants(graph)
    last = {value: at for at, node in enumerate(graph) for value in (*node.outputs, *reads(node))}
    last.update(dict.fromkeys(graph.outputs, len(graph)))
    sizes = {value: value_bytes(value, types) for value in (*graph.inputs, *last) if value.name and value not in fixed}
    known = {value: size for value, size in sizes.items() if size is not None}
    if len(known) < len(sizes):
        return None
    leaving: dict[int, int] = {}
    for value, at in last.items():
        leaving[at] = leaving.get(at, 0) + known.get(value, 0)
    alive = peak = sum(known.get(value, 0) for value in graph.inputs if value in last)
    for at, node in enumerate(graph):
        alive += sum(known.get(value, 0) for value in node.outputs)
        peak = max(peak, alive)
        alive -= leaving.get(at, 0)
    return peak
