"""Compute only the positions that are read: move selections along an axis upstream, as far as nothing else is needed.

Where an answer takes the first token of the last layer, that layer's queries, products and normalizations need no other
token; its keys and values do. The same numbers come out, up to the order of sums.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from workers.compute.graph.dataflow import constants, drop_dead
from workers.compute.graph.model import Model
from workers.compute.graph.selections import Selection, Sizes, View, reshaping, selection_of
from workers.compute.graph.shapes import complete, infer_apart

_AXES_ARE_INPUTS = 13  # the opset of Squeeze; attributes before
_NUMBERS = "positions"


def narrow(model: Model) -> int:
    """Move selections in place; return through how many nodes they went, each of which computes fewer positions now.

    A selection is a Gather or Slice that takes constant positions of one axis.
    """
    edit = _Edit(model)
    pending = [edit.keeping_axis(node) for node in list(model.graph) if edit.view.route(node) and not _is_answer(node)]
    moved = 0
    while pending:
        selecting = pending.pop()
        # One that is out of the graph has moved on, and one that others must join waits for them.
        if selecting.graph is model.graph and edit.view.route(selecting):
            pending.extend(edit.move(selecting))
            moved += 1
    model.graph.sort()
    return moved


def _is_answer(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)


class _Edit:
    """One model under the edit."""

    def __init__(self, model: Model) -> None:
        self._model, self._graph = model, model.graph
        types = infer_apart(model)
        sizes = {name: found for name, (_, shape) in types.items() if (found := complete(shape)) is not None}
        self.view = View(model, sizes, constants(model.graph))

    def keeping_axis(self, node: ir.Node) -> ir.Node:
        """Replace a selection by a Gather that keeps its axis, and what a single position loses it by."""
        selection, value = selection_of(self.view, node), node.inputs[0]
        if selection is None or value is None:
            raise ValueError(node.op_type)
        gather = self._selecting(value, selection, node)
        result, old = gather.outputs[0], node.outputs[0]
        if len(self.view.sizes[str(old.name)]) < len(self.view.sizes[str(value.name)]):
            result = self._squeezed(result, selection.axis, node)
        ir.convenience.replace_all_uses_with(old, result)
        self._graph.remove(node, safe=True)
        return gather

    def move(self, selecting: ir.Node) -> list[ir.Node]:
        """Select what enters the node above instead of what leaves it; return the selections that do so now."""
        selection, value = selection_of(self.view, selecting), selecting.inputs[0]
        node = value.producer() if value is not None else None
        if selection is None or value is None or node is None:
            raise ValueError(selecting.op_type)
        above = []
        for place, axis in self.view.route(selecting):
            source = node.inputs[place]
            if source is not None:
                above.append(self._selecting(source, Selection(axis, selection.places), node))
                node.replace_input_with(place, above[-1].outputs[0])
        if node.op_type == "Reshape" and (target := reshaping(self.view, node, selection.axis)) is not None:
            node.replace_input_with(1, self._numbers(target))
        result = selecting.outputs[0]
        ir.convenience.replace_all_uses_with(result, value)
        self._graph.remove(selecting, safe=True)
        value.name, value.shape = result.name, None  # it is not what a teacher has under the old name
        drop_dead(self._graph)  # what computed a Reshape's target would count as a reader that needs all positions
        return above

    def _selecting(self, value: ir.Value, selection: Selection, before: ir.Node) -> ir.Node:
        """Return the Gather that selects of `value`: one that is there, or a new one."""
        for use in value.uses():
            if use.node is not before and self._keeps_axis(use.node) and selection_of(self.view, use.node) == selection:
                return use.node
        node = ir.node("Gather", [value, self._numbers(selection.places)], {"axis": selection.axis})
        sizes = self.view.sizes[str(value.name)]
        axis, count = selection.axis, len(selection.places)
        self._add(node, before, (*sizes[:axis], count, *sizes[axis + 1 :]))
        return node

    def _keeps_axis(self, node: ir.Node) -> bool:
        numbers = self.view.numbers(node, 1) if node.op_type == "Gather" else None
        return numbers is not None and numbers.ndim == 1

    def _squeezed(self, value: ir.Value, axis: int, before: ir.Node) -> ir.Value:
        old = self._graph.opset_imports.get("", 1) < _AXES_ARE_INPUTS
        inputs, attributes = ([value], {"axes": [axis]}) if old else ([value, self._numbers([axis])], {})
        node = ir.node("Squeeze", inputs, attributes)
        sizes = self.view.sizes[str(value.name)]
        self._add(node, before, (*sizes[:axis], *sizes[axis + 1 :]))
        return node.outputs[0]

    def _add(self, node: ir.Node, before: ir.Node, sizes: Sizes) -> None:
        source, result = node.inputs[0], node.outputs[0]
        node.name = result.name = self._model.unused(f"{source.name if source else ''}/{node.op_type}")
        result.type = source.type if source is not None else None
        self.view.sizes[node.name] = sizes
        self._graph.insert_before(before, node)

    def _numbers(self, numbers: Sequence[int]) -> ir.Value:
        """Return an initializer of these numbers, one for all that need them."""
        name = f"{_NUMBERS}/{'_'.join(str(number) for number in numbers)}"
        known = self._graph.initializers.get(name)
        return known if known is not None else self._model.add(name, np.asarray(numbers, np.int64))
