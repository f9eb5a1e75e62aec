"""Operators that move values about without touching them: transposes, reshapes and all that regroup axes."""

from collections.abc import Sequence

import numpy as np

from workers.compute.graph.dimensions.ledger import Axis, Labels
from workers.compute.graph.dimensions.orientation import unit_axis
from workers.compute.graph.dimensions.reflow import Block, reflow
from workers.compute.graph.dimensions.site import Rule, Site

HEADS = "heads"


def _transpose(site: Site) -> Sequence[Labels | None]:
    data = site.input(0)
    if data is None:
        return site.barrier()
    order = site.integers("perm") or list(range(len(data)))[::-1]
    return [tuple(data[axis] for axis in order)]


def reshape(site: Site) -> Sequence[Labels | None]:
    """Follow each axis through cuts and joints."""
    data, before, after = site.input(0), site.size(0), site.output_size()
    if data is None or all(axis is None for axis in data):
        return site.blank()
    plan = None if before is None or after is None else reflow(before, after)
    if plan is None or after is None:
        return site.barrier()
    found: list[Axis] = [None] * len(after)
    for block in plan:
        parts = _cut(site, data, block)
        for axis, place in zip(block.after, block.outside, strict=True):
            found[axis] = _joint(site, parts[place], block.parts[place])
    return [tuple(found)]


def _cut(site: Site, data: Labels, block: Block) -> list[Axis]:
    """Return labels for each part of a block."""
    parts: list[Axis] = []
    for axis, place in zip(block.before, block.inside, strict=True):
        sizes, labels = block.parts[place], data[axis]
        if labels is None or len(sizes) == 1:
            parts += [labels, *[None] * (len(sizes) - 1)]
            continue
        grid = labels.reshape(sizes)
        varying = [at for at in range(len(sizes)) if np.any(np.diff(grid, axis=at))]
        if len(varying) > 1:
            offset = place.start
            outer = [_axis_of(block, offset + at) for at in range(len(sizes))]
            varying = [unit_axis(site, sizes, outer)]
            site.ledger.tie(np.moveaxis(grid, varying[0], 0).reshape(sizes[varying[0]], -1))
            site.ledger.name(labels, HEADS)
        chosen = varying[0] if varying else 0
        first = np.moveaxis(grid, chosen, 0).reshape(sizes[chosen], -1)[:, 0]
        parts += [np.ascontiguousarray(first) if at == chosen else None for at in range(len(sizes))]
    return parts


def _axis_of(block: Block, part: int) -> int | None:
    """Return the output axis that is this part and no other, if any."""
    alone = (
        axis
        for axis, place in zip(block.after, block.outside, strict=True)
        if (place.start, place.stop) == (part, part + 1)
    )
    return next(alone, None)


def _joint(site: Site, parts: list[Axis], sizes: Sequence[int]) -> Axis:
    """Return the labels of parts laid into one axis: one of them may shrink, the others are repeats."""
    labelled = [at for at, labels in enumerate(parts) if labels is not None]
    if len(labelled) != 1:
        for at in labelled:
            site.freeze(parts[at])
        return None
    shape = [size if at == labelled[0] else 1 for at, size in enumerate(sizes)]
    only = parts[labelled[0]]
    return None if only is None else np.ascontiguousarray(np.broadcast_to(only.reshape(shape), sizes)).reshape(-1)


def _expand(site: Site) -> Sequence[Labels | None]:
    """Keep the axes that were there; a stretched one can be stretched to fewer."""
    data, before, after = site.input(0), site.size(0), site.output_size()
    if data is None or before is None or after is None:
        return site.barrier()
    pad = len(after) - len(before)
    found = []
    for axis, size in enumerate(after):
        stretched = axis < pad or before[axis - pad] == 1
        found.append(_filled(site, axis, size) if stretched else data[axis - pad])
    return [tuple(found)]


def _filled(site: Site, axis: int, size: int) -> Axis:
    """Return labels for an axis along which all is equal: its size is a number in the graph that can be edited."""
    return None if size == 1 or site.is_free(axis) else site.ledger.fresh(size)


def _fill(site: Site) -> Sequence[Labels | None]:
    size = site.output_size()
    if size is None:
        return [None]
    return [tuple(_filled(site, axis, each) for axis, each in enumerate(size))]


def _tile(site: Site) -> Sequence[Labels | None]:
    data, repeats = site.input(0), site.constant(1)
    if data is None or repeats is None:
        return site.barrier()
    once = [int(count) == 1 for count in repeats.reshape(-1)]
    for axis, kept in zip(data, once, strict=True):
        if not kept:
            site.freeze(axis)
    return [tuple(axis if kept else None for axis, kept in zip(data, once, strict=True))]


def unlabelled(site: Site) -> Sequence[Labels | None]:
    """Return data: a shape, a range, random numbers."""
    return site.blank()


RULES: dict[str, Rule] = {
    "Transpose": _transpose,
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape),
    "Expand": _expand,
    "ConstantOfShape": _fill,
    "Tile": _tile,
    **dict.fromkeys(("Shape", "Size", "Range", "NonZero", "OneHot", "EyeLike"), unlabelled),
}
