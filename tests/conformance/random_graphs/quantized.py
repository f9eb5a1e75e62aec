"""Nodes that quantise, and those that multiply what was quantised."""

import numpy as np

from tests.conformance.random_graphs.draft import FLOAT, INT8, INT32, UINT8, Draft, Form, Value

_BYTES = (INT8, UINT8)


def _scale(draft: Draft, count: int = 0) -> Value:
    """Return positive scales that are no powers of two: those put many quotients halfway between two integers."""
    return draft.constant(draft.rng.uniform(0.03, 0.2, [count] if count else []), FLOAT)


def _point(draft: Draft, kind: np.dtype[np.generic], count: int = 0) -> Value:
    low, high = (0, 255) if kind == UINT8 else (-4, 4)
    return draft.constant(draft.rng.integers(low, high, [count] if count else []), kind)


def quantize(draft: Draft) -> None:
    """Add QuantizeLinear, and often DequantizeLinear behind it."""
    draft.since(10)
    x = draft.pick([FLOAT], (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    per_axis = draft.opset >= 13 and draft.flag()
    kind = draft.choice(_BYTES)
    count = x.shape[axis] if per_axis else 0
    scale = _scale(draft, count)
    point = _point(draft, kind, count)
    wide = scale.array.reshape([-1 if at == axis % x.rank else 1 for at in range(x.rank)]) if per_axis else scale.array
    quotient = x.array / wide
    draft.clear_of((quotient - np.floor(quotient) - 0.5) * 0.5)
    attributes = {"axis": axis} if per_axis else {}
    (y,) = draft.add("QuantizeLinear", x, scale, point, **attributes)
    if draft.flag():
        draft.add("DequantizeLinear", y, scale, point, **attributes)


def dequantize(draft: Draft) -> None:
    draft.since(10)
    x = draft.pick((*_BYTES, INT32), (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    count = x.shape[axis] if draft.opset >= 13 and draft.flag() else 0
    scale = _scale(draft, count)
    points = [] if x.kind == INT32 or draft.flag() else [_point(draft, x.kind, count)]
    draft.add("DequantizeLinear", x, scale, *points, **({"axis": axis} if count else {}))


def dynamic(draft: Draft) -> None:
    draft.since(11)
    x = draft.pick([FLOAT], (1, 4))
    span = max(x.array.max(), 0) - min(x.array.min(), 0)
    if span > 0:
        quotient = x.array / (span / 255)
        draft.clear_of((quotient - np.floor(quotient) - 0.5) * 0.5)
        start = -min(x.array.min(), 0) / (span / 255)
        draft.clear_of(np.array(start - np.floor(start) - 0.5))
    draft.add("DynamicQuantizeLinear", x, outputs=3)


def integer_products(draft: Draft) -> None:
    draft.since(10)
    if draft.flag():
        x = draft.pick([UINT8], (2, 3))
        # Without a dot product for bytes, ONNX Runtime adds two products of int8 weights in 16 bits: 7 bits fit.
        weight = draft.weight(draft.choice(_BYTES), (x.shape[-1], draft.integer(1, 4)), -60, 60)
        points = [_point(draft, UINT8), _point(draft, weight.kind)][: draft.integer(0, 2)]
        draft.add("MatMulInteger", x, weight, *points)
        return
    x = draft.fresh(UINT8, (draft.batch, 2, 4, 4), 0, 255)
    weight = draft.weight(UINT8, (2, 2, 2, 2), 0, 255)
    points = [_point(draft, UINT8), _point(draft, UINT8)][: draft.integer(0, 2)]
    draft.add("ConvInteger", x, weight, *points, **({"pads": [0, 1, 1, 0]} if draft.flag() else {}))


def float_like(draft: Draft) -> None:
    """Add QLinearMatMul or QLinearConv with a scale that puts no result near a half."""
    draft.since(10)
    kind = UINT8
    if draft.flag():
        x, weight = draft.fresh(kind, (draft.batch, 4), 0, 255), draft.weight(kind, (4, 3), 0, 255)
        op_type = "QLinearMatMul"
    else:
        x, weight = draft.fresh(kind, (draft.batch, 2, 4, 4), 0, 255), draft.weight(kind, (2, 2, 2, 2), 0, 255)
        op_type = "QLinearConv"
    parts = [_scale(draft), _point(draft, kind), weight, _scale(draft), _point(draft, kind)]
    draft.steady = False
    (exact, integers) = _product(x, parts, op_type)
    scale = draft.constant(float(np.abs(integers * exact).max() / 97.3 + 0.01), FLOAT)
    quotient = integers * exact / float(scale.array)
    draft.clear_of((quotient - np.floor(quotient) - 0.5) * 0.5)
    draft.add(op_type, x, *parts, scale, _point(draft, kind))


def _product(x: Value, parts: list[Value], op_type: str) -> tuple[float, np.ndarray]:
    left = x.array.astype(np.int64) - int(parts[1].array)
    right = parts[2].array.astype(np.int64) - int(parts[4].array)
    scale = float(parts[0].array) * float(parts[3].array)
    if op_type == "QLinearMatMul":
        return scale, left @ right
    windows = np.lib.stride_tricks.sliding_window_view(left, (2, 2), axis=(2, 3))
    return scale, np.einsum("bchwij,ocij->bohw", windows, right)


FORMS: tuple[Form, ...] = (quantize, dequantize, dynamic, integer_products, float_like)
