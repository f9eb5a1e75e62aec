"""Pools: PyTorch's own kernels where the geometry fits them, explicit padding elsewhere."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain, root
from workers.compute.autograd.operators.convolution import convolve
from workers.compute.autograd.operators.windows import Window, flat, window_of

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _covering(window: Window, sizes: tuple[int, ...], *, ceil: bool) -> list[tuple[int, int]]:
    """Return pads such that the windows, rounded down, are exactly those the standard asks for."""
    pairs = window.padding(sizes)
    if not ceil:
        return pairs
    wider = []
    for axis, (begin, end) in enumerate(pairs):
        room, stride = sizes[axis] + begin + end - window.extent(axis), window.strides[axis]
        outputs = -(-room // stride) + 1
        if (outputs - 1) * stride >= sizes[axis] + begin:
            outputs -= 1  # a window that would start in the end padding is left out
        wider.append((begin, max(end, end + (outputs - 1) * stride - room)))
    return wider


def _simple(window: Window, pairs: list[tuple[int, int]]) -> bool:
    return all(begin == end and begin * 2 <= size for (begin, end), size in zip(pairs, window.kernel, strict=True))


def _pooling_window(node: Node) -> Window:
    return window_of(node, tuple(node.integers("kernel_shape") or []))


def _max_pool(node: Node) -> Kernel:
    window, ceil = _pooling_window(node), bool(node.integer("ceil_mode"))
    indices, column_major, rank = node.outputs > 1, bool(node.integer("storage_order")), len(window.kernel)

    def run(x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pairs = _covering(window, tuple(x.shape[2:]), ceil=ceil)
        kind, padding = x.dtype, [begin for begin, _ in pairs]
        source = x if x.is_floating_point() else x.float()
        if not _simple(window, pairs):
            source, padding = F.pad(source, flat(pairs), value=float("-inf")), [0] * rank
        args = (window.kernel, window.strides, padding, window.dilations)
        if not indices:
            return _MAX[rank](source, *args).to(kind)
        values, places = _MAX[rank](source, *args, return_indices=True)
        offsets = [begin for begin, _ in pairs] if padding == [0] * rank else [0] * rank
        places = _places(places, tuple(source.shape[2:]), offsets, tuple(x.shape))
        return values.to(kind), _column_major(places, tuple(x.shape)) if column_major else places

    return run


def _places(places: Tensor, padded: tuple[int, ...], offsets: list[int], shape: tuple[int, ...]) -> Tensor:
    """Turn indices into a padded plane into the standard's: into the whole unpadded tensor."""
    coordinates = torch.unravel_index(places, padded)
    plane = torch.zeros_like(places)
    for at, offset, size in zip(coordinates, offsets, shape[2:], strict=True):
        plane = plane * size + (at - offset)
    planes = torch.arange(shape[0] * shape[1], device=places.device).reshape(shape[0], shape[1])
    return plane + planes.reshape(shape[0], shape[1], *([1] * (len(shape) - 2))) * math.prod(shape[2:])


def _column_major(places: Tensor, shape: tuple[int, ...]) -> Tensor:
    rows, channels, *spatial = torch.unravel_index(places, shape)
    flat_index = torch.zeros_like(places)
    for at, size in zip(reversed(spatial), reversed(shape[2:]), strict=True):
        flat_index = flat_index * size + at
    return flat_index + (rows * shape[1] + channels) * math.prod(shape[2:])


def _window_sum(x: Tensor, window: Window, pairs: list[tuple[int, int]]) -> Tensor:
    """Sum over windows by a convolution with ones: knows dilation, which PyTorch's average pools do not."""
    planes = F.pad(x, flat(pairs)).reshape(
        -1, 1, *(size + sum(pair) for size, pair in zip(x.shape[2:], pairs, strict=True))
    )
    ones = torch.ones(1, 1, *window.kernel, dtype=x.dtype, device=x.device)
    summed = convolve(planes, ones, None, replace(window, pads=(0,) * 2 * len(window.kernel), auto_pad="NOTSET"), 1)
    return summed.reshape(*x.shape[:2], *summed.shape[2:])


def _average_pool(node: Node) -> Kernel:
    window, ceil = _pooling_window(node), bool(node.integer("ceil_mode"))
    count_pads, rank = bool(node.integer("count_include_pad")), len(window.kernel)

    def run(x: Tensor) -> Tensor:
        sizes = tuple(x.shape[2:])
        own, pairs = window.padding(sizes), _covering(window, sizes, ceil=ceil)
        if own == pairs and _simple(window, pairs) and set(window.dilations) == {1}:
            padding = [begin for begin, _ in pairs]
            return _AVERAGE[rank](x, window.kernel, window.strides, padding, count_include_pad=count_pads)
        counted = own if count_pads else [(0, 0)] * rank
        ones = F.pad(torch.ones(1, 1, *sizes, dtype=x.dtype, device=x.device), flat(counted), value=1.0)
        rest = [(all_[0] - in_[0], all_[1] - in_[1]) for all_, in_ in zip(pairs, counted, strict=True)]
        return _window_sum(x, window, pairs) / _window_sum(ones, window, rest)

    return run


def _lp_pool(node: Node) -> Kernel:
    window, ceil, order = _pooling_window(node), bool(node.integer("ceil_mode")), node.number("p", 2)

    def run(x: Tensor) -> Tensor:
        pairs = _covering(window, tuple(x.shape[2:]), ceil=ceil)
        return root(_window_sum(x.abs() ** order, window, pairs), order)

    return run


def _max_unpool(node: Node) -> Kernel:
    window = _pooling_window(node)

    def run(x: Tensor, places: Tensor, shape: Tensor | None = None) -> Tensor:
        own = [
            (size - 1) * window.strides[axis] + window.extent(axis) - sum(window.padding(tuple(x.shape[2:]))[axis])
            for axis, size in enumerate(x.shape[2:])
        ]
        target = [*x.shape[:2], *own]
        filled = torch.zeros(math.prod(target), dtype=x.dtype, device=x.device)
        filled = filled.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(target)
        if shape is None:
            return filled
        wanted = shape.tolist()
        return F.pad(filled, flat([(0, want - have) for want, have in zip(wanted, target, strict=True)]))

    return run


def _global(reduce: Callable[[Tensor, list[int]], Tensor]) -> Rule:
    return plain(lambda x: reduce(x, list(range(2, x.dim()))))


def _global_lp(node: Node) -> Kernel:
    order = node.number("p", 2)
    return lambda x: torch.linalg.vector_norm(x, order, list(range(2, x.dim())), keepdim=True)


RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(lambda x, axes: x.mean(axes, keepdim=True)),
    "GlobalLpPool": _global_lp,
    "GlobalMaxPool": _global(lambda x, axes: x.amax(axes, keepdim=True)),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
}
