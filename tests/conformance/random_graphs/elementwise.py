"""Nodes that work element by element, and casts."""

from functools import partial

import numpy as np
from onnx import helper

from tests.conformance.random_graphs.draft import (
    BOOL,
    DOUBLE,
    FLOAT,
    FLOATS,
    INT8,
    INT32,
    INT64,
    UINT8,
    WHOLE,
    Array,
    Draft,
    Form,
    Unfit,
    Value,
)

# By the opset that they came with, or that lets them take their newer types.
_SMOOTH = {
    **dict.fromkeys(("Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Sigmoid", "Tanh", "Relu", "LeakyRelu"), 9),
    **dict.fromkeys(("Elu", "Selu", "HardSigmoid", "Softplus", "Softsign", "Erf", "Sin", "Cos", "Tan"), 9),
    **dict.fromkeys(("Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Identity"), 9),
    "Celu": 12,
    "HardSwish": 14,
    "Mish": 18,
    "Gelu": 20,
    "Swish": 24,
}
_SLOPES = {"LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid"}


def smooth(draft: Draft) -> None:
    op_type = draft.choice(sorted(_SMOOTH))
    draft.since(_SMOOTH[op_type])
    attributes = {}
    if op_type in _SLOPES and draft.flag():
        attributes["alpha"] = draft.choice([0.25, 0.5, 1.5])
    if op_type == "Gelu" and draft.flag():
        attributes["approximate"] = "tanh"
    kinds = (*FLOATS, INT64, INT32, INT8) if op_type in {"Abs", "Neg"} else FLOATS
    draft.add(op_type, draft.pick(kinds), **attributes)


def jumping(draft: Draft) -> None:
    """Add an operator of one input that jumps where it is not constant or smooth."""
    op_type = draft.choice(["Floor", "Ceil", "Round", "Sign", "Shrink", "ThresholdedRelu", "IsNaN", "IsInf", "Not"])
    draft.since({"Round": 11, "IsInf": 10, "ThresholdedRelu": 10}.get(op_type, 9))
    if op_type == "Not":
        draft.add(op_type, draft.pick([BOOL]))
        return
    x = draft.pick(WHOLE if op_type == "Sign" and draft.flag() else FLOATS)
    array, attributes = x.array, {}
    if op_type in {"Floor", "Ceil"}:
        draft.clear_of(array - np.round(array))
    elif op_type == "Round":
        draft.clear_of(array - np.floor(array) - 0.5)
    elif op_type == "Sign" and x.kind in FLOATS:
        draft.clear_of(array)
    elif op_type == "ThresholdedRelu":
        draft.clear_of(array - 0.5)
        attributes["alpha"] = 0.5
    elif op_type == "Shrink":
        draft.clear_of(np.abs(array) - 0.25)
        attributes = {"lambd": 0.25, "bias": draft.choice([0.0, 0.1])}
    draft.add(op_type, x, **attributes)


def arithmetic(draft: Draft) -> None:
    op_type = draft.choice(["Add", "Sub", "Mul", "Div", "Pow", "PRelu"])
    x = draft.pick(FLOATS if op_type in {"Pow", "PRelu"} else (*FLOATS, INT64, INT32))
    y = draft.partner(x)
    if op_type == "Div" and x.kind not in FLOATS:
        y = _divisor(draft, x)
    if op_type == "Pow":
        y = draft.constant(draft.choice([2, 3, 0.5, -1, 0]), x.kind)
        if draft.opset >= 12 and draft.flag():
            y = draft.constant(draft.choice([2, 3]), draft.choice([INT64, INT32, FLOAT]))
    pair = (x, y) if op_type in {"Pow", "PRelu", "Div"} or draft.flag() else (y, x)
    draft.add(op_type, *pair)


def _divisor(draft: Draft, x: Value) -> Value:
    """Return whole numbers, none of them zero: ONNX Runtime ends the process when it divides by that."""
    array = draft.rng.integers(1, 5, x.shape[draft.integer(0, x.rank) :]) * draft.choice([1, -1])
    return draft.constant(array, x.kind)


def modulo(draft: Draft) -> None:
    draft.since(10)
    x = draft.pick((*FLOATS, INT64, INT32, INT8, UINT8))
    if x.kind not in FLOATS:
        array = draft.rng.integers(1, 5, x.shape[draft.integer(0, x.rank) :])
        divisor = draft.constant(array * (1 if x.kind == UINT8 else draft.choice([1, -1])), x.kind)
        draft.add("Mod", x, divisor, fmod=draft.integer(0, 1))
        return
    divisor = draft.constant(draft.choice([0.75, -1.25, 2]), x.kind)
    quotient = x.array / divisor.array
    draft.clear_of(quotient - np.round(quotient))
    draft.add("Mod", x, divisor, fmod=1)


def several(draft: Draft) -> None:
    op_type = draft.choice(["Max", "Min", "Sum", "Mean"])
    kinds = (*FLOATS, INT64, INT32) if op_type in {"Max", "Min"} and draft.opset >= 12 else FLOATS
    x = draft.pick(kinds)
    draft.add(op_type, x, *(draft.partner(x) for _ in range(draft.integer(0, 2))))


def comparison(draft: Draft) -> None:
    op_type = draft.choice(["Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"])
    draft.since(12 if op_type.endswith("OrEqual") else 9)
    kinds = (INT64, INT32, BOOL) if op_type == "Equal" and draft.flag() else (*FLOATS, INT64, INT32)
    x = draft.pick(kinds)
    y = draft.partner(x)
    if x.kind in FLOATS:
        draft.clear_of(x.array - y.array)
    draft.add(op_type, x, y)


def logic(draft: Draft) -> None:
    op_type = draft.choice(["And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift"])
    if op_type.startswith("Bitwise"):
        draft.since(18)
        x = draft.pick(WHOLE)
    elif op_type == "BitShift":
        draft.since(11)
        x = draft.pick([UINT8])
        by = draft.weight(UINT8, x.shape, 0, 7)
        draft.add(op_type, x, by, direction=draft.choice(["LEFT", "RIGHT"]))
        return
    else:
        x = draft.pick([BOOL])
    draft.add(op_type, *([x] if op_type == "BitwiseNot" else [x, draft.partner(x)]))


def where(draft: Draft) -> None:
    x = draft.pick((*FLOATS, INT64, INT32, UINT8, BOOL))
    condition = draft.partner(Value("", np.zeros(x.shape, np.bool_)))
    draft.add("Where", condition, x, draft.partner(x))


def clip(draft: Draft) -> None:
    x = draft.pick((*FLOATS, INT64, INT32, INT8) if draft.opset >= 12 else [FLOAT])
    low, high = sorted(draft.integers(2, -2, 2))
    if draft.opset < 11:
        draft.add("Clip", x, **({"min": float(low)} if draft.flag() else {}), max=float(high))
        return
    lower = draft.constant(low, x.kind) if draft.flag() else None
    upper = draft.constant(high, x.kind) if draft.flag() else None
    draft.add("Clip", x, lower, upper)


def cast(draft: Draft) -> None:
    """Add a cast; towards whole numbers it jumps, and a number that does not fit has no right answer."""
    x = draft.pick((*FLOATS, *WHOLE, BOOL))
    to = draft.choice([FLOAT, DOUBLE, INT64, INT32, INT8, UINT8, BOOL, np.dtype(np.float16)])
    if x.kind in FLOATS and to.kind in "iu":
        nearest = np.round(x.array)
        draft.clear_of(np.where(nearest == 0, 1, x.array - nearest))
    if x.kind in FLOATS and to == BOOL:
        draft.clear_of(x.array)
    if to.kind in "iu" and x.kind != BOOL:
        _fit(x.array, to)
    if to == np.float16:
        half = x.array.astype(to)
        draft.clear_of((np.abs(x.array - half) / np.spacing(np.abs(half)).astype(x.kind) - 0.5) * 0.1)
    (y,) = draft.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(to))
    if to == np.float16:
        draft.add("Cast", y, to=helper.np_dtype_to_tensor_dtype(FLOAT))


def _fit(array: Array, to: np.dtype[np.generic]) -> None:
    limits = np.iinfo(to)
    if array.min() < limits.min or array.max() > limits.max:
        raise Unfit


def softmax(draft: Draft) -> None:
    op_type = draft.choice(["Softmax", "LogSoftmax", "Hardmax"])
    x = draft.pick(FLOATS, (1, 4))
    axis = draft.integer(-x.rank, x.rank - 1)
    if op_type == "Hardmax":
        flat = x.array if draft.opset >= 13 else x.array.reshape(int(np.prod(x.shape[: axis % x.rank])), -1)
        draft.clear_gaps(flat, axis if draft.opset >= 13 else 1)
    draft.add(op_type, x, **({"axis": axis} if draft.flag() or op_type == "Hardmax" else {}))


def dropout(draft: Draft) -> None:
    """Add what does nothing; before opset 12 the standard did not say what its mask holds then."""
    x = draft.pick(FLOATS)
    draft.add("Dropout", x, outputs=draft.integer(1, 2) if draft.opset >= 12 else 1)


def twice(form: Form, draft: Draft) -> None:
    """Add two nodes of the form side by side and join them: a diamond, where both read one value."""
    form(draft)
    form(draft)
    last = draft.values[-1]
    if last.kind in FLOATS:
        draft.add("Add", last, draft.partner(last))


FORMS: tuple[Form, ...] = (
    *(smooth, smooth, jumping, arithmetic, arithmetic, modulo, several, comparison, logic, where, clip, cast),
    *(softmax, dropout, partial(twice, smooth)),
)
