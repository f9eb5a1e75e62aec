"""Shapes, layout and element types: Reshape, Transpose, Concat, Split, Pad, Cast and their kin."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, axes_of, plain, scalar
from workers.compute.autograd.operators.casting import bit_cast, cast, cast_like


def _reshape(node: Node) -> Kernel:
    copy_zero, fixed = not node.integer("allowzero"), node.integers("shape")

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        shape = axes_of(given, fixed) or []
        if copy_zero and 0 in shape:
            shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
        return x.reshape(shape)

    return run


def _shape(node: Node) -> Kernel:
    start, end = node.integer("start"), node.attributes.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _flatten(node: Node) -> Kernel:
    axis = node.integer("axis", 1)

    def run(x: Tensor) -> Tensor:
        rows = 1
        for size in x.shape[:axis]:
            rows *= size
        return x.reshape(rows, x.numel() // rows if rows else 0)

    return run


def _squeeze(node: Node) -> Kernel:
    fixed = node.integers("axes")

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = axes_of(given, fixed)
        return x.squeeze() if axes is None else x.squeeze(axes)

    return run


def _unsqueeze(node: Node) -> Kernel:
    fixed = node.integers("axes")

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = axes_of(given, fixed) or []
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _transpose(node: Node) -> Kernel:
    order = node.integers("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    return lambda x: x.permute(order)


def _concat(node: Node) -> Kernel:
    axis = node.integer("axis", 1)
    return lambda *parts: torch.cat(parts, axis)


def _split(node: Node) -> Kernel:
    axis, fixed, count = node.integer("axis"), node.integers("split"), node.declared

    def run(x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = axes_of(given, fixed)
        if sizes is None:
            each = -(-x.shape[axis] // count)
            sizes = [max(0, min(each, x.shape[axis] - each * part)) for part in range(count)]
        return torch.split(x, sizes, axis)

    return run


def _expand(x: Tensor, given: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, torch.Size(given.tolist())))  # type: ignore[no-untyped-call] # untyped in torch


def _tile(x: Tensor, repeats: Tensor, axis: Tensor | None = None) -> Tensor:
    if axis is None:
        return x.repeat(repeats.tolist())
    counts = [1] * x.dim()
    counts[int(scalar(axis))] = int(scalar(repeats))
    return x.repeat(counts)


def _pad_by_index(x: Tensor, begin: int, end: int, axis: int, mode: str) -> Tensor:
    """Pad one axis by gathering: works for any rank and any width, which F.pad does not."""
    size = x.shape[axis]
    index = torch.arange(-begin, size + end, device=x.device)
    if mode == "edge":
        index = index.clamp(0, size - 1)
    elif mode == "wrap":
        index = index % size
    elif size > 1:
        index = index % (2 * size - 2)
        index = torch.where(index < size, index, 2 * size - 2 - index)
    else:
        index = torch.zeros_like(index)
    return x.index_select(axis, index)


def _pad(node: Node) -> Kernel:
    mode, fixed = node.text("mode", "constant"), node.integers("pads") or node.integers("paddings")
    default = node.number("value")

    def run(x: Tensor, given: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        pads = axes_of(given, fixed) or []
        chosen = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes.tolist()]
        pairs = dict(zip(chosen, zip(pads[: len(chosen)], pads[len(chosen) :], strict=True), strict=True))
        if mode == "constant":
            flat = [width for axis in reversed(range(x.dim())) for width in pairs.get(axis, (0, 0))]
            filler = default if value is None else scalar(value)
            if x.dtype == torch.bool:
                return F.pad(x.to(torch.uint8), flat, value=float(filler)).to(torch.bool)
            return F.pad(x, flat, value=filler)
        for axis, (begin, end) in pairs.items():
            x = x.narrow(axis, max(0, -begin), x.shape[axis] - max(0, -begin) - max(0, -end))
            if begin > 0 or end > 0:
                x = _pad_by_index(x, max(0, begin), max(0, end), axis, mode)
        return x

    return run


def _depth_to_space(node: Node) -> Kernel:
    block, column_first = node.integer("blocksize"), node.text("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        rows, depth, height, width = x.shape
        out = depth // block**2
        if column_first:
            x = x.reshape(rows, block, block, out, height, width).permute(0, 3, 4, 1, 5, 2)
        else:
            x = x.reshape(rows, out, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(rows, out, height * block, width * block)

    return run


def _space_to_depth(node: Node) -> Kernel:
    block, column_first = node.integer("blocksize"), node.text("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        rows, depth, height, width = x.shape
        x = x.reshape(rows, depth, height // block, block, width // block, block)
        x = x.permute(0, 3, 5, 1, 2, 4) if column_first else x.permute(0, 1, 3, 5, 2, 4)
        return x.reshape(rows, depth * block**2, height // block, width // block)

    return run


def _trilu(node: Node) -> Kernel:
    upper = bool(node.integer("upper", 1))

    def run(x: Tensor, offset: Tensor | None = None) -> Tensor:
        diagonal = 0 if offset is None else int(scalar(offset))
        return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)

    return run


def _center_crop_pad(node: Node) -> Kernel:
    fixed = node.integers("axes")

    def run(x: Tensor, target: Tensor) -> Tensor:
        axes = [axis % x.dim() for axis in fixed] if fixed is not None else list(range(x.dim()))
        for axis, size in zip(axes, target.tolist(), strict=True):
            extra = int(size) - x.shape[axis]
            if extra < 0:
                x = x.narrow(axis, -extra // 2, int(size))
            if extra > 0:
                widths = [0] * (2 * (x.dim() - 1 - axis)) + [extra // 2, extra - extra // 2]
                x = F.pad(x, widths)
        return x

    return run


RULES: dict[str, Rule] = {
    "BitCast": bit_cast,
    "Cast": cast,
    "CastLike": cast_like,
    "CenterCropPad": _center_crop_pad,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": plain(_expand),
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": plain(lambda x: torch.tensor(x.numel(), dtype=torch.int64)),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": plain(_tile),
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
