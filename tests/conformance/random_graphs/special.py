"""Rarer nodes: regions, transforms, losses, windows, and what ONNX Runtime's own optimiser writes."""

from typing import Any

import numpy as np

from tests.conformance.random_graphs.draft import BOOL, FLOAT, FLOATS, INT32, INT64, UINT8, Draft, Form, Unfit, Value

_VENDOR = "com.microsoft"


def determinant(draft: Draft) -> None:
    draft.since(11)
    size = draft.integer(1, 3)
    draft.add("Det", draft.fresh(draft.choice(FLOATS), (*draft.dims(0, 2), size, size)))


def regions(draft: Draft) -> None:
    draft.since(10)
    x, count = draft.fresh(FLOAT, (draft.batch, 2, 5, 6)), draft.integer(1, 3)
    corners = np.sort(draft.rng.uniform(0, 9, (count, 2, 2)), axis=1).reshape(count, 4)
    boxes, rows = draft.constant(corners, FLOAT), draft.weight(INT64, (count,), 0, draft.batch - 1)
    attributes: dict[str, Any] = {"output_height": draft.integer(1, 3), "output_width": draft.integer(1, 3)}
    attributes |= {"sampling_ratio": draft.integer(0, 2), "spatial_scale": draft.choice([1.0, 0.5])}
    attributes["mode"] = draft.choice(["avg", "max"]) if draft.opset >= 22 else "avg"
    if draft.opset >= 16:
        attributes["coordinate_transformation_mode"] = draft.choice(["half_pixel", "output_half_pixel"])
    draft.add("RoiAlign", x, boxes, rows, **attributes)


def unpool(draft: Draft) -> None:
    x = draft.distinct((draft.batch, 2, 4, 4))
    pooled, places = draft.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], outputs=2)
    draft.add("MaxUnpool", pooled, places, kernel_shape=[2, 2], strides=[2, 2])


def columns(draft: Draft) -> None:
    draft.since(18)
    blocks, image = draft.integers(2, 1, 2), draft.integers(2, 3, 5)
    attributes: dict[str, Any] = {}
    if draft.flag():
        attributes["strides"] = draft.integers(2, 1, 2)
    if draft.flag():
        attributes["pads"] = draft.integers(4, 0, 1)
    if draft.flag():
        attributes["dilations"] = draft.integers(2, 1, 2)
    stride, dilation = (attributes.get(name, [1, 1]) for name in ("strides", "dilations"))
    pads, count = attributes.get("pads", [0] * 4), 1
    for at in range(2):
        count *= (image[at] + pads[at] + pads[at + 2] - (blocks[at] - 1) * dilation[at] - 1) // stride[at] + 1
    x = draft.fresh(FLOAT, (draft.batch, 2 * blocks[0] * blocks[1], count))
    draft.add("Col2Im", x, draft.constant(image), draft.constant(blocks), **attributes)


def suppression(draft: Draft) -> None:
    draft.since(10)
    boxes = np.sort(draft.rng.uniform(0, 1, (1, 6, 2, 2)), axis=2).reshape(1, 6, 4)
    scores = draft.weight(FLOAT, (1, 2, 6), 0, 1)
    limits = [draft.constant([draft.integer(1, 4)]), draft.constant([0.4], FLOAT), draft.constant([0.3], FLOAT)]
    draft.add("NonMaxSuppression", draft.constant(boxes, FLOAT), scores, *limits[: draft.integer(1, 3)])


def fourier(draft: Draft) -> None:
    draft.since(17)
    x = draft.fresh(FLOAT, (draft.batch, draft.integer(2, 6), draft.choice([1, 2])))
    inverse, sided = draft.flag(), draft.flag() and x.shape[-1] == 1
    length = draft.constant(draft.integer(2, 6)) if draft.flag() else None
    attributes = {"inverse": int(inverse and not sided), "onesided": int(sided)}
    if draft.opset < 20:
        draft.add("DFT", x, length, axis=1, **attributes)
    else:
        draft.add("DFT", x, length, draft.constant(1), **attributes)


def short_fourier(draft: Draft) -> None:
    draft.since(17)
    length = draft.integer(2, 4)
    x = draft.fresh(FLOAT, (draft.batch, draft.integer(5, 9), 1))
    window = draft.weight(FLOAT, (length,)) if draft.flag() else None
    step, frame = draft.constant(draft.integer(1, 3)), draft.constant(length)
    draft.add("STFT", x, step, window, frame, onesided=draft.integer(0, 1))


def window(draft: Draft) -> None:
    draft.since(17)
    op_type = draft.choice(["HannWindow", "HammingWindow", "BlackmanWindow"])
    draft.add(op_type, draft.constant(draft.integer(2, 7)), periodic=draft.integer(0, 1))


def loss(draft: Draft) -> None:
    draft.since(12)
    op_type = draft.choice(["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
    classes, more = draft.integer(2, 4), tuple(draft.integers(draft.integer(0, 2), 1, 3))
    x = draft.fresh(FLOAT, (draft.batch, classes, *more))
    labels = draft.fresh(draft.choice([INT64, INT32]), (draft.batch, *more), 0, classes - 1)
    weights = [draft.weight(FLOAT, (classes,), 0.2, 2)] if draft.flag() else []
    attributes: dict[str, Any] = {"reduction": draft.choice(["mean", "sum", "none"])}
    if draft.flag():
        attributes["ignore_index"] = int(labels.array.flat[0])
        if (labels.array == labels.array.flat[0]).all():
            raise Unfit  # nothing is left to take the mean of
    draft.steady = False
    draft.add(op_type, x, labels, *weights, **attributes)


def _wide(draft: Draft) -> Value:
    """Return (rows, length, 8)."""
    found = [v for v in draft.values if v.kind == FLOAT and v.rank == 3 and v.shape[-1] == 8]
    return draft.choice(found) if found else draft.fresh(FLOAT, (draft.batch, draft.integer(1, 4), 8))


def fused(draft: Draft) -> None:
    op_type = draft.choice(["BiasGelu", "FastGelu", "QuickGelu", "Gelu", "FusedMatMul", "FusedConv", "FusedGemm"])
    if op_type == "FusedConv":
        x = draft.fresh(FLOAT, (draft.batch, 2, 4, 4))
        weight = draft.weight(FLOAT, (3, 2, 2, 2), -1, 1)
        draft.add(op_type, x, weight, activation=draft.choice(["Relu", "Tanh", "Sigmoid"]), domain=_VENDOR)
    elif op_type == "FusedGemm":
        x, weight = draft.fresh(FLOAT, (draft.batch, 4)), draft.weight(FLOAT, (3, 4))
        draft.add(op_type, x, weight, draft.weight(FLOAT, (3,)), activation="Relu", transB=1, domain=_VENDOR)
    elif op_type == "FusedMatMul":
        x = draft.pick([FLOAT], (2, 4))
        turned = draft.integer(0, 1)
        width = x.shape[-2 if turned else -1]
        weight = draft.weight(FLOAT, (width, 3))
        draft.add(op_type, x, weight, transA=turned, alpha=draft.choice([1.0, 0.5]), domain=_VENDOR)
    else:
        x = _wide(draft)
        bias = [draft.weight(FLOAT, (8,))] if op_type in {"BiasGelu", "FastGelu"} else []
        draft.add(op_type, x, *bias, domain=_VENDOR)


def skipping(draft: Draft) -> None:
    x = _wide(draft)
    skip = draft.fresh(FLOAT, x.shape)
    draft.steady = False  # ONNX Runtime reads a skip of too few rows from the beginning again
    scale, shift, bias = (draft.weight(FLOAT, (8,), 0.5, 1.5) for _ in range(3))
    if draft.flag():
        draft.add("SkipSimplifiedLayerNormalization", x, skip, scale, *([bias] if draft.flag() else []), domain=_VENDOR)
        return
    parts = [shift, bias][: draft.integer(0, 2)]
    draft.add("SkipLayerNormalization", x, skip, scale, *parts, epsilon=1e-2, domain=_VENDOR)


def heads(draft: Draft) -> None:
    x = _wide(draft)
    rows, length, _ = x.shape
    if draft.flag():
        weight, bias = draft.weight(FLOAT, (8, 24), -0.5, 0.5), draft.weight(FLOAT, (24,))
        mask = [draft.fresh(INT32, (rows, length), 0, 1)] if draft.flag() else []
        draft.add("Attention", x, weight, bias, *mask, num_heads=2, unidirectional=draft.integer(0, 1), domain=_VENDOR)
        return
    keys = draft.integer(1, 4)
    key, value = (draft.fresh(FLOAT, (rows, keys, 8)) for _ in range(2))
    draft.add("MultiHeadAttention", x, key, value, num_heads=draft.choice([1, 2, 4]), domain=_VENDOR)


def nibbles(draft: Draft) -> None:
    x = draft.fresh(FLOAT, (draft.batch, draft.integer(1, 3), 32))
    count = draft.integer(1, 4)
    parts = [draft.weight(UINT8, (count, 2, 8), 0, 255), draft.weight(FLOAT, (count * 2,), 0.01, 0.1)]
    if draft.flag():
        parts.append(draft.weight(UINT8, (count,), 0, 255))
    draft.add("MatMulNBits", x, *parts, K=32, N=count, bits=4, block_size=16, domain=_VENDOR)


def rotated(draft: Draft) -> None:
    x = draft.fresh(FLOAT, (draft.batch, 2, draft.integer(1, 4), 4))
    draft.since(9)
    cos, sin = (draft.weight(FLOAT, (8, 2), -1, 1) for _ in range(2))
    if draft.opset >= 23 and draft.flag():
        places = draft.fresh(INT64, (x.shape[0], x.shape[2]), 0, 7)
        draft.add("RotaryEmbedding", x, cos, sin, places, interleaved=draft.integer(0, 1))
        return
    places = draft.fresh(INT64, (1,), 0, 4)
    draft.add("RotaryEmbedding", x, places, cos, sin, interleaved=draft.integer(0, 1), domain=_VENDOR)


def truths(draft: Draft) -> None:
    """Count truth values: a cast, a sum, a choice by the result."""
    x = draft.pick([BOOL], (1, 4))
    (numbers,) = draft.add("Cast", x, to=7)
    (total,) = draft.add("CumSum", numbers, draft.constant(0)) if draft.opset >= 11 else [numbers]
    draft.add("Where", x, total, numbers)


FORMS: tuple[Form, ...] = (
    *(determinant, regions, unpool, columns, suppression, fourier, short_fourier, window, loss, truths),
    *(fused, fused, skipping, heads, nibbles, rotated),
)
