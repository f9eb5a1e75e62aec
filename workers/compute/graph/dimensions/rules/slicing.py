"""Operators that take axes apart and put them together: concatenations, splits, slices, look-ups, padding."""

from collections.abc import Sequence

import numpy as np

from workers.compute.graph.dimensions.ledger import Axis, Labels
from workers.compute.graph.dimensions.site import Rule, Site

_AXES_SINCE = 18  # the opset that gave Pad its axes


def _concat(site: Site) -> Sequence[Labels | None]:
    count = len(site.node.inputs)
    labels, sizes = [site.input(index) for index in range(count)], [site.size(index) for index in range(count)]
    known, shapes = [each for each in labels if each is not None], [each for each in sizes if each is not None]
    if len(known) < count or len(shapes) < count:
        return site.barrier()
    rank = len(known[0])
    place = site.integer("axis", 0) % rank
    pieces = [(each[place], size[place]) for each, size in zip(known, shapes, strict=True)]
    found = [_laid(site, pieces) if axis == place else site.join(each[axis] for each in known) for axis in range(rank)]
    return [tuple(found)]


def _laid(site: Site, pieces: Sequence[tuple[Axis, int]]) -> Axis:
    """Return pieces end to end; those that may not shrink are atoms that may not go."""
    if all(axis is None for axis, _ in pieces):
        return None
    if any(size == 0 for _, size in pieces):  # what comes behind a piece of unknown length has no known place
        return site.join((None, *(axis for axis, _ in pieces)))
    laid = []
    for axis, size in pieces:
        atoms = site.ledger.fresh(size) if axis is None else axis
        if axis is None:
            site.freeze(atoms)
        laid.append(atoms)
    return np.concatenate(laid)


def _split(site: Site) -> Sequence[Labels | None]:
    data, before = site.input(0), site.size(0)
    sizes = [site.output_size(index) for index in range(len(site.node.outputs))]
    if data is None or before is None or None in sizes:
        return site.barrier()
    place = site.integer("axis", 0) % len(data)
    ends = np.cumsum([size[place] for size in sizes if size is not None])
    whole = data[place]
    if whole is None or ends[-1] != whole.size:
        site.freeze(whole)
        return [(*data[:place], None, *data[place + 1 :])] * len(sizes)
    return [(*data[:place], piece, *data[place + 1 :]) for piece in np.split(whole, ends[:-1])]


def slice_bounds(site: Site) -> dict[int, tuple[int, int, int]] | None:
    """Return start, end and step of every sliced axis, None where they are not constant. Negative ones count back."""
    starts, ends = site.listed("starts", 1), site.listed("ends", 2)
    size, steps = site.size(0), site.listed("steps", 4)
    if starts is None or ends is None or size is None or (steps is None and site.given(4) is not None):
        return None
    axes = site.listed("axes", 3)
    if axes is None and site.given(3) is not None:
        return None
    places = [axis % len(size) for axis in (axes if axes is not None else range(len(starts)))]
    steps = steps or [1] * len(starts)
    bounds = zip(places, starts, ends, steps, strict=True)
    return {axis: slice(start, end, step).indices(size[axis]) for axis, start, end, step in bounds}


def _slice(site: Site) -> Sequence[Labels | None]:
    """Take the labels that are cut out; only a slice without gaps can be cut again after some are gone."""
    data, after = site.input(0), site.output_size()
    bounds = slice_bounds(site)
    if data is None or bounds is None or after is None:
        return _kept_whole(site)
    found: list[Axis] = []
    for axis, labels in enumerate(data):
        start, end, step = bounds.get(axis, (0, 0, 1))
        if labels is None or axis not in bounds:
            found.append(labels)
        elif step == 1:
            found.append(labels[start:end] if end - start > 1 else _alone(site, labels))
        else:
            found.append(_alone(site, labels))
    return [tuple(found)]


def _kept_whole(site: Site) -> Sequence[Labels | None]:
    """Keep the labels of axes that a slice by computed bounds leaves as they are."""
    data, axes = site.input(0), site.listed("axes", 3)
    if data is None or axes is None:
        return site.barrier()
    cut = {axis % len(data) for axis in axes}
    return [tuple(_alone(site, labels) if axis in cut else labels for axis, labels in enumerate(data))]


def _alone(site: Site, labels: Axis) -> Axis:
    site.freeze(labels)
    return None


def _gather(site: Site) -> Sequence[Labels | None]:
    """Look rows up by number: rows keep their numbers, so none may go; other axes are free."""
    data, picked = site.input(0), site.size(1)
    if data is None or picked is None:
        return site.barrier()
    place = site.integer("axis", 0) % len(data)
    site.freeze(data[place])
    return [(*data[:place], *(None,) * len(picked), *data[place + 1 :])]


def _pad(site: Site) -> Sequence[Labels | None]:
    data, pads = site.input(0), site.listed("pads", 1)
    axes = site.listed("axes", 3) if site.opset >= _AXES_SINCE else None
    if data is None or pads is None or (axes is None and site.given(3) is not None):
        return site.barrier()
    places = [axis % len(data) for axis in (axes if axes is not None else range(len(data)))]
    padded = {axis for at, axis in enumerate(places) if pads[at] or pads[at + len(places)]}
    return [tuple(_alone(site, labels) if axis in padded else labels for axis, labels in enumerate(data))]


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
}
