"""Convolutions, grouped and depthwise too, and what keeps channels apart: pooling, resizing, norms by channel."""

from collections.abc import Sequence

import numpy as np

from workers.compute.graph.dimensions.ledger import Axis, Labels
from workers.compute.graph.dimensions.site import Rule, Site, blocks

CHANNELS = "channels"


def goes_by_group(groups: int, per_group: int) -> bool:
    """Whether the units of a grouped convolution are its groups: so in depthwise ones and in many narrow groups.

    Else they are positions, the same in every group: a convolution in two halves has as many as a half has channels.
    """
    return groups > 1 and groups >= per_group


def _conv(site: Site) -> Sequence[Labels | None]:
    data, weight, size = site.input(0), site.input(1), site.size(1)
    if data is None or weight is None or size is None:
        return site.barrier()
    groups = site.integer("group", 1)
    for axis in (*data[2:], *weight[2:]):
        site.freeze(axis)
    leaving = weight[0]
    if groups == 1:
        site.contract(data[1], weight[1], weighted=site.is_weight(1))
    elif goes_by_group(groups, size[1]):
        site.freeze(weight[1])
        leaving = _by_group(site, data[1], weight[0], groups)
    else:
        leaving = _by_position(site, data[1], weight, groups)
    return [_channels_out(site, data, leaving)]


def _by_group(site: Site, entering: Axis, leaving: Axis, groups: int) -> Axis:
    """Make each group, all that enters and leaves it, one unit."""
    if entering is None or leaving is None:
        site.freeze(entering)
        site.freeze(leaving)
        return None
    site.ledger.tie(np.concatenate([blocks(entering, groups), blocks(leaving, groups)], axis=1))
    return leaving


def _by_position(site: Site, entering: Axis, weight: Labels, groups: int) -> Axis:
    """Couple the channels at the same position of every group."""
    if entering is None or weight[1] is None:
        site.freeze(entering)
        site.freeze(weight[1])
    else:
        site.ledger.tie(np.concatenate([blocks(entering, groups), weight[1][None]]).T)
    if weight[0] is not None:
        site.ledger.tie(blocks(weight[0], groups).T)
    return weight[0]


def _channels_out(site: Site, data: Labels, leaving: Axis) -> Labels:
    bias = site.input(2)
    if bias is not None:
        leaving = site.join((leaving, bias[0]))
    site.ledger.name(leaving, CHANNELS)
    return (data[0], leaving, *(None,) * (len(data) - 2))


def _conv_transpose(site: Site) -> Sequence[Labels | None]:
    """Weights are (input channels, output channels of a group, …)."""
    data, weight = site.input(0), site.input(1)
    if data is None or weight is None:
        return site.barrier()
    groups = site.integer("group", 1)
    for axis in (*data[2:], *weight[2:]):
        site.freeze(axis)
    if groups == 1:
        site.contract(data[1], weight[0], weighted=site.is_weight(1))
        return [_channels_out(site, data, weight[1])]
    entering = site.join((data[1], weight[0]))
    size = site.output_size()
    site.freeze(weight[1])
    if entering is None or size is None:
        return [_channels_out(site, data, None)]
    site.ledger.tie(blocks(entering, groups))
    return [_channels_out(site, data, np.repeat(blocks(entering, groups)[:, 0], size[1] // groups))]


def _by_channel(site: Site) -> Sequence[Labels | None]:
    """Keep batch and channels; positions of an image are data."""
    data = site.input(0)
    if data is None:
        return site.barrier()
    for axis in data[2:]:
        site.freeze(axis)
    return [(*data[:2], *(None,) * (len(data) - 2))] * len(site.node.outputs)


def _normalizing_channels(site: Site) -> Sequence[Labels | None]:
    """Couple scale, shift and statistics with the channel."""
    data = site.input(0)
    parameters = [site.input(index) for index in range(1, len(site.node.inputs))]
    if data is None or None in parameters:
        return site.barrier()
    channel = site.join((data[1], *(each[0] for each in parameters if each)))
    return [(data[0], channel, *data[2:])]


def _resize(site: Site) -> Sequence[Labels | None]:
    """Keep the axes whose size does not change."""
    data, before, after = site.input(0), site.size(0), site.output_size()
    if data is None or before is None or after is None:
        return site.barrier()
    same = [old == new for old, new in zip(before, after, strict=True)]
    for axis, kept in zip(data, same, strict=True):
        if not kept:
            site.freeze(axis)
    return [tuple(axis if kept else None for axis, kept in zip(data, same, strict=True))]


def _depth_to_space(site: Site) -> Sequence[Labels | None]:
    """Tie the channels that become the pixels of one."""
    data = site.input(0)
    if data is None or data[1] is None:
        return site.barrier()
    pixels = site.integer("blocksize", 1) ** 2
    mode = site.node.attributes.get("mode")
    last = mode is not None and mode.as_string() == "CRD"
    rows = blocks(data[1], data[1].size // pixels) if last else blocks(data[1], pixels).T
    site.ledger.tie(rows)
    return [(data[0], np.ascontiguousarray(rows[:, 0]), None, None)]


def _space_to_depth(site: Site) -> Sequence[Labels | None]:
    data = site.input(0)
    if data is None or data[1] is None:
        return site.barrier()
    return [(data[0], np.tile(data[1], site.integer("blocksize", 1) ** 2), None, None)]


_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool")

RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(_POOLS, _by_channel),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _normalizing_channels),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
