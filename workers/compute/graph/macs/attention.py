"""MACs of fused attention: queries times keys, weights times values, and the projections where they are inside.

Masked scores are counted: kernels compute them, or may.
"""

from collections.abc import Mapping

from workers.compute.graph.macs.operands import Operands, Rule, SizeUnknown

_HEADS_RANK, _PACKED_RANK = 4, 5


def _standard(of: Operands) -> int:
    """Attention of ai.onnx: (rows, heads, length, size), or (rows, length, heads · size) with the heads in attributes.

    A past is inputs 4 and 5, of (rows, heads, length, size).
    """
    query, value = of.shape(0), of.shape(2)
    if len(query) == _HEADS_RANK:
        rows, heads, length, size = query
        keys, depth = value[2:]
    else:
        rows, length, width = query
        heads = of.integer("q_num_heads", 1)
        size, keys, depth = width // heads, value[1], value[2] // of.integer("kv_num_heads", 1)
    keys += of.shape(4)[2] if of.has(4) else 0
    return rows * heads * length * keys * (size + depth)


def _projecting(of: Operands) -> int:
    """Attention and QAttention of com.microsoft: one product makes queries, keys and values; a past has both parts."""
    rows, length, width = of.shape(0)
    wide = of.shape(1)[-1]
    queries, _, values = of.integers("qkv_hidden_sizes") or (wide // 3,) * 3
    past = 8 if of.node.op_type == "QAttention" else 4
    keys = length + (of.shape(past)[3] if of.has(past) else 0)
    return rows * length * width * wide + rows * length * keys * (queries + values)


def _multi_head(of: Operands) -> int:
    """MultiHeadAttention: keys and values by (rows, length, width) or by head, (rows, heads, length, size)."""
    query = of.shape(0)
    if len(query) == _PACKED_RANK or not of.has(1) or not of.has(2):
        raise SizeUnknown
    rows, length, width = query
    value, heads = of.shape(2), of.integer("num_heads", 1)
    by_head = len(value) == _HEADS_RANK
    keys = (value[2] if by_head else value[1]) + (of.shape(6)[2] if of.has(6) else 0)
    depth = value[3] * heads if by_head else value[2]
    return rows * length * keys * (width + depth)


def _grouped(of: Operands) -> int:
    """GroupQueryAttention: what the past holds is data; its length and the new tokens are the most that can be."""
    rows, length, width = of.shape(0)
    if not of.has(1):
        raise SizeUnknown
    return rows * length * (length + of.shape(3)[2]) * 2 * width


STANDARD: Mapping[str, Rule] = {"Attention": _standard}
VENDOR: Mapping[str, Rule] = {
    **dict.fromkeys(("Attention", "QAttention"), _projecting),
    "GroupQueryAttention": _grouped,
    "MultiHeadAttention": _multi_head,
}
