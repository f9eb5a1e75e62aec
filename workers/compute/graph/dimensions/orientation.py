"""Which axis counts the units when one axis is cut into several: heads, not the dimensions of a head."""

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from workers.compute.graph.dimensions.reflow import reflow
from workers.compute.graph.dimensions.site import Site

_PASSING = frozenset({"Add", "Cast", "Div", "Dropout", "Identity", "Mul", "Relu", "Sqrt", "Sub"})
_INDEXED = frozenset({"Gather", "Slice", "Split", "LayerNormalization", "Softmax", "Concat"})
_MATRIX = 2
_NEW = -1  # an axis that was not there at the cut


def unit_axis(site: Site, sizes: Sequence[int], axes: Sequence[int | None]) -> int:
    """Return which part of a cut axis counts units: the first that nothing sums over or picks from by number.

    `axes` are the output axes that the parts become, None where a part is joined with others. Parts that are turned
    and joined again (a channel shuffle) give the longest: as many positions as possible stay apart.
    """
    if _is_shuffle(site, axes):
        return max(range(len(sizes)), key=lambda at: sizes[at])
    rank = len(site.output_size() or ())
    used = set(_consumed(site, site.node.outputs[0], tuple(range(rank)), 0))
    left = [at for at, axis in enumerate(axes) if axis not in used and sizes[at] > 1]
    return left[0] if left else max(range(len(sizes)), key=lambda at: sizes[at])


def _is_shuffle(site: Site, axes: Sequence[int | None]) -> bool:
    uses = tuple(site.node.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Transpose" or None in axes:
        return False
    turned = uses[0].node
    after = tuple(turned.outputs[0].uses())
    if len(after) != 1 or after[0].node.op_type not in {"Reshape", "Flatten"}:
        return False
    before, joined = (site.sizes.get(str(value.name)) for value in (turned.outputs[0], after[0].node.outputs[0]))
    order = turned.attributes["perm"].as_ints() if "perm" in turned.attributes else range(len(before or ()))[::-1]
    plan = reflow(before, joined) if before and joined else None
    places = {list(order).index(axis) for axis in axes if axis is not None}
    return plan is not None and any(places <= set(block.before) and len(block.after) == 1 for block in plan)


def _consumed(site: Site, value: ir.Value, axes: tuple[int | None, ...], depth: int) -> Iterator[int | None]:
    """Yield the axes, by their number at the cut, that a reader sums over or picks from. `axes`: where each is now."""
    if depth > len(site.sizes):
        return
    for use in value.uses():
        node = use.node
        if node.op_type == "Transpose":
            order = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(axes))[::-1]
            yield from _consumed(site, node.outputs[0], tuple(axes[axis] for axis in order), depth + 1)
        elif node.op_type in _PASSING and len(site.sizes.get(str(node.outputs[0].name), ())) == len(axes):
            yield from _consumed(site, node.outputs[0], axes, depth + 1)
        elif node.op_type in {"Squeeze", "Unsqueeze"} and use.idx == 0:
            yield from _consumed(site, node.outputs[0], _resized(site, node, axes), depth + 1)
        elif node.op_type == "MatMul" and len(axes) >= _MATRIX:
            yield axes[-1 if use.idx == 0 else -2]
        elif node.op_type in _INDEXED or node.op_type.startswith("Reduce"):
            yield from (axes[axis % len(axes)] for axis in _named(site, node, len(axes)))


def _resized(site: Site, node: ir.Node, axes: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return where each axis is after axes of size 1 came or went."""
    if node.op_type == "Squeeze":
        gone = {axis % len(axes) for axis in _named(site, node, len(axes))}
        return tuple(axis for at, axis in enumerate(axes) if at not in gone)
    named = _named(site, node, len(axes))
    rank, left = len(axes) + len(named), list(axes)
    new = {axis % rank for axis in named}
    return tuple(_NEW if at in new else left.pop(0) for at in range(rank))


def _named(site: Site, node: ir.Node, rank: int) -> Sequence[int]:
    """Return the axes that a node names, as far as they are constant."""
    if "axis" in node.attributes:
        return [node.attributes["axis"].as_int()]
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    place = {"Slice": 3}.get(node.op_type, 1)
    if node.op_type in {"Gather", "Split", "Concat"}:
        return [0]
    if node.op_type in {"LayerNormalization", "Softmax"}:
        return [rank - 1]
    given = node.inputs[place] if place < len(node.inputs) else None
    if given is None or str(given.name) not in site.model.graph.initializers:
        return []
    return [int(axis) for axis in site.model.read(str(given.name)).reshape(-1)]
