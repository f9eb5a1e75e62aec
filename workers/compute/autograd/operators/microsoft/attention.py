"""Attention and MultiHeadAttention: projections, heads, masks and a past, ending in scaled dot-product attention."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule

_HEADS_RANK = 4


@dataclass(frozen=True)
class Heads:
    """How a node attends: head count, scale (None: 1/√size), the number that masked scores get, and the direction."""

    count: int
    scale: float | None
    filler: float
    causal: bool


def heads_of(node: Node) -> Heads:
    """Read the attributes that both operators share; refuses what changes their meaning."""
    for name in ("do_rotary", "past_present_share_buffer"):
        if node.integer(name):
            raise node.refuse(f"attribute {name}")
    scale = node.number("scale")
    filler = node.number("mask_filter_value", -10000.0)
    return Heads(node.integer("num_heads"), scale or None, filler, bool(node.integer("unidirectional")))


def split_heads(x: Tensor, count: int) -> Tensor:
    """Turn (rows, length, count · size) into (rows, count, length, size)."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Turn (rows, count, length, size) into (rows, length, count · size)."""
    return x.transpose(1, 2).flatten(2)


def _padding(mask: Tensor, rows: int, keys: int, filler: float) -> Tensor:
    """Return what a mask adds to the scores, in a shape that broadcasts to (rows, heads, queries, keys).

    A mask of one axis holds the end of each row, and after all ends the starts; others are true where keys count.
    """
    if mask.dim() == 1:
        steps = torch.arange(keys, device=mask.device)
        kept = steps < mask[:rows].unsqueeze(-1)
        if len(mask) == 2 * rows:
            kept = kept & (steps >= mask[rows:].unsqueeze(-1))
        kept = kept[:, None, None, :]
    elif mask.dim() < _HEADS_RANK:
        kept = (mask > 0)[:, None, None, :] if mask.dim() == 2 else (mask > 0)[:, None]  # noqa: PLR2004 - (rows, keys)
    else:
        kept = mask > 0
    return torch.where(kept, 0.0, filler)


def _causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """Return minus infinity where a query would see a later key; the last query sees all keys."""
    later = torch.ones(queries, keys, dtype=torch.bool, device=device).triu(keys - queries + 1)
    return torch.zeros(queries, keys, device=device).masked_fill(later, float("-inf"))


def attend(parts: tuple[Tensor, Tensor, Tensor], heads: Heads, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """Attend over heads (rows, count, length, size); returns (rows, length, count · size)."""
    q, k, v = parts
    added = bias
    if mask is not None:
        padding = _padding(mask, len(q), k.shape[2], heads.filler).to(q.dtype)
        added = padding if added is None else added + padding
    if heads.causal:
        causal = _causal(q.shape[2], k.shape[2], q.device).to(q.dtype)
        added = causal if added is None else added + causal
    return joined(F.scaled_dot_product_attention(q, k, v, added, scale=heads.scale))


def projected(x: Tensor, sizes: list[int] | None, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Split queries, keys and values that lie side by side in the last axis into heads."""
    q, k, v = torch.split(x, sizes, -1) if sizes else x.chunk(3, -1)
    return split_heads(q, heads.count), split_heads(k, heads.count), split_heads(v, heads.count)


def with_past(past: Tensor | None, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Put earlier keys and values, stacked in `past`, before the new ones."""
    if past is None:
        return k, v
    return torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)


def _attention(node: Node) -> Kernel:
    heads, sizes, keeps = heads_of(node), node.integers("qkv_hidden_sizes"), node.outputs > 1
    if node.has(6):
        raise node.refuse("a past of shared buffers")

    def run(x: Tensor, weight: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        bias, mask, past, added = (*rest, None, None, None, None)[:4]
        flat = F.linear(x, weight.t(), bias)
        q, k, v = projected(flat, sizes, heads)
        k, v = with_past(past, k, v)
        attended = attend((q, k, v), heads, mask, added)
        return (attended, torch.stack([k, v])) if keeps else (attended,)

    return run


def _biased_heads(x: Tensor, bias: Tensor | None, count: int) -> Tensor:
    if x.dim() == _HEADS_RANK:
        return x
    return split_heads(x if bias is None else x + bias, count)


def _multi_head(node: Node) -> Kernel:
    heads = heads_of(node)
    if not node.has(1) or not node.has(2):
        raise node.refuse("queries, keys and values packed into one tensor")
    if node.has(8) or node.has(9) or node.outputs > 3:  # noqa: PLR2004 - output and the present
        raise node.refuse("a past of shared buffers, or its scores as an output")

    def run(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        bias, mask, added, past_k, past_v = (*rest, *[None] * 5)[:5]
        wide = q.shape[-1]
        biases = (None, None, None) if bias is None else (bias[:wide], bias[wide : 2 * wide], bias[2 * wide :])
        first, keys, values = (_biased_heads(x, part, heads.count) for x, part in zip((q, k, v), biases, strict=True))
        if past_k is not None and past_v is not None:
            keys, values = torch.cat([past_k, keys], 2), torch.cat([past_v, values], 2)
        return attend((first, keys, values), heads, mask, added), keys, values

    return run


RULES: dict[str, Rule] = {"Attention": _attention, "MultiHeadAttention": _multi_head}
