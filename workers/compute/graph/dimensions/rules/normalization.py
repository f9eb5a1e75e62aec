"""Normalizations over the units themselves: units can go, but the statistics are then those of the rest."""

from collections.abc import Sequence

import numpy as np

from workers.compute.graph.dimensions.ledger import Labels
from workers.compute.graph.dimensions.site import Rule, Site, blocks

_AXIS_SINCE = 13  # before, softmax normalized over all axes from `axis` on


def _layer_norm(site: Site) -> Sequence[Labels | None]:
    """Normalize over all axes from `axis` on; scale and shift have their shape."""
    return _normalized(site, range(1, len(site.node.inputs)))


def _skip_layer_norm(site: Site) -> Sequence[Labels | None]:
    """The same over the sum of two inputs (com.microsoft), which is the fourth output."""
    found = _normalized(site, range(1, len(site.node.inputs)))[0]
    return [found, None, None, found][: len(site.node.outputs)]


def _normalized(site: Site, others: Sequence[int]) -> list[Labels | None]:
    given = [0, *(index for index in others if site.given(index) is not None)]
    labels, sizes = [site.input(index) for index in given], [site.size(index) for index in given]
    known, shapes = [each for each in labels if each is not None], [each for each in sizes if each is not None]
    if len(known) < len(given) or len(shapes) < len(given):
        return site.barrier()
    found = site.broadcast(known, shapes)
    for axis in found[site.integer("axis", -1) % len(found) :]:
        site.ledger.normalize(axis, site.title)
    rest = site.blank()[1:]
    return [found, *rest]


def _lp_norm(site: Site) -> Sequence[Labels | None]:
    data = site.input(0)
    if data is None:
        return site.barrier()
    site.ledger.normalize(data[site.integer("axis", -1)], site.title)
    return [data]


def _across_channels(site: Site) -> Sequence[Labels | None]:
    """Local response normalization: a channel's neighbours are part of its result."""
    data = site.input(0)
    if data is None:
        return site.barrier()
    site.ledger.normalize(data[1], site.title)
    return [data]


def _softmax(site: Site) -> Sequence[Labels | None]:
    """Refuse to shrink what is normalized to a sum of one: its entries are answers, not units."""
    data = site.input(0)
    if data is None:
        return site.barrier()
    axis = site.integer("axis", -1 if site.opset >= _AXIS_SINCE else 1) % len(data)
    normalized = data[axis : axis + 1] if site.opset >= _AXIS_SINCE else data[axis:]
    for each in normalized:
        site.freeze(each)
    end = axis + len(normalized)
    return [(*data[:axis], *(None,) * len(normalized), *data[end:])]


def _group_norm(site: Site) -> Sequence[Labels | None]:
    """Make each group of channels a unit: what stays is normalized as before."""
    data, scale, shift = site.input(0), site.input(1), site.input(2)
    if data is None or data[1] is None or not scale or not shift or scale[0] is None or shift[0] is None:
        return site.barrier()
    groups = site.integer("num_groups", 1)
    rows = [blocks(axis, groups) for axis in (data[1], scale[0], shift[0])]
    site.ledger.tie(np.concatenate(rows, axis=1))
    return [data]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), _layer_norm),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_layer_norm),
    "LpNormalization": _lp_norm,
    "LRN": _across_channels,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    "GroupNormalization": _group_norm,
}
