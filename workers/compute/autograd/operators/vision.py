"""Sampling at computed positions and detection: grids, regions, deformable convolutions, boxes."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from workers.compute.autograd.operators.base import Kernel, Node, Rule, scalar
from workers.compute.autograd.operators.windows import window_of

# Names of opset 20 and of 16, as PyTorch calls them.
_MODES = {"linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic", "bicubic": "bicubic", "nearest": "nearest"}


def _grid_sample(node: Node) -> Kernel:
    mode, padding = _MODES[node.text("mode", "linear")], node.text("padding_mode", "zeros")
    corners = bool(node.integer("align_corners"))
    return lambda x, grid: F.grid_sample(x, grid.to(x.dtype), mode, padding, corners)


def _affine_grid(node: Node) -> Kernel:
    corners = bool(node.integer("align_corners"))
    return lambda theta, size: F.affine_grid(theta, size.tolist(), corners)


def _sample(planes: Tensor, ys: Tensor, xs: Tensor, padding: str) -> Tensor:
    """Sample planes (rows, channels, h, w) at pixel positions (rows, a, b), bilinearly."""
    height, width = planes.shape[-2:]
    grid = torch.stack([(2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1], -1)
    return F.grid_sample(planes, grid.to(planes.dtype), "bilinear", padding, align_corners=False)


def _corner_products(planes: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Return the four neighbours of each pixel position, times their bilinear weights: (rows, channels, a, b, 4)."""
    height, width = planes.shape[-2:]
    ys, xs = ys.clamp(0, height - 1), xs.clamp(0, width - 1)
    top, left = ys.floor(), xs.floor()
    down, right = ys - top, xs - left
    parts = []
    for y, row_weight in ((top, 1 - down), (top + 1, down)):
        for x, weight in ((left, row_weight * (1 - right)), (left + 1, row_weight * right)):
            picked = planes[..., y.long().clamp(max=height - 1), x.long().clamp(max=width - 1)]
            parts.append(picked * weight.to(planes.dtype))
    return torch.stack(parts, -1)


def _col2im(node: Node) -> Kernel:
    def run(x: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
        image, block = image_shape.tolist(), tuple(block_shape.tolist())
        window, rank = window_of(node, block), len(block)
        padded = [size + window.pads[axis] + window.pads[axis + rank] for axis, size in enumerate(image)]
        counts = [(size - window.extent(axis)) // window.strides[axis] + 1 for axis, size in enumerate(padded)]
        columns = x.reshape(x.shape[0], x.shape[1] // math.prod(block), *block, *counts)
        canvas = torch.zeros(*columns.shape[:2], *padded, dtype=x.dtype, device=x.device)
        for place in itertools.product(*map(range, block)):
            starts = [at * dilation for at, dilation in zip(place, window.dilations, strict=True)]
            spans = [
                slice(start, start + (count - 1) * stride + 1, stride)
                for start, count, stride in zip(starts, counts, window.strides, strict=True)
            ]
            chosen: tuple[Any, ...] = (..., *spans)
            column: tuple[Any, ...] = (slice(None), slice(None), *place)
            canvas[chosen] += columns[column]
        for axis, size in enumerate(image):
            canvas = canvas.narrow(axis + 2, window.pads[axis], size)
        return canvas

    return run


def _deform_conv(node: Node) -> Kernel:
    groups, shares = node.integer("group", 1), node.integer("offset_group", 1)

    def run(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        window = window_of(node, tuple(weight.shape[2:]))
        rows, channels = x.shape[:2]
        height, width = offset.shape[-2:]
        places = list(itertools.product(*map(range, window.kernel)))
        shifts = offset.reshape(rows, shares, len(places), 2, height, width)
        planes = x.reshape(rows * shares, channels // shares, *x.shape[2:])
        base_y = torch.arange(height, device=x.device).reshape(-1, 1) * window.strides[0] - window.pads[0]
        base_x = torch.arange(width, device=x.device).reshape(1, -1) * window.strides[1] - window.pads[1]
        parts = []
        for at, (down, right) in enumerate(places):
            ys = shifts[:, :, at, 0] + base_y + down * window.dilations[0]
            xs = shifts[:, :, at, 1] + base_x + right * window.dilations[1]
            part = _sample(planes, ys.flatten(0, 1), xs.flatten(0, 1), "zeros")
            if mask is not None:
                part = part * mask.reshape(rows, shares, len(places), height, width)[:, :, at].flatten(0, 1).unsqueeze(
                    1
                )
            parts.append(part.reshape(rows, groups, channels // groups, height, width))
        columns = torch.stack(parts, 3)  # (rows, groups, channels of a group, places, height, width)
        filters = weight.reshape(groups, -1, channels // groups, len(places))
        y = torch.einsum("ngckhw,gock->ngohw", columns, filters).reshape(rows, -1, height, width)
        return y if bias is None else y + bias.reshape(1, -1, 1, 1)

    return run


def _roi_align(node: Node) -> Kernel:
    out_height, out_width = node.integer("output_height", 1), node.integer("output_width", 1)
    ratio, scale, mode = node.integer("sampling_ratio"), node.number("spatial_scale", 1.0), node.text("mode", "avg")
    # Opset 10 had no half-pixel shift and no attribute for it.
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"  # noqa: PLR2004 - opset numbers
    shifted = node.text("coordinate_transformation_mode", default) == "half_pixel"

    def points(start: float, length: float, bins: int, device: torch.device) -> tuple[Tensor, int]:
        each = length / bins
        count = ratio if ratio > 0 else max(1, math.ceil(each))
        steps = (torch.arange(bins * count, device=device) + 0.5) * each / count
        return start + steps, count

    def one(planes: Tensor, box: list[float]) -> Tensor:
        left, top, right, bottom = (side * scale - (0.5 if shifted else 0.0) for side in box)
        height, width = bottom - top, right - left
        if not shifted:
            height, width = max(height, 1.0), max(width, 1.0)
        ys, down = points(top, height, out_height, planes.device)
        xs, across = points(left, width, out_width, planes.device)
        grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
        if mode == "max":  # the largest weighted neighbour, not the largest interpolated value: so says the standard
            found = _corner_products(planes, grid_y, grid_x).amax(-1)
        else:
            found = _sample(planes, grid_y.unsqueeze(0), grid_x.unsqueeze(0), "border")
        high, wide = planes.shape[-2:]
        outside = (grid_y < -1) | (grid_y > high) | (grid_x < -1) | (grid_x > wide)
        found = found.masked_fill(outside, 0).reshape(-1, out_height, down, out_width, across)
        return found.amax((2, 4)) if mode == "max" else found.mean((2, 4))

    def run(x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
        boxes = [one(x[row : row + 1], box) for row, box in zip(batch.tolist(), rois.tolist(), strict=True)]
        empty = x.new_zeros(0, x.shape[1], out_height, out_width)
        return torch.stack(boxes) if boxes else empty

    return run


def _max_roi_pool(node: Node) -> Kernel:
    """Pool the cells of each region, whose borders are whole pixels (Girshick, 2015)."""
    high, wide = node.integers("pooled_shape") or [1, 1]
    scale = node.number("spatial_scale", 1.0)

    def cells(start: float, end: float, bins: int, size: int) -> list[slice]:
        first, last = (math.floor(side * scale + 0.5) for side in (start, end))
        each = max(last - first + 1, 1) / bins
        limits = [(math.floor(at * each) + first, math.ceil((at + 1) * each) + first) for at in range(bins)]
        return [slice(min(max(low, 0), size), min(max(top, 0), size)) for low, top in limits]

    def one(plane: Tensor, box: list[float]) -> Tensor:
        rows, columns = cells(box[1], box[3], high, plane.shape[1]), cells(box[0], box[2], wide, plane.shape[2])
        parts = [plane[:, row, column] for row in rows for column in columns]
        largest = [part.amax((1, 2)) if part.numel() else plane.new_zeros(len(plane)) for part in parts]
        return torch.stack(largest, -1).reshape(-1, high, wide)

    def run(x: Tensor, rois: Tensor) -> Tensor:
        boxes = [one(x[int(row)], box) for row, *box in rois.tolist()]
        return torch.stack(boxes) if boxes else x.new_zeros(0, x.shape[1], high, wide)

    return run


def _corners(boxes: Tensor, *, centred: bool) -> Tensor:
    """Return boxes as (low, low, high, high) corners, whichever order they came in."""
    if centred:
        x, y, width, height = boxes.unbind(-1)
        return torch.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of one box with each of the others."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(-1) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


def _keep(boxes: Tensor, scores: Tensor, count: int, limit: float, lowest: float | None) -> list[int]:
    """Return the boxes that greedy suppression keeps, best first."""
    order = torch.sort(scores, descending=True, stable=True).indices
    waiting = order if lowest is None else order[scores[order] > lowest]
    kept: list[int] = []
    while len(waiting) and len(kept) < count:
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        waiting = waiting[_overlap(boxes[best], boxes[waiting]) <= limit]
    return kept


def _non_max_suppression(node: Node) -> Kernel:
    centred = bool(node.integer("center_point_box"))

    def run(
        boxes: Tensor,
        scores: Tensor,
        count: Tensor | None = None,
        overlap: Tensor | None = None,
        lowest: Tensor | None = None,
    ) -> Tensor:
        most = 0 if count is None else int(scalar(count))
        limit = 0.0 if overlap is None else float(scalar(overlap))
        floor = None if lowest is None else float(scalar(lowest))
        corners = _corners(boxes, centred=centred)
        found = [
            [row, kind, box]
            for row in range(scores.shape[0])
            for kind in range(scores.shape[1])
            for box in _keep(corners[row], scores[row, kind], most, limit, floor)
        ]
        return torch.tensor(found, dtype=torch.int64, device=boxes.device).reshape(-1, 3)

    return run


RULES: dict[str, Rule] = {
    "AffineGrid": _affine_grid,
    "Col2Im": _col2im,
    "DeformConv": _deform_conv,
    "GridSample": _grid_sample,
    "MaxRoiPool": _max_roi_pool,
    "NonMaxSuppression": _non_max_suppression,
    "RoiAlign": _roi_align,
}
