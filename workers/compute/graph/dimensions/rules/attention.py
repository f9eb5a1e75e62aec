"""Fused attention: a head is a unit of query, key and value together."""

from collections.abc import Sequence

import numpy as np

from workers.compute.graph.dimensions.ledger import Labels
from workers.compute.graph.dimensions.rules.layout import HEADS
from workers.compute.graph.dimensions.site import Rule, Site, blocks

_SPLIT, _JOINED = 4, 3  # ranks: (batch, heads, length, size) and (batch, length, heads·size)
_QKV = 3


def _attention(site: Site) -> Sequence[Labels | None]:
    """ONNX's own: queries, keys and values with their heads apart, or side by side in the last axis."""
    labels, sizes = [site.input(index) for index in range(_QKV)], [site.size(index) for index in range(_QKV)]
    known = [each for each in labels if each is not None]
    further = [site.given(index) for index in range(_QKV + 1, len(site.node.inputs))]
    if len(known) < _QKV or None in sizes or any(value is not None for value in further):
        return site.barrier()
    if len(known[0]) == _SPLIT:
        return _heads_apart(site, known)
    return _heads_joined(site, known, site.integer("q_num_heads", 1), site.integer("kv_num_heads", 1))


def _heads_apart(site: Site, labels: Sequence[Labels]) -> Sequence[Labels | None]:
    counts = {size[1] for index in range(_QKV) if (size := site.size(index))}
    if len(counts) > 1:  # grouped queries: several share one key
        return site.barrier()
    heads = site.join(each[1] for each in labels)
    site.ledger.name(heads, HEADS)
    for each in labels:
        site.freeze(each[3])
    return [(labels[0][0], heads, labels[0][2], None), *site.blank()[1:]]


def _heads_joined(site: Site, labels: Sequence[Labels], queries: int, keys: int) -> Sequence[Labels | None]:
    axes = [each[2] for each in labels]
    present = [axis for axis in axes if axis is not None]
    if queries != keys or len(present) < _QKV:
        return site.barrier()
    site.ledger.tie(np.concatenate([blocks(axis, queries) for axis in present], axis=1))
    site.ledger.name(present[0], HEADS)
    return [(labels[0][0], labels[0][1], present[2]), *site.blank()[1:]]


def _multi_head(site: Site) -> Sequence[Labels | None]:
    """com.microsoft MultiHeadAttention with three separate inputs and an optional bias for all three."""
    labels = [site.input(index) for index in range(_QKV)]
    known = [each for each in labels if each is not None and len(each) == _JOINED]
    more = [site.given(index) for index in range(6, len(site.node.inputs))]
    if len(known) < _QKV or any(value is not None for value in more):
        return site.barrier()
    heads, bias = site.integer("num_heads", 1), site.input(3)
    if bias is not None and bias[0] is not None:
        pieces = np.split(bias[0], _QKV)
        known = [(*each[:2], site.join((each[2], piece))) for each, piece in zip(known, pieces, strict=True)]
    return _heads_joined(site, known, heads, heads)


def _packed_attention(site: Site) -> Sequence[Labels | None]:
    """com.microsoft Attention: one weight (input, 3·hidden) makes queries, keys and values."""
    data, weight, bias = site.input(0), site.input(1), site.input(2)
    past = [site.given(index) for index in range(4, len(site.node.inputs))]
    heads, sizes = site.integer("num_heads", 1), site.integers("qkv_hidden_sizes")
    if data is None or weight is None or weight[1] is None or sizes or any(value is not None for value in past):
        return site.barrier()
    site.contract(data[2], weight[0], weighted=site.is_weight(1))
    made = site.join((weight[1], bias[0])) if bias is not None else weight[1]
    if made is None:
        return site.blank()
    site.ledger.tie(np.moveaxis(made.reshape(_QKV, heads, -1), 1, 0).reshape(heads, -1))
    site.ledger.name(made, HEADS)
    return [(data[0], data[1], made[-made.size // _QKV :]), *site.blank()[1:]]


RULES: dict[str, Rule] = {
    "Attention": _attention,
    "MultiHeadAttention": _multi_head,
}
# Names mean different operators in different domains.
MICROSOFT: dict[str, Rule] = {"Attention": _packed_attention}
