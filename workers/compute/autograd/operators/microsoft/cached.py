"""Rotary positions and attention over grouped heads with a cache, as decoders use them."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, scalar
from workers.compute.autograd.operators.microsoft.attention import joined, split_heads

_SPLIT_RANK = 4
# Attributes of GroupQueryAttention that change its meaning, with the value that leaves it as it is.
_PLAIN = {"smooth_softmax": (0, -1), "qk_output": (0,), "sliding_window_cache": (0,), "causal": (1,)}
# Its inputs from the sinks on: sinks, scales of a quantized cache, norms of queries and keys.
_EXTRAS = range(11, 16)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool) -> Tensor:
    """Turn pairs of the last axis by their position's angle (Su et al., 2021); what the caches do not cover stays.

    `x` is (rows, heads, length, size), the caches (rows, 1, length, half the turned size).
    """
    half = cos.shape[-1]
    turned, kept = x[..., : 2 * half], x[..., 2 * half :]
    real, imaginary = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    first, second = real * cos - imaginary * sin, imaginary * cos + real * sin
    together = torch.stack([first, second], -1).flatten(-2) if interleaved else torch.cat([first, second], -1)
    return torch.cat([together, kept], -1)


def _rotary(node: Node) -> Kernel:
    interleaved, count = bool(node.integer("interleaved")), node.integer("num_heads")
    size = node.integer("rotary_embedding_dim")

    def run(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        split = x.dim() == _SPLIT_RANK
        heads = x if split else split_heads(x, count if size else x.shape[-1] // (2 * cos.shape[-1]))
        where = positions
        if positions.numel() == 1 and positions.dim() == 1:  # the place of the first step
            where = positions + torch.arange(heads.shape[2], device=x.device).expand(len(x), -1)
        angles = (cos[where].unsqueeze(1), sin[where].unsqueeze(1))
        turned = rotate(heads, *angles, interleaved=interleaved)
        return turned if split else joined(turned)

    return run


def _into_cache(past: Tensor | None, new: Tensor, starts: Tensor, total: int) -> Tensor:
    """Write new steps (rows, heads, length, size) behind each row's past; the cache grows to `total` steps."""
    rows, heads, length, size = new.shape
    held = 0 if past is None else past.shape[2]
    room = max(total, held)
    cache = new.new_zeros(rows, heads, room - held, size)
    cache = cache if past is None else torch.cat([past, cache], 2)
    places = starts.reshape(-1, 1, 1, 1) + torch.arange(length, device=new.device).reshape(1, 1, -1, 1)
    return cache.scatter(2, places.expand(new.shape), new)


def _visible(starts: Tensor, queries: int, keys: int, window: int) -> Tensor:
    """Return (rows, 1, queries, keys): which keys each query sees, itself and `window` - 1 before it (-1: all)."""
    at = (starts.reshape(-1, 1) + torch.arange(queries, device=starts.device))[:, None, :, None]
    key = torch.arange(keys, device=starts.device)
    seen = key <= at
    return seen if window < 0 else seen & (key > at - window)


def _grouped(node: Node) -> Kernel:
    count, groups = node.integer("num_heads"), node.integer("kv_num_heads")
    scale, cap = node.number("scale") or None, node.number("softcap")
    window, interleaved = node.integer("local_window_size", -1), bool(node.integer("rotary_interleaved"))
    turn = bool(node.integer("do_rotary"))
    unusual = [name for name, usual in _PLAIN.items() if node.integer(name, usual[-1]) not in usual]
    if unusual or any(node.has(at) for at in _EXTRAS):
        raise node.refuse(", ".join(unusual) or "attention sinks, a quantized cache or norms of heads")

    def run(  # noqa: PLR0913, PLR0917 - the operator's own inputs
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        past_k: Tensor | None,
        past_v: Tensor | None,
        ends: Tensor,
        total: Tensor,
        *rest: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        cos, sin, positions, bias = (*rest, None, None, None, None)[:4]
        if key is None or value is None:
            size = query.shape[-1] // (count + 2 * groups)
            query, key, value = torch.split(query, [count * size, groups * size, groups * size], -1)
        q, k, v = split_heads(query, count), split_heads(key, groups), split_heads(value, groups)
        length, whole = q.shape[2], int(scalar(total))
        ends = ends.reshape(-1).long()
        starts = torch.zeros_like(ends) if length == whole else ends + 1 - length
        if turn and cos is not None and sin is not None:
            where = starts.unsqueeze(-1) + torch.arange(length, device=q.device) if positions is None else positions
            angles = (cos[where].unsqueeze(1), sin[where].unsqueeze(1))
            q, k = (rotate(x, *angles, interleaved=interleaved) for x in (q, k))
        keys, values = _into_cache(past_k, k, starts, whole), _into_cache(past_v, v, starts, whole)
        mask = torch.zeros((), device=q.device, dtype=q.dtype).masked_fill(
            ~_visible(starts, length, whole, window), float("-inf")
        )
        mask = mask if bias is None else mask + bias
        k, v = (x[:, :, :whole].repeat_interleave(count // groups, 1) for x in (keys, values))
        return joined(_capped(q, k, v, mask, scale, cap)), keys, values

    return run


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None, cap: float) -> Tensor:
    """Attend; a cap bounds the scores by cap · tanh(score / cap) before the mask."""
    if not cap:
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    scores = torch.matmul(q, k.transpose(-1, -2)) * (scale or q.shape[-1] ** -0.5)
    return torch.matmul(torch.softmax(cap * torch.tanh(scores / cap) + mask, -1), v)


RULES: dict[str, Rule] = {"GroupQueryAttention": _grouped, "RotaryEmbedding": _rotary}
