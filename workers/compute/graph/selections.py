"""Selections of constant positions along one axis, and through which operators they can be moved upstream.

Every operator here computes each position of the axis from that position of its inputs alone.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph import operands
from workers.compute.graph.dimensions.rules.elementwise import BROADCAST, FIRST_INPUT, UNARY
from workers.compute.graph.model import Model

_SLICE = ("starts", "ends", "axes", "steps")
_SLICE_TAKES_INPUTS = 10  # the opset; attributes before
_ONE_AXIS_SOFTMAX = 13  # before this opset the axes from its own on were one
_MATRIX = 2

Sizes = tuple[int, ...]
# The inputs of a node that are to be selected of, and the axis of each; nothing where the node needs all positions.
Route = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Selection:
    """The positions that are taken of an axis, all counted from its beginning or all from its end."""

    axis: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A model, the sizes of its values (each free dimension has one of its own) and what depends on no input."""

    model: Model
    sizes: dict[str, Sizes]
    fixed: Collection[ir.Value]

    def size(self, node: ir.Node, place: int) -> Sizes | None:
        """Return the sizes of an input."""
        value = operands.given(node, place)
        return None if value is None else self.sizes.get(str(value.name))

    def numbers(self, node: ir.Node, place: int) -> NDArray[np.generic] | None:
        """Return the values of an input that is an initializer."""
        return operands.stored(self.model, node, place)

    def listed(self, node: ir.Node, name: str, place: int) -> list[int] | None:
        """Return numbers that are an attribute in old opsets and an input in new ones."""
        return operands.listed(node, name, self.numbers(node, place))

    @property
    def opset(self) -> int:
        """The version of the standard domain."""
        return self.model.graph.opset_imports.get("", 1)

    def route(self, selecting: ir.Node) -> Route:
        """Return what to select instead of what `selecting` does; nothing if it or the node above cannot move."""
        selection = selection_of(self, selecting)
        value = selecting.inputs[0] if selection is not None else None
        return () if value is None or selection is None else upstream(self, value, selection)


def selection_of(view: View, node: ir.Node) -> Selection | None:
    """Return what a node of the main graph selects, None if it is no selection or one of everything."""
    sizes = view.size(node, 0) if node.graph is view.model.graph and node.domain == "" else None
    if sizes is None:
        return None
    found = _gathered(view, node, sizes) if node.op_type == "Gather" else None
    found = _sliced(view, node, sizes) if node.op_type == "Slice" else found
    if found is None or not 0 < len(found.places) < sizes[found.axis]:
        return None
    return found if len({place < 0 for place in found.places}) == 1 else None


def _gathered(view: View, node: ir.Node, sizes: Sizes) -> Selection | None:
    places = view.numbers(node, 1)
    if places is None or places.ndim > 1:
        return None
    return Selection(_integer(node, "axis", 0) % len(sizes), tuple(int(place) for place in places.reshape(-1)))


def _sliced(view: View, node: ir.Node, sizes: Sizes) -> Selection | None:
    old = view.opset < _SLICE_TAKES_INPUTS
    starts, ends, axes, steps = (view.listed(node, name, place) for place, name in enumerate(_SLICE, 1))
    if starts is None or ends is None or len(starts) != 1 or steps not in (None, [1]):
        return None  # it takes more than one axis, or not neighbours
    if axes is None and not old and len(node.inputs) > _SLICE.index("axes") + 1:
        return None  # which axis it is is computed
    axis, start, end = (axes or [0])[0] % len(sizes), starts[0], ends[0]
    if start < 0 and end >= sizes[axis]:
        end = 0  # to the end, which is written as a very large number
    elif (start < 0) != (end < 0) or end >= sizes[axis]:
        return None  # how many positions these are depends on the data
    return Selection(axis, tuple(range(start, end)))


def upstream(view: View, value: ir.Value, selection: Selection) -> Route:
    """Return what to select above the node that yields `value`, if every reader of `value` selects the same."""
    node = value.producer()
    rule = None if node is None or node.domain != "" else _RULES.get(node.op_type)
    if node is None or rule is None or node.graph is not view.model.graph or value.is_graph_output():
        return ()
    if any(output.uses() or output.is_graph_output() for output in node.outputs if output is not value):
        return ()
    if any(use.idx != 0 or selection_of(view, use.node) != selection for use in value.uses()):
        return ()
    sizes = view.sizes.get(str(value.name))
    route = () if sizes is None else rule(view, node, sizes, selection.axis)
    # To select of a weight would tear it from its constraint, and saves nothing.
    return () if any(node.inputs[place] in view.fixed for place, _ in route) else route


def _integer(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _same(_view: View, _node: ir.Node, _sizes: Sizes, axis: int) -> Route:
    return [(0, axis)]


def _broadcast(view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    """An input of one position there, or without the axis, serves all positions."""
    route = []
    for place, value in enumerate(node.inputs):
        given = view.size(node, place)
        if value is None:
            continue
        if given is None:
            return ()
        own = axis - (len(sizes) - len(given))
        if own >= 0 and given[own] == sizes[axis]:
            route.append((place, own))
    return route


def _normalized(_view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    return [(0, axis)] if axis < _integer(node, "axis", -1) % len(sizes) else ()


def _softmax(view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    if view.opset < _ONE_AXIS_SOFTMAX:
        return [(0, axis)] if axis < _integer(node, "axis", 1) % len(sizes) else ()
    return [(0, axis)] if axis != _integer(node, "axis", -1) % len(sizes) else ()


def _reduced(view: View, node: ir.Node, _sizes: Sizes, axis: int) -> Route:
    axes, given = view.listed(node, "axes", 1), view.size(node, 0)
    if axes is None or given is None:
        return ()
    gone = {each % len(given) for each in axes}
    left = [each for each in range(len(given)) if each not in gone]
    own = axis if _integer(node, "keepdims", 1) else left[axis]
    return () if own in gone else [(0, own)]


def _product(view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    """Rows are those of the left factor; before them stand axes that both may have."""
    left, right = view.size(node, 0), view.size(node, 1)
    if left is None or right is None or len(left) < _MATRIX or len(right) < _MATRIX or axis == len(sizes) - 1:
        return ()
    if axis == len(sizes) - _MATRIX:
        return [(0, len(left) - _MATRIX)]
    return _broadcast(view, node, sizes, axis)


def _gemm(view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    if axis != 0 or _integer(node, "transA", 0):
        return ()
    bias = view.size(node, 2)
    whole = bias is not None and len(bias) == len(sizes) and bias[0] == sizes[0]
    return [(0, 0), (2, 0)] if whole else [(0, 0)]


def _transposed(_view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    order = node.attributes.get("perm")
    return [(0, len(sizes) - 1 - axis if order is None else order.as_ints()[axis])]


def _reshaped(view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    """An axis that keeps its place and size, as do all before it, is itself after the Reshape."""
    given = view.size(node, 0)
    if given is None or given[: axis + 1] != sizes[: axis + 1] or reshaping(view, node, axis) is None:
        return ()
    return [(0, axis)]


def reshaping(view: View, node: ir.Node, axis: int) -> list[int] | None:
    """Return a target for a Reshape that copies the sizes up to `axis`; None where the graph computes those behind."""
    found = _target(view, node)
    if found is None or None in found[axis + 1 :] or 0 in found[axis + 1 :]:
        return None
    return [0] * (axis + 1) + [number for number in found[axis + 1 :] if number is not None]


def _target(view: View, node: ir.Node) -> list[int | None] | None:
    """Return the sizes that a Reshape is told, None for each that is computed, as exporters do for free axes."""
    numbers = view.numbers(node, 1)
    if numbers is not None:
        return [int(number) for number in numbers]
    shape = node.inputs[1]
    concat = None if shape is None else shape.producer()
    if concat is None or concat.op_type != "Concat":
        return None
    found: list[int | None] = []
    for place in range(len(concat.inputs)):
        size, known = view.size(concat, place), view.numbers(concat, place)
        if size is None:
            return None
        found += [None] * size[0] if known is None else [int(number) for number in known]
    return found


def _squeezed(view: View, node: ir.Node, _sizes: Sizes, axis: int) -> Route:
    axes, given = view.listed(node, "axes", 1), view.size(node, 0)
    if axes is None or given is None:
        return ()
    gone = {each % len(given) for each in axes}
    return [(0, [each for each in range(len(given)) if each not in gone][axis])]


def _unsqueezed(view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    axes = view.listed(node, "axes", 1)
    if axes is None:
        return ()
    new = {each % len(sizes) for each in axes}
    return () if axis in new else [(0, axis - sum(each < axis for each in new))]


def _joined(_view: View, node: ir.Node, sizes: Sizes, axis: int) -> Route:
    if axis == _integer(node, "axis", 0) % len(sizes):
        return ()
    return [(place, axis) for place in range(len(node.inputs))]


_RULES: dict[str, Callable[[View, ir.Node, Sizes, int], Route]] = {
    **dict.fromkeys((*UNARY, *FIRST_INPUT), _same),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalized),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceL2"), _reduced),
    "MatMul": _product,
    "Gemm": _gemm,
    "Transpose": _transposed,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Concat": _joined,
}
