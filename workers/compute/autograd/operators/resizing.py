"""Resize and Upsample: each axis is a weighted sum of input positions, as the standard writes it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Method:
    """The attributes of Resize."""

    mode: str
    transform: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    extrapolation: float


@dataclass(frozen=True)
class _Axis:
    """One axis: its sizes before and after, the scale, and the region of interest."""

    size: int
    out: int
    scale: float
    start: float
    end: float


def _coordinates(axis: _Axis, transform: str) -> Floats:
    """Return where each output position lies in the input."""
    x, size, out = np.arange(axis.out, dtype=np.float64), axis.size, axis.out
    wanted = axis.scale * size
    if transform == "asymmetric":
        return x / axis.scale
    if transform == "align_corners":
        return np.zeros(out) if wanted <= 1 else x * (size - 1) / (wanted - 1)
    if transform == "pytorch_half_pixel" and wanted <= 1:
        return np.full(out, -0.5) if wanted != 1 else np.zeros(out)
    if transform == "tf_crop_and_resize":
        if out <= 1:
            return np.full(out, 0.5 * (axis.start + axis.end) * (size - 1))
        return axis.start * (size - 1) + x * (axis.end - axis.start) * (size - 1) / (out - 1)
    if transform == "half_pixel_symmetric":
        offset = size / 2 * (1 - out / wanted)
        return offset + (x + 0.5) / axis.scale - 0.5
    return (x + 0.5) / axis.scale - 0.5


_ROUNDING: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _linear(distance: Floats) -> Floats:
    return np.asarray(np.maximum(0, 1 - np.abs(distance)))


def _cubic(distance: Floats, a: float) -> Floats:
    """Cubic convolution (Keys, 1981)."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))  # noqa: PLR2004 - the kernel's support


def _matrix(axis: _Axis, method: _Method) -> Floats:
    """Return the weights (out, in) of one axis."""
    where = _coordinates(axis, method.transform)
    weights = np.zeros((axis.out, axis.size))
    rows = np.arange(axis.out)
    if method.mode == "nearest":
        picked = np.clip(_ROUNDING[method.nearest](where), 0, axis.size - 1).astype(int)
        weights[rows, picked] = 1
        return weights
    stretch = min(axis.scale, 1.0) if method.antialias else 1.0
    reach = (2 if method.mode == "cubic" else 1) / stretch
    first, count = np.floor(where - reach).astype(int), math.ceil(2 * reach) + 2
    for step in range(count):
        at = first + step
        distance = (at - where) * stretch
        part = _cubic(distance, method.cubic) if method.mode == "cubic" else _linear(distance)
        inside = (at >= 0) & (at < axis.size)
        # Positions outside repeat the border, unless they are left out and the rest is scaled up.
        part = np.where(inside, part, 0) if method.exclude_outside else part
        np.add.at(weights, (rows, np.clip(at, 0, axis.size - 1)), part)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _apply(x: Tensor, at: int, axis: _Axis, method: _Method) -> Tensor:
    if axis.out == axis.size and axis.scale == 1 and (axis.start, axis.end) == (0, 1):
        return x
    if method.mode == "nearest" and method.transform != "tf_crop_and_resize":
        where = _coordinates(axis, method.transform)
        picked = np.clip(_ROUNDING[method.nearest](where), 0, axis.size - 1).astype(np.int64)
        return x.index_select(at, torch.from_numpy(picked).to(x.device))
    kind = x.dtype if x.is_floating_point() else torch.float32
    weights = torch.from_numpy(_matrix(axis, method)).to(x.device, kind)
    y = torch.matmul(x.to(kind).movedim(at, -1), weights.T).movedim(-1, at)
    if method.transform == "tf_crop_and_resize":
        places = torch.from_numpy(_coordinates(axis, method.transform)).to(x.device)
        outside = ((places < 0) | (places > axis.size - 1)).reshape(
            [-1 if d == at % x.dim() else 1 for d in range(x.dim())]
        )
        y = torch.where(outside, torch.full((), method.extrapolation, dtype=kind, device=x.device), y)
    return y.to(x.dtype)


def _resize(node: Node) -> Kernel:
    old = node.opset < 11  # noqa: PLR2004 - opset 10 had two inputs and sampled as `asymmetric`, rounding down
    method = _Method(
        mode=node.text("mode", "nearest"),
        transform="asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel"),
        nearest="floor" if old else node.text("nearest_mode", "round_prefer_floor"),
        cubic=node.number("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.integer("exclude_outside")),
        antialias=bool(node.integer("antialias")),
        extrapolation=node.number("extrapolation_value"),
    )
    axes, policy = node.integers("axes"), node.text("keep_aspect_ratio_policy", "stretch")

    def run(x: Tensor, *given: Tensor | None) -> Tensor:
        chosen = [axis % x.dim() for axis in axes] if axes is not None else list(range(x.dim()))
        roi, scales, sizes = (None, given[0], None) if old else [*given, *([None] * (3 - len(given)))]
        factors = None if scales is None or not scales.numel() else scales.tolist()
        targets = None if sizes is None or not sizes.numel() else sizes.tolist()
        region = roi.tolist() if roi is not None and roi.numel() else [0.0] * len(chosen) + [1.0] * len(chosen)
        if targets is not None and policy != "stretch":
            ratios = [size / x.shape[axis] for size, axis in zip(targets, chosen, strict=True)]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            targets = [math.floor(ratio * x.shape[axis] + 0.5) for axis in chosen]
            factors = [ratio] * len(chosen)
        for place, at in enumerate(chosen):
            size, (start, end) = x.shape[at], (region[place], region[place + len(chosen)])
            if targets is not None:
                axis = _Axis(
                    size, int(targets[place]), factors[place] if factors else targets[place] / size, start, end
                )
            else:
                factor = (factors or [1.0] * len(chosen))[place]
                # Scales are float32: 0.6 · 10 must not round down to 5.
                axis = _Axis(size, math.floor(np.float32(size) * np.float32(factor)), factor, start, end)
                if method.transform == "tf_crop_and_resize":
                    axis = _Axis(size, math.floor(size * (end - start) * factor), factor, start, end)
            x = _apply(x, at, axis, method)
        return x

    return run


def _upsample(node: Node) -> Kernel:
    fixed = node.attributes.get("scales", ())
    method = _Method(node.text("mode", "nearest"), "asymmetric", "floor", -0.75, False, False, 0.0)  # noqa: FBT003

    def run(x: Tensor, scales: Tensor | None = None) -> Tensor:
        factors = [float(scale) for scale in fixed] if scales is None else scales.tolist()
        for at, factor in enumerate(factors):
            size = x.shape[at]
            x = _apply(x, at, _Axis(size, math.floor(np.float32(size) * np.float32(factor)), factor, 0, 1), method)
        return x

    return run


RULES: dict[str, Rule] = {"Resize": _resize, "Upsample": _upsample}
