"""Nodes that sum over axes: reductions, products, convolutions, pools, normalizations, resizing."""

from typing import Any

import numpy as np

from tests.conformance.random_graphs.draft import FLOAT, FLOATS, INT32, INT64, Draft, Form, Unfit, Value, axes_given

_AXES_AS_INPUT = 18
_PADDINGS = ("NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def reduction(draft: Draft) -> None:
    names = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    op_type = "Reduce" + draft.choice(names)
    whole = (INT64, INT32) if op_type in {"ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"} else ()
    x = draft.pick((*FLOATS, *whole), (0 if draft.opset >= _AXES_AS_INPUT else 1, 5))
    keep = draft.integer(0, 1)
    since = 13 if op_type == "ReduceSum" else _AXES_AS_INPUT
    if not x.rank or draft.integer(0, 3) == 0:
        noop = {"noop_with_empty_axes": draft.integer(0, 1)} if draft.opset >= since else {}
        draft.add(op_type, x, keepdims=keep, **noop)
        return
    axes = draft.permutation(x.rank)[: draft.integer(1, x.rank)]
    if draft.opset >= 11:
        axes = [axis - x.rank if draft.flag() else axis for axis in axes]
    axes_given(draft, op_type, x, axes, since=since, keepdims=keep)


def matmul(draft: Draft) -> None:
    x = draft.pick((*FLOATS, INT32, INT64), (1, 4))
    width = draft.integer(1, 4)
    lead = tuple(size if draft.flag() else 1 for size in x.shape[draft.integer(0, max(0, x.rank - 2)) : -2])
    shape = (x.shape[-1],) if draft.flag() and draft.flag() else (*lead, x.shape[-1], width)
    y = draft.fresh(x.kind, shape)
    if x.rank > 1 and draft.integer(0, 3) == 0:
        draft.add("MatMul", draft.fresh(x.kind, (*lead, width, x.shape[-2])), x)
        return
    draft.add("MatMul", x, y)


def gemm(draft: Draft) -> None:
    x = draft.pick(FLOATS, (2, 2))
    left, right = draft.integer(0, 1), draft.integer(0, 1)
    rows, width = x.shape[left], x.shape[1 - left]
    out = draft.integer(1, 4)
    weight = draft.weight(x.kind, (out, width) if right else (width, out))
    bias = draft.fresh(x.kind, draft.choice([(out,), (1, out), (rows, 1), (rows, out), (1,), ()]))
    attributes: dict[str, Any] = {"transA": left, "transB": right}
    if draft.flag():
        attributes |= {"alpha": draft.choice([0.5, 2.0, -1.0]), "beta": draft.choice([0.0, 0.5, 1.5])}
    draft.add("Gemm", x, weight, *([bias] if draft.flag() or draft.opset < 11 else []), **attributes)


_EQUATIONS = (
    *("ij,jk->ik", "bij,bjk->bik", "bij,kj->bik", "ij->ji", "ij->i", "ij,ij->", "...ij,jk->...ik", "ii->i"),
    *("bhqd,bhkd->bhqk", "i,j->ij", "ij,jk", "bij,bj->bi"),
)


def einsum(draft: Draft) -> None:
    draft.since(12)
    equation = draft.choice(_EQUATIONS)
    sizes: dict[str, int] = {}
    inputs = []
    kind = draft.choice(FLOATS)
    for term in equation.partition("->")[0].split(","):
        shape = [sizes.setdefault(letter, draft.integer(1, 4)) for letter in term.replace("...", "")]
        extra = draft.integers(1, 2, 2) if "..." in term else []
        exact = [v for v in draft.values if v.kind == kind and v.shape == (*extra, *shape)]
        inputs.append(draft.choice(exact) if exact else draft.fresh(kind, (*extra, *shape)))
    draft.add("Einsum", *inputs, equation=equation)


def _image(draft: Draft, low: int = 3, high: int = 5, least: int = 1) -> Value:
    """Return (rows, channels, sides…)."""
    found = [v for v in draft.values if v.kind == FLOAT and low <= v.rank <= high and v.array.size]
    found = [v for v in found if min(v.shape[2:]) >= least]
    if found and draft.integer(0, 2):
        return draft.choice(found[::-1])
    sides = draft.integers(draft.integer(low, high) - 2, max(least, 2), 6)
    return draft.fresh(FLOAT, (draft.batch, draft.choice([1, 2, 4]), *sides))


def _window(draft: Draft, x: Value, *, dilated: bool, most: int = 3) -> dict[str, Any]:
    """Draw a kernel's shape and how it moves over `x`."""
    kernel = [draft.integer(1, min(most, size)) for size in x.shape[2:]]
    found: dict[str, Any] = {"kernel_shape": kernel}
    if draft.flag():
        found["strides"] = draft.integers(len(kernel), 1, 3)
    padding = draft.choice(_PADDINGS)
    if dilated and draft.flag() and not padding.startswith("SAME"):
        found["dilations"] = draft.integers(len(kernel), 1, 2)
    if padding != "NOTSET":
        found["auto_pad"] = padding
    elif draft.flag():
        found["pads"] = [draft.integer(0, size - 1) for size in kernel * 2]
    _refuse_gaps(x, found)
    return found


def _refuse_gaps(x: Value, window: dict[str, Any]) -> None:
    """Refuse a window that is wider than what it moves over: there is no result, or an error, in either runtime."""
    kernel, count = window["kernel_shape"], len(window["kernel_shape"])
    pads = window.get("pads", [0] * 2 * count)
    for at, dilation in enumerate(window.get("dilations", [1] * count)):
        if (kernel[at] - 1) * dilation + 1 > x.shape[2 + at] + pads[at] + pads[at + count]:
            raise Unfit


def _refuse_skipping(window: dict[str, Any]) -> None:
    """Refuse a window that steps over elements where the padding follows from the size: it would be below zero."""
    skips = any(size < stride for size, stride in zip(window["kernel_shape"], window.get("strides", ()), strict=False))
    if skips and window.get("auto_pad", "").startswith("SAME"):
        raise Unfit


def convolution(draft: Draft) -> None:
    x = _image(draft)
    groups = draft.choice([n for n in (1, 2, x.shape[1]) if x.shape[1] % n == 0])
    window = _window(draft, x, dilated=True)
    out = groups * draft.integer(1, 2)
    weight = draft.weight(FLOAT, (out, x.shape[1] // groups, *window["kernel_shape"]), -1, 1)
    if draft.flag():
        del window["kernel_shape"]
    bias = [draft.weight(FLOAT, (out,))] if draft.flag() else []
    draft.add("Conv", x, weight, *bias, group=groups, **window)


def transposed_convolution(draft: Draft) -> None:
    x = _image(draft, high=4)
    groups = draft.choice([n for n in (1, 2) if x.shape[1] % n == 0])
    window = _window(draft, x, dilated=True)
    weight = draft.weight(FLOAT, (x.shape[1], draft.integer(1, 2), *window["kernel_shape"]), -1, 1)
    strides = window.get("strides")
    _refuse_skipping(window)
    if strides and draft.flag():
        window["output_padding"] = [draft.integer(0, stride - 1) for stride in strides]
    bias = [draft.weight(FLOAT, (weight.shape[1] * groups,))] if draft.flag() else []
    draft.add("ConvTranspose", x, weight, *bias, group=groups, **window)


def pool(draft: Draft) -> None:
    x = _image(draft)
    op_type = draft.choice(["MaxPool", "AveragePool", "LpPool"])
    newer = 10 if op_type == "MaxPool" else 19 if op_type == "AveragePool" else 18
    window = _window(draft, x, dilated=draft.opset >= newer)
    if draft.opset >= (18 if op_type == "LpPool" else 10) and draft.flag():
        window["ceil_mode"] = 1
    if op_type == "AveragePool" and draft.flag():
        window["count_include_pad"] = 1
    if op_type == "LpPool":
        window["p"] = draft.integer(1, 3)
    _refuse_skipping(window)
    if op_type == "MaxPool" and draft.flag():
        draft.add(op_type, draft.distinct(x.shape), outputs=2, **window)
        return
    draft.add(op_type, x, **window)


def global_pool(draft: Draft) -> None:
    op_type = draft.choice(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
    draft.add(op_type, _image(draft), **({"p": draft.integer(1, 3)} if op_type == "GlobalLpPool" else {}))


def _vectors(draft: Draft, size: int, count: int) -> list[Value]:
    return [draft.weight(FLOAT, (size,), 0.5, 1.5) for _ in range(count)]


def normalization(draft: Draft) -> None:
    op_type = draft.choice(["BatchNormalization", "InstanceNormalization", "LRN", "LpNormalization", "MeanVariance"])
    if op_type == "BatchNormalization":
        x = draft.pick([FLOAT], (2, 4))
        draft.add(op_type, x, *_vectors(draft, x.shape[1], 4), **({"epsilon": 1e-3} if draft.flag() else {}))
    elif op_type == "InstanceNormalization":
        x = _image(draft, least=2)
        draft.add(op_type, x, *_vectors(draft, x.shape[1], 2), epsilon=1e-2)
    elif op_type == "LRN":
        draft.add(op_type, _image(draft, 4, 4), size=draft.choice([1, 3, 5]), alpha=0.1, beta=0.75, bias=1.0)
    elif op_type == "LpNormalization":
        x = draft.pick([FLOAT], (1, 4))
        draft.add(op_type, x, axis=draft.integer(-x.rank, x.rank - 1), p=draft.integer(1, 2))
    else:
        x = _image(draft, 4, 4, least=2)
        draft.clear_of(x.array.std(axis=(1, 2)) * 0.05)  # the root of hardly any variance is mostly rounding
        draft.clear_of(x.array.std(axis=(0, 2, 3)) * 0.05)
        draft.add("MeanVarianceNormalization", x, **({"axes": [1, 2]} if draft.flag() else {}))


def layer_normalization(draft: Draft) -> None:
    op_type = draft.choice(["LayerNormalization", "LayerNormalization", "RMSNormalization", "GroupNormalization"])
    draft.since({"LayerNormalization": 17, "RMSNormalization": 23}.get(op_type, 18))
    if op_type == "GroupNormalization":
        x = _image(draft, least=2)
        groups = draft.choice([n for n in (1, 2) if x.shape[1] % n == 0])
        size = groups if draft.opset < 21 else x.shape[1]
        draft.add(op_type, x, *_vectors(draft, size, 2), num_groups=groups, epsilon=1e-2)
        return
    x = draft.pick([FLOAT], (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    parts = [draft.weight(FLOAT, x.shape[axis % x.rank :], 0.5, 1.5)]
    if op_type == "LayerNormalization" and draft.flag():
        parts.append(draft.weight(FLOAT, parts[0].shape))
    draft.add(op_type, x, *parts, axis=axis, epsilon=1e-2)


_PLACEMENTS = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")


def resize(draft: Draft) -> None:
    x = _image(draft, 4, 4)
    factors = [1.0, 1.0, *(draft.choice([0.5, 1.0, 2.0, 1.5, 3.0]) for _ in x.shape[2:])]
    mode = draft.choice(["nearest", "linear", "cubic"])
    if draft.opset < 11:
        mode = draft.choice(["nearest", "linear"])
        scales = draft.constant(np.maximum(factors, 1.0 if draft.opset < 10 else 0.0), FLOAT)
        draft.add("Upsample" if draft.opset < 10 else "Resize", x, scales, mode=mode)
        return
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draft.choice(_PLACEMENTS)}
    if mode == "nearest":
        attributes["nearest_mode"] = draft.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        attributes |= {"cubic_coeff_a": draft.choice([-0.75, -0.5]), "exclude_outside": draft.integer(0, 1)}
    if draft.opset >= 18 and mode != "nearest" and draft.flag():
        attributes["antialias"] = 1
    region = draft.constant([], FLOAT) if draft.opset < 13 else None
    whole = all(float(size * factor).is_integer() for size, factor in zip(x.shape, factors, strict=True))
    if not whole and attributes["coordinate_transformation_mode"] in {"align_corners", "pytorch_half_pixel"}:
        raise Unfit  # the standard's own cases count in fractions of a place here, ONNX Runtime in whole ones
    if draft.flag():
        sizes = [*x.shape[:2], *draft.integers(2, 1, 6)]
        empty = draft.constant([], FLOAT) if draft.opset < 13 else None
        draft.add("Resize", x, region, empty, draft.constant(sizes), **attributes)
        return
    draft.add("Resize", x, region, draft.constant(factors, FLOAT), **attributes)


def grid_sample(draft: Draft) -> None:
    draft.since(16)
    x = _image(draft, 4, 4)
    grid = draft.fresh(FLOAT, (x.shape[0], *draft.integers(2, 1, 4), 2), -1.2, 1.2)
    mode = draft.choice(["bilinear", "bicubic"] if draft.opset < 20 else ["linear", "cubic"])
    padding = draft.choice(["zeros", "border", "reflection"])
    draft.add("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=draft.integer(0, 1))


def attention(draft: Draft) -> None:
    draft.since(23)
    heads, groups, size = draft.choice([1, 2, 4]), draft.choice([1, 2]), draft.choice([2, 4])
    if heads % groups:
        raise Unfit
    length, past = draft.integers(2, 1, 4)
    query = draft.fresh(FLOAT, (draft.batch, heads, length, size))
    key, value = (draft.fresh(FLOAT, (draft.batch, groups, past, size)) for _ in range(2))
    mask = []
    if draft.flag():
        mask = [draft.weight(FLOAT, (length, past))]
    causal = {"is_causal": 1} if draft.flag() and not mask else {}
    scale = {"scale": 0.3} if draft.flag() else {}
    draft.add("Attention", query, key, value, *mask, **causal, **scale)


FORMS: tuple[Form, ...] = (
    *(reduction, reduction, matmul, matmul, gemm, einsum, convolution, convolution, transposed_convolution, pool, pool),
    *(global_pool, normalization, layer_normalization, resize, resize, grid_sample, attention),
)
