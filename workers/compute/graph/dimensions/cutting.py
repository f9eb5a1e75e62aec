"""Removes units from a model: shrinks every tensor that they have a part in, and the numbers that say their sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.constraints import shrink
from workers.compute.graph.dataflow import drop_dead
from workers.compute.graph.dimensions.groups import Coupling, Removed
from workers.compute.graph.dimensions.ledger import Axis
from workers.compute.graph.dimensions.rules.convolution import goes_by_group
from workers.compute.graph.dimensions.rules.recurrent import GATES
from workers.compute.graph.dimensions.rules.slicing import slice_bounds
from workers.compute.graph.dimensions.walk import Walk
from workers.compute.graph.model import Model

_LISTS_SINCE = {"Split": 13, "Slice": 10}  # the opset from which their numbers are inputs
_STEPS = 4  # where a Slice takes its steps


def remove_units(model: Model, coupling: Coupling, removed: Removed) -> Model:
    """Return a copy without the units; `coupling` is that of `model`.

    Free dimensions stay free. Raises KeyError for an unknown group or unit, ValueError where none would be left.
    """
    cut = _Cut(model.clone(), coupling.walked, coupling.gone(removed))
    for name in [*cut.model.graph.initializers]:
        _shrink(cut, name)
    for node in list(cut.model.graph):
        adjust = _ADJUSTERS.get(node.op_type)
        if adjust is not None:
            adjust(cut, node)
    for node in cut.model.graph:
        for value in node.outputs:
            if cut.changed(str(value.name)) and not value.is_graph_output():
                value.shape = None
    for name in drop_dead(cut.model.graph):
        cut.model.constraints.pop(name, None)
    return cut.model


@dataclass
class _Cut:
    """The copy being cut, with the labels of the model that it was made from."""

    model: Model
    walked: Walk
    gone: NDArray[np.bool_]
    _numbers: dict[tuple[int, ...], ir.Value] = field(default_factory=dict)

    def axis(self, value: ir.Value | None, axis: int) -> Axis:
        """Return the labels of one axis."""
        labels = self.walked.labels.get(str(value.name), ()) if value is not None else ()
        return labels[axis] if axis < len(labels) else None

    def left(self, axis: Axis) -> int | None:
        """Return how many positions of an axis stay, None where that is all or nothing is known of it."""
        return None if axis is None or not self.gone[axis].any() else int(np.count_nonzero(~self.gone[axis]))

    def changed(self, name: str) -> bool:
        """Whether a value's size changes."""
        return any(self.left(axis) is not None for axis in self.walked.labels.get(name, ()))

    def dependencies(self, node: ir.Node, index: int) -> list[Axis]:
        """Return the axes whose sizes an input is computed from."""
        value = node.inputs[index] if index < len(node.inputs) else None
        return [] if value is None else [*self.walked.extents.depends(str(value.name))]

    def numbers(self, values: Sequence[int]) -> ir.Value:
        """Return an initializer that holds whole numbers; equal ones are shared."""
        key = tuple(values)
        if key not in self._numbers:
            self._numbers[key] = self.model.add("sizes_" + "_".join(map(str, key)), np.asarray(key, np.int64))
        return self._numbers[key]

    def add(self, before: ir.Node, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """Add a node with one output ahead of another; return the output."""
        made = ir.node(op_type, list(inputs), attributes)
        self.model.graph.insert_before(before, made)
        return made.outputs[0]

    def set_input(self, node: ir.Node, index: int, value: ir.Value) -> None:
        """Let a node read `value`, at a place that it may not have had."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)


def _shrink(cut: _Cut, name: str) -> None:
    """Cut an initializer and the promise about it."""
    if not cut.changed(name):
        return
    kept = [slice(None) if axis is None else np.flatnonzero(~cut.gone[axis]) for axis in cut.walked.labels[name]]
    values = cut.model.read(name)
    for axis, places in enumerate(kept):
        if not isinstance(places, slice):
            values = np.take(values, places, axis)
    cut.model.write(name, values)
    constraint = cut.model.constraints.get(name)
    if constraint is not None:
        cut.model.constraints[name] = shrink(constraint, [None if isinstance(each, slice) else each for each in kept])


def _set_sizes(cut: _Cut, node: ir.Node, index: int) -> None:
    """Put the new sizes of the first output into the shape that a node is given."""
    result, shape = node.outputs[0], node.inputs[index] if index < len(node.inputs) else None
    labels = cut.walked.labels.get(str(result.name), ())
    left = {axis: count for axis, labelled in enumerate(labels) if (count := cut.left(labelled)) is not None}
    stale = any(cut.left(axis) is not None for axis in cut.dependencies(node, index))
    if shape is None or not (left or stale):
        return
    free, size = cut.walked.free.get(str(result.name), frozenset()), cut.walked.sizes[str(result.name)]
    if str(shape.name) in cut.model.graph.initializers:
        old = [int(value) for value in cut.model.read(str(shape.name)).reshape(-1)]
        offset = len(labels) - len(old)
        new = [left.get(at + offset, value) if value > 1 else value for at, value in enumerate(old)]
        cut.set_input(node, index, cut.numbers(new))
        return
    entries: dict[int, Fraction | int] = {}
    if stale:  # whatever is computed from sizes that are no longer the same is replaced by what it was
        entries = {axis: each for axis, each in enumerate(size) if axis not in free}
    entries |= {axis: Fraction(each, size[axis]) if axis in free else each for axis, each in left.items()}
    (length,) = cut.walked.sizes.get(str(shape.name), (len(labels),))
    offset = len(labels) - length
    cut.set_input(node, index, _patched(cut, node, shape, [entries.get(at + offset) for at in range(length)]))


def _patched(cut: _Cut, node: ir.Node, shape: ir.Value, entries: Sequence[Fraction | int | None]) -> ir.Value:
    """Add a computed shape with some entries replaced by numbers, others taken as a share of what they were."""
    pieces = []
    for at, entry in enumerate(entries):
        if isinstance(entry, int):
            pieces.append(cut.numbers([entry]))
            continue
        piece = cut.add(node, "Gather", shape, cut.numbers([at]), axis=0)
        if entry is not None:
            piece = cut.add(node, "Mul", piece, cut.numbers([entry.numerator]))
            piece = cut.add(node, "Div", piece, cut.numbers([entry.denominator]))
        pieces.append(piece)
    return cut.add(node, "Concat", *pieces, axis=0)


def _reshape(cut: _Cut, node: ir.Node) -> None:
    _set_sizes(cut, node, 1)


def _fill(cut: _Cut, node: ir.Node) -> None:
    _set_sizes(cut, node, 0)


def _resize(cut: _Cut, node: ir.Node) -> None:
    if "axes" not in node.attributes:
        _set_sizes(cut, node, 3)


def _split(cut: _Cut, node: ir.Node) -> None:
    """State how long each piece is now: equal parts of what was may not be equal any more."""
    place = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    rank = len(cut.walked.labels.get(str(node.inputs[0].name), ())) if node.inputs[0] is not None else 0
    stale = any(cut.left(axis) is not None for axis in cut.dependencies(node, 1))
    if not rank or (cut.left(cut.axis(node.inputs[0], place % rank)) is None and not stale):
        return
    pieces = [cut.axis(value, place % rank) for value in node.outputs]
    sizes = [int(np.count_nonzero(~cut.gone[piece])) for piece in pieces if piece is not None]
    _set_list(cut, node, "split", 1, sizes)
    node.attributes.pop("num_outputs", None)


def _set_list(cut: _Cut, node: ir.Node, name: str, index: int, values: Sequence[int]) -> None:
    """Set numbers that are an attribute in old opsets and an input in new ones."""
    if cut.model.graph.opset_imports.get("", 1) < _LISTS_SINCE[node.op_type]:
        node.attributes[name] = ir.AttrInt64s(name, list(values))
    else:
        cut.set_input(node, index, cut.numbers(values))


def _slice(cut: _Cut, node: ir.Node) -> None:
    """Count start and end anew on the axes that are shorter."""
    site = cut.walked.site(node)
    bounds = slice_bounds(site)
    if bounds is None:
        return
    stale = any(cut.left(axis) is not None for index in (1, 2) for axis in cut.dependencies(node, index))
    if not stale and not any(cut.left(cut.axis(node.inputs[0], axis)) is not None for axis in bounds):
        return
    written = zip(site.listed("starts", 1) or [], site.listed("ends", 2) or [], strict=True)
    rows: list[tuple[int, int, int, int]] = []
    for (axis, (start, end, step)), bound in zip(bounds.items(), written, strict=True):
        labels = cut.axis(node.inputs[0], axis)
        if labels is None or cut.left(labels) is None:  # as written: bounds of a free axis may count from its end
            rows.append((axis, *bound, step))
        else:
            first, last = (int(np.count_nonzero(~cut.gone[labels[:edge]])) for edge in (start, end))
            rows.append((axis, first, last, step))
    axes, starts, ends, steps = (list(column) for column in zip(*rows, strict=True))
    _set_list(cut, node, "starts", 1, starts)
    _set_list(cut, node, "ends", 2, ends)
    _set_list(cut, node, "axes", 3, axes)
    if any(step != 1 for step in steps) or len(node.inputs) > _STEPS:  # all four are of one type, now that of ours
        cut.set_input(node, _STEPS, cut.numbers(steps))


def _convolution(cut: _Cut, node: ir.Node) -> None:
    """Count groups anew where groups are the units."""
    groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
    entering = cut.axis(node.inputs[0], 1)
    left = cut.left(entering)
    if groups == 1 or left is None or entering is None:
        return
    per_group = entering.size // groups
    if node.op_type == "ConvTranspose" or goes_by_group(groups, per_group):
        node.attributes["group"] = ir.AttrInt64("group", left // per_group)


def _share(cut: _Cut, node: ir.Node, labels: Axis, *names: str) -> None:
    """Lower attributes that count units by the share of an axis that is gone."""
    left = cut.left(labels)
    for name in names:
        if left is not None and labels is not None and name in node.attributes:
            node.attributes[name] = ir.AttrInt64(name, node.attributes[name].as_int() * left // labels.size)


def _group_norm(cut: _Cut, node: ir.Node) -> None:
    _share(cut, node, cut.axis(node.inputs[0], 1), "num_groups")


def _recurrent(cut: _Cut, node: ir.Node) -> None:
    left = cut.left(cut.axis(node.inputs[1], 1))
    if left is not None:
        node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", left // GATES[node.op_type])


def _attention(cut: _Cut, node: ir.Node) -> None:
    """Count heads anew where they lie side by side in the last axis."""
    _share(cut, node, cut.axis(node.outputs[0], 2), "num_heads", "q_num_heads", "kv_num_heads")


_Adjuster = Callable[[_Cut, ir.Node], None]
_ADJUSTERS: Mapping[str, _Adjuster] = {
    "Reshape": _reshape,
    "Expand": _reshape,
    "ConstantOfShape": _fill,
    "Resize": _resize,
    "Split": _split,
    "Slice": _slice,
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    "GroupNormalization": _group_norm,
    **dict.fromkeys(GATES, _recurrent),
    **dict.fromkeys(("Attention", "MultiHeadAttention"), _attention),
}
