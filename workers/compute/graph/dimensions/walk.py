"""Labels every axis of every value of a graph, in one pass from the initializers to the outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.dataflow import bodies, constants, reads
from workers.compute.graph.dimensions.extents import Extents
from workers.compute.graph.dimensions.ledger import Labels, Ledger
from workers.compute.graph.dimensions.rules import RULES
from workers.compute.graph.dimensions.rules.attention import MICROSOFT
from workers.compute.graph.dimensions.site import Rule, Site, Sizes
from workers.compute.graph.model import FLOATS, Model
from workers.compute.graph.shapes import Shape, infer_all, infer_all_apart, symbols

_STANDARD = frozenset({"", "ai.onnx"})
_MICROSOFT = "com.microsoft"
# Some image models bear only sizes that halve five times.
_HALVINGS = 32


@dataclass(frozen=True)
class Walk:
    """What is known of a graph's axes.

    `barriers` are the nodes without a rule that labelled axes run into; for the other fields see `Site`.
    """

    model: Model
    ledger: Ledger
    sizes: Mapping[str, Sizes]
    free: Mapping[str, frozenset[int]]
    known: Mapping[str, NDArray[np.generic]]
    fixed: frozenset[ir.Value]
    extents: Extents = field(default_factory=Extents)
    labels: dict[str, Labels] = field(default_factory=dict)
    barriers: list[str] = field(default_factory=list)

    def site(self, node: ir.Node) -> Site:
        """Return the view of one node."""
        return Site(node, self.model, self.ledger, self.labels, self.sizes, self.free, self.known, self.fixed)


def walk(model: Model) -> Walk:
    """Return the labels of every value of the main graph."""
    sizes, free, known = _sizes(model)
    found = Walk(model, Ledger(), sizes, free, known, frozenset(constants(model.graph)))
    for name, value in model.graph.initializers.items():
        found.labels[name] = _initial(found.ledger, value)
    for value in model.graph.inputs:
        found.labels[str(value.name)] = (None,) * len(value.shape or ())
    for node in model.graph:
        _visit(found, found.site(node))
    for value in model.graph.outputs:
        for axis in found.labels.get(str(value.name), ()):
            found.ledger.freeze(axis, f"the size of output {value.name}")
    return found


def _initial(ledger: Ledger, value: ir.Value) -> Labels:
    """Give every position of a floating-point initializer an atom; numbers of other types count or name things."""
    tensor = value.const_value
    if tensor is None:
        return ()
    sizes = tensor.shape.numpy()
    if tensor.dtype not in FLOATS or value.is_graph_input():
        return (None,) * len(sizes)
    return tuple(ledger.fresh(size) if size > 1 else None for size in sizes)


def _visit(found: Walk, site: Site) -> None:
    rule = _rule(site.node)
    if rule is None and _labelled(site):
        found.barriers.append(site.title)
    outputs = site.barrier() if rule is None else rule(site)
    for value, labels in zip(site.node.outputs, outputs, strict=False):
        if labels is not None:
            found.labels[str(value.name)] = labels
    found.extents.visit(site, found.labels)


def _rule(node: ir.Node) -> Rule | None:
    if next(bodies(node), None) is not None:
        return None
    if node.domain == _MICROSOFT:
        return MICROSOFT.get(node.op_type, RULES.get(node.op_type))
    return RULES.get(node.op_type) if node.domain in _STANDARD else None


def _labelled(site: Site) -> bool:
    read = (site.labels.get(str(value.name), ()) for value in reads(site.node))
    return any(axis is not None for labels in read for axis in labels)


def _sizes(model: Model) -> tuple[dict[str, Sizes], dict[str, frozenset[int]], dict[str, NDArray[np.generic]]]:
    """Return shapes with every free dimension apart, the axes that follow one, and the numbers that do not."""
    first = infer_all_apart(model)
    known = {name: _stated(shape) for name, (_, shape) in first.types.items()}
    inputs = {symbol: places[0] for symbol, places in symbols(model).items()}
    other = {symbol: _another(known[name][axis]) for symbol, (name, axis) in inputs.items() if name in known}
    if not other:
        return known, {name: _moving(size, size) for name, size in known.items()}, dict(first.numbers)
    moved = infer_all(model, other)
    same = {
        name: value
        for name, value in first.numbers.items()
        if name in moved.numbers and np.array_equal(value, moved.numbers[name])
    }
    later = {name: _stated(shape) for name, (_, shape) in moved.types.items()}
    return known, {name: _moving(size, later.get(name, ())) for name, size in known.items()}, same


def _stated(shape: Shape) -> Sizes:
    """Return sizes with 0 for one that only the data tell: it equals no other."""
    return tuple(size or 0 for size in shape)


def _moving(size: Sizes, other: Sizes) -> frozenset[int]:
    """Return the axes that differ or are not known; all of them where the other sizes are not."""
    if len(other) != len(size):
        return frozenset(range(len(size)))
    return frozenset(
        axis for axis, pair in enumerate(zip(size, other, strict=True)) if pair[0] != pair[1] or not pair[0]
    )


def _another(size: int) -> int:
    return size - (_HALVINGS if size % _HALVINGS == 0 else 2)
