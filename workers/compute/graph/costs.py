"""What a model costs before it is run: parameters, non-zeros, multiply-accumulates (MACs) and activation bytes."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from workers.compute.graph.activations import output_bytes, peak_bytes
from workers.compute.graph.dataflow import constants, reads
from workers.compute.graph.macs import macs
from workers.compute.graph.model import Model
from workers.compute.graph.polynomials import NoPolynomial, Polynomial, fit
from workers.compute.graph.shapes import Inferred, batch_symbols, infer_all, symbols
from workers.compute.graph.storage import is_weight, nonzeros

# More free dimensions, or visits to nodes at all sizes, take longer than a formula is worth: 40,000 are ten seconds.
_MOST_SYMBOLS, _MOST_VISITS = 4, 40_000
# Sizes at which a symbolic cost is evaluated; the last is a check. Rows enter by themselves. First lengths below short
# position tables, then sides of images that halve five times.
_ROWS = (1, 2, 3)
_LENGTHS = ((4, 8, 12, 20), (64, 96, 128, 192))


@dataclass(frozen=True)
class NodeCost:
    """One node: the weights it is the first to read, and for one row its MACs and the bytes of what it yields.

    None: a shape is unknown.
    """

    name: str
    operator: str
    parameters: int
    nonzeros: int
    macs: int | None
    activation_bytes: int | None


@dataclass(frozen=True)
class Cost:
    """A whole model. `macs` and `activation_bytes` are None when those of any node are.

    `peak_activation_bytes` is the most that is alive at once, for one row; None when any shape is unknown.
    """

    nodes: tuple[NodeCost, ...]
    peak_activation_bytes: int | None

    @property
    def parameters(self) -> int:
        """Weights, each counted once."""
        return sum(node.parameters for node in self.nodes)

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return sum(node.nonzeros for node in self.nodes)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one row."""
        return _total([node.macs for node in self.nodes])

    @property
    def activation_bytes(self) -> int | None:
        """Bytes of all that the nodes yield for one row, as training keeps it."""
        return _total([node.activation_bytes for node in self.nodes])


def _total(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def cost(model: Model, sizes: Mapping[str, int] | None = None) -> Cost:
    """Return what `model` costs for one row: its batch dimension is 1, `sizes` fixes the other free dimensions.

    Where a batch size is built into the model, figures are divided by it.
    """
    opened = written_out(model)
    inferred = infer_all(opened, {**(sizes or {}), **dict.fromkeys(batch_symbols(opened), 1)})
    rows, fixed, seen = _fixed_rows(opened), constants(opened.graph), set[str]()
    nodes = tuple(_node(opened, node, inferred, (rows, fixed), seen) for node in opened.graph)
    peak = peak_bytes(opened.graph, inferred.types)
    return Cost(nodes, None if peak is None else -(-peak // rows))


def symbolic_macs(model: Model) -> Polynomial | None:
    """Return the model's MACs as an exact polynomial in its free dimensions, rows among them.

    None where some are unknown, where the model is too large to be evaluated at many sizes, or where no polynomial of
    degree 1 in rows and 2 in each other dimension fits, as when a loop's trips depend on data. For sides of images it
    holds at multiples of 32: in between, halved sizes are rounded.
    """
    opened = written_out(model)
    free, rows = tuple(sorted(symbols(opened))), batch_symbols(opened)
    free = (*(name for name in free if name in rows), *(name for name in free if name not in rows))
    points = math.prod(len(_ROWS if name in rows else _LENGTHS[0]) - 1 for name in free)
    if len(free) > _MOST_SYMBOLS or points * len(opened.graph) > _MOST_VISITS:
        return None

    def evaluate(sizes: tuple[int, ...]) -> int | None:
        inferred = infer_all(opened, dict(zip(free, sizes, strict=True)))
        return _total([macs(node, inferred) for node in opened.graph])

    for lengths in _LENGTHS:
        try:
            return fit(free, [_ROWS if name in rows else lengths for name in free], evaluate)
        except NoPolynomial:
            continue
    return None


def written_out(model: Model) -> Model:
    """Return the model with its own functions written out."""
    if not model.ir.functions:
        return model
    clone = model.clone()
    common.InlinePass()(clone.ir)
    return clone


def _fixed_rows(model: Model) -> int:
    """Return the batch size that is built into the model, or 1 where it is free."""
    shapes = [value.shape for value in model.graph.inputs if value.shape is not None and len(value.shape) > 0]
    return next((size for shape in shapes if isinstance(size := shape[0], int) and size > 0), 1) if shapes else 1


def _node(
    model: Model, node: ir.Node, inferred: Inferred, shared: tuple[int, Collection[ir.Value]], seen: set[str]
) -> NodeCost:
    (rows, fixed), parameters, others = shared, 0, 0
    for value in reads(node):
        if value.name in seen or value.name not in model.graph.initializers or not is_weight(value):
            continue
        seen.add(str(value.name))
        parameters, others = parameters + model.read(str(value.name)).size, others + nonzeros(model, value)
    products, size = macs(node, inferred), output_bytes(node, inferred.types, fixed)
    return NodeCost(
        name=str(node.name),
        operator=node.op_type,
        parameters=parameters,
        nonzeros=others,
        macs=None if products is None else products // rows,
        activation_bytes=None if size is None else -(-size // rows),
    )
