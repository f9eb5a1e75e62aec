"""Gradient cases of `com.microsoft`, in the form of gradient_cases."""

from typing import Any

import numpy as np

from tests.conformance.gradient_cases import Array, Case, real, whole


def _case(*inputs: Array | None, outputs: int = 1, **attributes: Any) -> Case:
    return Case(inputs, attributes, opset=1, outputs=outputs, domain="com.microsoft")


_ROWS = [real(1, 3, 4, seed=at) for at in range(3)]
_WIDE = [real(4, seed=at) for at in range(3)]
_BYTES = np.random.default_rng(0).integers(0, 256, (3, 1, 8)).astype(np.uint8)

MICROSOFT: dict[str, Case] = {
    "Attention": _case(_ROWS[0], real(4, 12), real(12), num_heads=2),
    "BiasGelu": _case(_ROWS[0], _WIDE[0]),
    "DequantizeLinear": _case(np.array([-7, 3, 90], np.int8), np.array(0.3), np.array(2, np.int8)),
    "EmbedLayerNormalization": _case(
        *(np.array([[1, 0]], np.int32), np.array([[0, 1]], np.int32), real(3, 4), real(2, 4), real(2, 4, seed=1)),
        *_WIDE[:2],
    ),
    "ExpandDims": _case(real(2, 3), np.array(1, np.int32)),
    "FastGelu": _case(_ROWS[0], _WIDE[0]),
    "FusedConv": _case(real(1, 1, 3, 3), real(2, 1, 2, 2), real(2), activation="Tanh"),
    "FusedGemm": _case(real(2, 3), real(3, 2), real(2), activation="Tanh"),
    "FusedMatMul": _case(real(3, 2), real(3, 2, seed=1), transA=1, alpha=0.5),
    "GatherBlockQuantized": _case(
        np.random.default_rng(0).integers(0, 256, (3, 8)).astype(np.uint8),
        *(whole(2, 0), real(3, 1)),
        block_size=16,
        quantize_axis=1,
    ),
    "GatherND": _case(real(3, 2), whole(2, 0, 1, -1).reshape(2, 2)),
    "Gelu": _case(_ROWS[0]),
    "GridSample": _case(real(1, 1, 3, 3), real(1, 2, 2, 2, low=-0.8, high=0.8)),
    "GroupQueryAttention": _case(
        *(real(1, 3, 8), real(1, 3, 4), real(1, 3, 4, seed=1), real(1, 1, 2, 4), real(1, 1, 2, 4, seed=1)),
        *(np.array([[4]], np.int32), np.array(5, np.int32)),
        num_heads=2,
        kv_num_heads=1,
    ),
    "Inverse": _case(real(2, 2) + 3 * np.eye(2)),
    "MatMulNBits": _case(real(2, 16), _BYTES, real(3), K=16, N=3, bits=4, block_size=16),
    "MultiHeadAttention": _case(*_ROWS, real(12), num_heads=2),
    "Pad": _case(real(2, 3), whole(1, 0, 0, 2)),
    "QuickGelu": _case(_ROWS[0]),
    "RotaryEmbedding": _case(real(1, 2, 3, 4), whole(0, 2, 1).reshape(1, 3), real(4, 2), real(4, 2, seed=1)),
    "SkipLayerNormalization": _case(*_ROWS[:2], *_WIDE),
    "SkipSimplifiedLayerNormalization": _case(*_ROWS[:2], *_WIDE[:2]),
    "TransposeMatMul": _case(real(3, 2), real(3, 2, seed=1), transA=1),
    "Trilu": _case(real(3, 3)),
}
