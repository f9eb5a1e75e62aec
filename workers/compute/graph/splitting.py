"""Replace an operator's matrix by a product of two: which operators allow it, and the edit. Knows no way to choose."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.model import Model

Float = NDArray[np.floating]

_PAIR = 2
_MOVES = ("strides", "pads", "dilations", "auto_pad")


@dataclass(frozen=True)
class Site:
    """An operator that reads the weight `name`, as its input `index`, as a matrix.

    `axis` of `x` is summed over; of a table, whose rows are looked up, `x` has the row numbers and there is none.
    """

    name: str
    node: ir.Node
    index: int
    axis: int | None

    @property
    def is_table(self) -> bool:
        """Whether rows are looked up rather than multiplied."""
        return self.axis is None

    @property
    def x(self) -> ir.Value:
        """The operand beside the weight."""
        found = self.node.inputs[1 - self.index]
        if found is None:
            msg = f"{self.node.op_type} without an operand"
            raise ValueError(msg)
        return found

    def matrix(self, weight: Float) -> Float:
        """Return the weight as (inputs, outputs)."""
        return weight.reshape(weight.shape[:_PAIR]).T if self._turned else weight

    def weight(self, matrix: Float, rank: int) -> Float:
        """Return a matrix (inputs, outputs) as the operator takes it, a tensor of `rank` axes."""
        if not self._turned:
            return matrix
        return matrix.T.reshape(*matrix.T.shape, *(1,) * (rank - _PAIR))

    @property
    def _turned(self) -> bool:
        if self.is_table:
            return False
        return self.index == 0 or self.node.op_type == "Conv" or _number(self.node, "transB") == 1


def sites(model: Model) -> Iterator[Site]:
    """Yield the operators of the main graph whose matrix no other operator reads."""
    for name, value in model.weights().items():
        uses = list(value.uses())
        if len(uses) == 1 and uses[0].node.graph is model.graph and not value.is_graph_output():
            site = _site(name, uses[0].node, uses[0].idx, model.read(name).shape)
            if site is not None:
                yield site


def _site(name: str, node: ir.Node, index: int, shape: tuple[int, ...]) -> Site | None:
    if node.domain not in {"", "ai.onnx"}:
        return None
    if node.op_type == "MatMul" and len(shape) == _PAIR:
        return Site(name, node, index, -1 if index == 1 else -2)
    if node.op_type == "Gemm" and index == 1 and _number(node, "transA") != 1:
        return Site(name, node, index, -1)
    if node.op_type == "Gather" and index == 0 and len(shape) == _PAIR and not _number(node, "axis"):
        return Site(name, node, index, None)
    point = set(shape[_PAIR:]) == {1} and _number(node, "group") in {None, 1}
    return Site(name, node, index, 1) if node.op_type == "Conv" and index == 1 and point else None


def _number(node: ir.Node, name: str) -> int | None:
    return node.attributes[name].as_int() if name in node.attributes else None


def split(model: Model, site: Site, first: Float, second: Float) -> None:
    """Let `x` be multiplied by `first` (inputs, rank) and what comes of it by `second` (rank, outputs), in place."""
    if site.is_table:
        _split_table(model, site, first, second)
        return
    node, old = site.node, model.read(site.name)
    rank = old.ndim
    # Gemm may only leave its bias out since opset 11; MatMul has none.
    inner_type = "MatMul" if node.op_type == "Gemm" else node.op_type
    left = first if node.op_type == "Gemm" else site.weight(first, rank)
    values = [
        model.add(f"{site.name}.first", left.astype(old.dtype)),
        model.add(f"{site.name}.second", site.weight(second, rank).astype(old.dtype)),
    ]
    operands = [site.x, values[0]] if site.index == 1 else [values[0], site.x]
    attributes = tuple(node.attributes.values()) if node.op_type == "Conv" else ()
    inner = ir.Node("", inner_type, operands, attributes, name=f"{node.name or site.name}.first")
    inner.outputs[0].name, inner.outputs[0].type = model.unused(f"{site.name}.inner"), site.x.type
    model.graph.insert_before(node, inner)
    node.replace_input_with(1 - site.index, inner.outputs[0])
    node.replace_input_with(site.index, values[1])
    for name in _MOVES if node.op_type == "Conv" else ():
        node.attributes.pop(name, None)
    del model.graph.initializers[site.name]


def _split_table(model: Model, site: Site, first: Float, second: Float) -> None:
    """Look rows of `first` up and multiply them by `second` (Lan et al., 2020)."""
    node, old = site.node, model.read(site.name)
    thin, wide = (
        model.add(f"{site.name}.{name}", values.astype(old.dtype))
        for name, values in (("first", first), ("second", second))
    )
    product = ir.Node("", "MatMul", [node.outputs[0], wide], name=f"{node.name or site.name}.second")
    rows, result = node.outputs[0], product.outputs[0]
    result.name, result.type, result.shape = model.unused(f"{site.name}.rows"), rows.type, rows.shape
    ir.convenience.replace_all_uses_with(rows, result, replace_graph_outputs=True)
    product.replace_input_with(0, rows)
    rows.shape = None
    node.replace_input_with(0, thin)
    model.graph.insert_after(node, product)
    del model.graph.initializers[site.name]
