"""Multiply-accumulates (MACs) of a node, of what it holds inside, and of all nodes of a graph."""

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from workers.compute.graph import nesting
from workers.compute.graph.dataflow import bodies
from workers.compute.graph.macs import attention, products, signals
from workers.compute.graph.macs.operands import Operands, Rule, SizeUnknown
from workers.compute.graph.shapes import Inferred, trips

__all__ = ["macs"]

_STANDARD: Mapping[str, Rule] = {**products.STANDARD, **attention.STANDARD, **signals.STANDARD}
_VENDOR: Mapping[str, Rule] = {**products.VENDOR, **attention.VENDOR}
_RULES: Mapping[str, Mapping[str, Rule]] = {"": _STANDARD, "ai.onnx": _STANDARD, "com.microsoft": _VENDOR}
# Operators that multiply but have no rule: a total that left them out would be too small.
_UNCOUNTED = frozenset({"FlexAttention", "LinearAttention", "SequenceMap"})


def macs(node: ir.Node, inferred: Inferred) -> int | None:
    """Return the node's MACs, None where a size that they depend on is unknown.

    Counted are products that are summed up, not those element by element. Of the branches of If it is the dearest; a
    body runs as often as its loop may at most.
    """
    try:
        if node.op_type in nesting.NESTING:
            return _nested(node, inferred)
        rule = _RULES.get(node.domain, {}).get(node.op_type)
        if rule is not None:
            return rule(Operands(node, inferred))
    except SizeUnknown:
        return None
    return None if node.op_type in _UNCOUNTED else 0


def _nested(node: ir.Node, inferred: Inferred) -> int:
    costs = [_sum(body, inferred.inside[body]) for body in bodies(node) if body in inferred.inside]
    if not costs or None in costs:
        raise SizeUnknown
    dearest = max(cost for cost in costs if cost is not None)
    if node.op_type == "If" or dearest == 0:
        return dearest
    times = trips(node, inferred)
    if times is None or not _keeps_shapes(node, inferred):
        raise SizeUnknown
    return times * dearest


def _sum(nodes: Iterable[ir.Node], inferred: Inferred) -> int | None:
    costs = [macs(node, inferred) for node in nodes]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _keeps_shapes(node: ir.Node, inferred: Inferred) -> bool:
    """Whether the states of a loop leave each trip with the shape that they entered it with."""
    (body,) = bodies(node)
    types = inferred.inside[body].types
    own, results = list(body.inputs), list(body.outputs)
    pairs = zip(own[2:], results[1:], strict=False) if node.op_type == "Loop" else zip(own, results, strict=False)
    states = len(own) - (2 if node.op_type == "Loop" else nesting.rows(node))
    return all(types.get(str(one.name)) == types.get(str(other.name)) for one, other in list(pairs)[:states])
