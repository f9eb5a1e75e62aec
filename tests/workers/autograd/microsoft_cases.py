"""One node of `com.microsoft` at a time, with drawn inputs, for the comparison with ONNX Runtime."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.workers.processors import SATURATES

Array = NDArray[np.generic]
_RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Node:
    """A node with the values of its inputs (None: absent).

    `fixed` inputs are initializers, `unset` outputs have no name. Integer outputs may differ by `quantum`.
    """

    op_type: str
    inputs: list[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    fixed: tuple[int, ...] = ()
    unset: tuple[int, ...] = ()
    tolerance: float = 1e-4
    quantum: int = 0
    domain: str = "com.microsoft"

    def __str__(self) -> str:
        """Return a name for the test's output."""
        return f"{self.op_type}-{len(self.inputs)}-{'-'.join(f'{k}={v}' for k, v in self.attributes.items())}"

    @property
    def results(self) -> list[str]:
        """The names of the outputs."""
        return ["" if at in self.unset else f"y{at}" for at in range(self.outputs)]

    def proto(self) -> onnx.ModelProto:
        """Return the model of this one node."""
        names = ["" if array is None else f"x{at}" for at, array in enumerate(self.inputs)]
        node = helper.make_node(self.op_type, names, self.results, "node", domain=self.domain, **self.attributes)
        values = {at: array for at, array in enumerate(self.inputs) if array is not None}
        graph = helper.make_graph(
            [node],
            "graph",
            [
                helper.make_tensor_value_info(f"x{at}", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for at, array in values.items()
                if at not in self.fixed
            ],
            [onnx.ValueInfoProto(name=name) for name in self.results if name],
            [numpy_helper.from_array(values[at], f"x{at}") for at in self.fixed],
        )
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    def feed(self) -> dict[str, Array]:
        """Return the inputs by name."""
        return {f"x{at}": array for at, array in enumerate(self.inputs) if array is not None and at not in self.fixed}


def floats(*shape: int) -> NDArray[np.float32]:
    """Draw from the normal distribution."""
    return _RNG.normal(size=shape).astype(np.float32)


def sizes(*shape: int) -> NDArray[np.float32]:
    """Draw positive numbers, as scales are."""
    return np.abs(floats(*shape)) + np.float32(0.01)


def unsigned(*shape: int) -> NDArray[np.uint8]:
    """Draw bytes from 0 to 255."""
    return _RNG.integers(0, 256, shape).astype(np.uint8)


def signed(*shape: int) -> NDArray[np.int8]:
    """Draw bytes from -128 to 127, or half of that where products of larger ones saturate."""
    return (_RNG.integers(-128, 128, shape) // (2 if SATURATES else 1)).astype(np.int8)


def whole(low: int, high: int, *shape: int, kind: Any = np.int32) -> Array:
    """Draw integers from `low` up to but not including `high`."""
    return _RNG.integers(low, high, shape).astype(kind)


def s(value: float) -> Array:
    """Return a float scalar."""
    return np.array(value, np.float32)


def u(value: int) -> Array:
    """Return a zero point in uint8."""
    return np.array(value, np.uint8)


def i(value: int) -> Array:
    """Return a zero point in int8."""
    return np.array(value, np.int8)


def products() -> Iterator[Node]:
    """Products, convolutions and activations fused into one node."""
    for bits in range(16):
        flip_a, flip_b, batch_a, batch_b = ((bits >> at) & 1 for at in range(4))
        a, b = floats(2, 3, 4, 5), floats(2, 3, 5, 6)
        a, b = a.swapaxes(-1, -2) if flip_a else a, b.swapaxes(-1, -2) if flip_b else b
        a, b = np.moveaxis(a, -2, 0) if batch_a else a, np.moveaxis(b, -2, 0) if batch_b else b
        flags = {"transA": flip_a, "transB": flip_b, "transBatchA": batch_a, "transBatchB": batch_b}
        yield Node("FusedMatMul", [np.ascontiguousarray(a), np.ascontiguousarray(b)], flags | {"alpha": 0.5})
    yield Node("FusedMatMul", [floats(5), floats(2, 5, 6)], {"transA": 1})
    yield Node("TransposeMatMul", [floats(2, 5, 3), floats(2, 5, 6)], {"transA": 1, "alpha": 2.0})
    for name, given in (("Relu", {}), ("Tanh", {}), ("LeakyRelu", {"activation_alpha": 0.3})):
        attributes = {"activation": name, "transB": 1, "alpha": 0.5, "beta": 2.0, **given}
        yield Node("FusedGemm", [floats(3, 4), floats(5, 4), floats(5)], attributes)
    gates = {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4}
    yield Node("FusedGemm", [floats(3, 4), floats(4, 5), floats(5)], gates)
    for name, parameters in (("Sigmoid", []), ("LeakyRelu", [0.2]), ("Clip", [0.0, 1.0]), ("HardSigmoid", [0.3, 0.4])):
        attributes = {"activation": name, "pads": [1] * 4} | ({"activation_params": parameters} if parameters else {})
        yield Node("FusedConv", [floats(2, 3, 8, 8), floats(4, 3, 3, 3), floats(4)], attributes)
    added = [floats(2, 3, 8, 8), floats(4, 3, 3, 3), floats(4), floats(2, 4, 8, 8)]
    yield Node("FusedConv", added, {"activation": "Relu", "pads": [1] * 4})
    yield Node("Gelu", [floats(3, 4)])
    yield Node("FastGelu", [floats(3, 4)])
    yield Node("FastGelu", [floats(3, 4), floats(4)])
    yield Node("BiasGelu", [floats(3, 4), floats(4)])
    yield Node("QuickGelu", [floats(3, 4)])
    yield Node("QuickGelu", [floats(3, 4)], {"alpha": 1.3})


def normalizations() -> Iterator[Node]:
    """Normalizations with a residual, and embeddings."""
    small = {"epsilon": 1e-5}
    x, scale, bias = floats(2, 5, 8), floats(8), floats(8)
    yield Node("SkipLayerNormalization", [x, floats(2, 5, 8), scale, floats(8), bias], small)
    yield Node("SkipLayerNormalization", [x, floats(5, 8), scale], small)
    yield Node("SkipLayerNormalization", [x, floats(1, 5, 8), scale, bias], small, outputs=4, unset=(1, 2))
    yield Node("SkipSimplifiedLayerNormalization", [x, floats(2, 5, 8), scale, bias], outputs=4, unset=(1, 2))
    yield Node("SimplifiedLayerNormalization", [x, scale], small | {"axis": -1}, outputs=2, domain="")
    ids, mask = whole(0, 20, 2, 5), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    tables: list[Array | None] = [ids, ids % 2, floats(20, 8), floats(9, 8), floats(2, 8), scale, bias]
    yield Node("EmbedLayerNormalization", [*tables, mask], outputs=3)
    yield Node("EmbedLayerNormalization", tables, {"mask_index_type": 0}, outputs=2)
    without = [ids, None, *tables[2:4], None, *tables[5:], None, ids % 9]
    yield Node("EmbedLayerNormalization", without, outputs=3)
    bytes_: list[Array | None] = [ids, ids % 2, unsigned(20, 8), unsigned(9, 8), unsigned(2, 8), *[unsigned(8)] * 2]
    scales, zeros = [s(0.01 * at + 0.01) for at in range(5)], [u(100 + at) for at in range(5)]
    yield Node("QEmbedLayerNormalization", [*bytes_, mask, *scales, *zeros], outputs=2, tolerance=1e-3)


def attentions() -> Iterator[Node]:
    """Attention in its three forms, and rotary positions."""
    heads: dict[str, Any] = {"num_heads": 4}
    causal = heads | {"unidirectional": 1}
    x, w, b = floats(2, 5, 32), floats(32, 96) * np.float32(0.2), floats(96)
    mask, past = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32), floats(2, 2, 4, 3, 8)
    yield Node("Attention", [x, w, None], heads)
    yield Node("Attention", [x, w, b], causal, outputs=2)
    yield Node("Attention", [x, w, b, mask], heads | {"mask_filter_value": -5.0, "scale": 0.2})
    yield Node("Attention", [x, w, b, mask], causal)
    yield Node("Attention", [x, w, b, np.array([3, 5], np.int32)], heads)
    yield Node("Attention", [x, w, b, np.array([4, 5, 1, 0], np.int32)], heads)
    yield Node("Attention", [x, w, b, whole(0, 2, 2, 5, 5)], heads | {"mask_filter_value": -3.0})
    yield Node("Attention", [x, w, b, None, past], causal, outputs=2)
    yield Node("Attention", [x, w, b, None, None, floats(1, 1, 5, 5)], heads)
    yield Node("Attention", [x, floats(32, 88), floats(88)], heads | {"qkv_hidden_sizes": [32, 32, 24]})
    k, v = floats(2, 7, 32), floats(2, 7, 32)
    yield Node("MultiHeadAttention", [x, k, v, b], heads)
    yield Node("MultiHeadAttention", [x, k, floats(2, 7, 64), floats(128)], heads)
    yield Node("MultiHeadAttention", [x, k, v, b, np.array([3, 5], np.int32)], heads)
    yield Node("MultiHeadAttention", [x, k, v, b, whole(0, 2, 2, 7)], heads | {"mask_filter_value": -4.0})
    yield Node("MultiHeadAttention", [x, k, v, None, None, floats(1, 4, 5, 7)], heads)
    yield Node("MultiHeadAttention", [x, floats(2, 4, 7, 8), floats(2, 4, 7, 8), b], heads)
    earlier = [None, None, None, floats(2, 4, 3, 8), floats(2, 4, 3, 8)]
    yield Node("MultiHeadAttention", [x, floats(2, 5, 32), floats(2, 5, 32), *earlier], causal, outputs=3)
    at, cos, sin = np.arange(10).reshape(2, 5), floats(16, 4), floats(16, 4)
    yield Node("RotaryEmbedding", [x, at, cos, sin], {"interleaved": 1})
    yield Node("RotaryEmbedding", [x, np.array([2]), cos, sin])
    yield Node("RotaryEmbedding", [floats(2, 4, 5, 8), at, cos, sin])
    for whole_x in (floats(2, 4, 5, 8), x):
        inputs = [whole_x, at, floats(16, 2), floats(16, 2)]
        yield Node("RotaryEmbedding", inputs, heads | {"rotary_embedding_dim": 4})
    for fixed in ({}, {"softcap": 3.0}, {"local_window_size": 2, "scale": 0.3}, {"rotary_interleaved": 1}):
        yield _grouped(5, 0, fixed)
        yield _grouped(1, 6, fixed)
    packed: list[Array | None] = [floats(2, 5, 128), None, None, None, None]
    counts: list[Array | None] = [np.full(2, 4, np.int32), np.array(5, np.int32)]
    yield Node("GroupQueryAttention", packed + counts, {"num_heads": 4, "kv_num_heads": 2}, outputs=3)


def _grouped(steps: int, past: int, attributes: dict[str, Any]) -> Node:
    kept: list[Array | None] = [floats(2, 2, past, 16), floats(2, 2, past, 16)] if past else [None, None]
    total = steps + past
    ends, length = np.full(2, total - 1, np.int32), np.array(total, np.int32)
    query = [floats(2, steps, 64), floats(2, steps, 32), floats(2, steps, 32)]
    inputs = [*query, *kept, ends, length, floats(32, 8), floats(32, 8)]
    attributes = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1, **attributes}
    return Node("GroupQueryAttention", inputs, attributes, outputs=3)


def integer_products() -> Iterator[Node]:
    """Products of bytes, and what is built on them."""
    left, right, columns = unsigned(2, 3, 4), signed(4, 5), sizes(5)
    yield Node("MatMulIntegerToFloat", [left, right, s(0.1), s(0.2), u(120), i(4), floats(5)], tolerance=1e-3)
    each = [signed(2, 3, 4), right, s(0.1), columns, i(3), signed(5)]
    yield Node("MatMulIntegerToFloat", each, fixed=(1, 3, 5), tolerance=1e-2)
    yield Node("DynamicQuantizeMatMul", [floats(2, 3, 4), right, columns, signed(5), floats(5)], tolerance=1e-3)
    yield Node("DynamicQuantizeMatMul", [floats(2, 3, 4), right, s(0.2)], tolerance=1e-3)
    yield Node("MatMulInteger16", [whole(-900, 900, 3, 4, kind=np.int16), whole(-900, 900, 4, 5, kind=np.int16)])
    bias = whole(-99, 99, 5)
    back = [unsigned(3, 4), s(0.1), u(7), signed(5, 4), s(0.2), i(2), bias, s(3.0), u(100)]
    yield Node("QGemm", back, {"transB": 1}, quantum=1)
    yield Node("QGemm", [unsigned(4, 3), s(0.1), u(7), right, columns, signed(5), bias], {"transA": 1}, tolerance=1e-2)
    for last in (0, 1):
        x = unsigned(2, 6, 6, 3) if last else unsigned(2, 3, 6, 6)
        filters = [signed(4, 3, 3, 3), sizes(4), np.zeros(4, np.int8)]
        inputs = [x, s(0.1), u(4), *filters, s(9.0), u(9), whole(-99, 99, 4)]
        yield Node("QLinearConv", inputs, {"pads": [1] * 4, "channels_last": last}, fixed=(3, 4, 5), quantum=1)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    attended = [unsigned(2, 5, 32), signed(32, 96), floats(96), s(0.01), s(0.01)]
    yield Node("QAttention", [*attended, mask, u(128), i(0)], {"num_heads": 4}, fixed=(1,), tolerance=1e-3)
    for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        weights = [signed(count, 4, 24), signed(count, 6, 24), floats(count, 48)]
        start = [None, floats(count, 2, 6), floats(count, 2, 6), None]
        scales = [sizes(count) / 100, np.zeros(count, np.int8)] * 2
        attributes = {"hidden_size": 6, "direction": direction}
        inputs = [floats(7, 2, 4), *weights, *start, *scales]
        # A state at the border of two steps may round to either: the difference is a few steps of its grid.
        yield Node("DynamicQuantizeLSTM", inputs, attributes, 3, (1, 2, 8, 9, 10, 11), tolerance=2e-2)


def byte_operators() -> Iterator[Node]:
    """Operators from bytes to bytes."""
    for x, zero in ((unsigned(3, 40), u(128)), (signed(3, 40), i(4))):
        squashed: list[Array | None] = [x, s(0.05), zero, s(1 / 256), np.zeros_like(zero)]
        yield Node("QLinearSigmoid", squashed, fixed=(1, 2, 3, 4))
        yield Node("QLinearSoftmax", squashed, {"opset": 13, "axis": -1}, fixed=(1, 2, 3, 4), quantum=1)
        yield Node("QLinearLeakyRelu", [x, s(0.05), zero, s(0.05), zero], {"alpha": 0.2}, fixed=(1, 2, 3, 4))
        yield Node("QLinearAdd", [x, s(0.1), zero, x[:1], s(0.2), zero, s(0.3), zero], quantum=1)
        yield Node("QLinearMul", [x, s(0.1), zero, x[:, :1], s(0.2), zero, s(3.0), zero], quantum=1)
    flat = [unsigned(2, 3, 4), s(0.05), u(3), s(1 / 256), u(0)]
    yield Node("QLinearSoftmax", flat, {"opset": 11, "axis": 1}, fixed=(1, 2, 3, 4), quantum=1)
    parts = [s(0.2), u(3), unsigned(2, 3), s(0.1), u(1), unsigned(2, 4), s(0.3), u(5)]
    yield Node("QLinearConcat", parts, {"axis": 1}, fixed=(0, 1, 3, 4, 6, 7), quantum=1)
    chosen = [whole(0, 2, 3, 4, kind=np.bool_), unsigned(3, 4), s(0.1), u(4), unsigned(4), s(0.2), u(9), s(0.2), u(3)]
    yield Node("QLinearWhere", chosen, fixed=(2, 3, 5, 6, 7, 8), quantum=1)
    for last in (0, 1):
        rest = [s(0.1), u(4), s(0.05), u(9)]
        x = unsigned(2, 6, 6, 3) if last else unsigned(2, 3, 6, 6)
        yield Node("QLinearGlobalAveragePool", [x, *rest], {"channels_last": last}, quantum=1)
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "channels_last": last}
        yield Node("QLinearAveragePool", [x, *rest], window, quantum=1)
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    yield Node("NhwcMaxPool", [unsigned(2, 6, 6, 3)], window)
    yield Node("NhwcMaxPool", [signed(2, 6, 6, 3)], window)
    yield Node("QuantizeLinear", [floats(3, 4), sizes(4), unsigned(4)], {"axis": 1})
    yield Node("QuantizeLinear", [floats(3, 4), s(0.001), np.array(9, np.uint16)])
    yield Node("DequantizeLinear", [unsigned(3, 4), sizes(3), unsigned(3)], {"axis": 0})
    yield Node("DequantizeLinear", [whole(-9, 9, 3, 4), s(0.1)])


def blocks() -> Iterator[Node]:
    """Weights of few bits in blocks."""
    for bits in (2, 4, 8):
        for columns in (64, 40):
            count = -(-columns // 16)
            attributes = {"K": columns, "N": 6, "bits": bits, "block_size": 16}
            x, packed, scales = floats(2, 3, columns), unsigned(6, count, 2 * bits), sizes(6, count)
            yield Node("MatMulNBits", [x, packed, scales], attributes, fixed=(1, 2), tolerance=0.1)
            points = [unsigned(6 * -(-count * bits // 8)), None, floats(6)]
            inputs = [x, packed, scales.reshape(-1), *points]
            yield Node("MatMulNBits", inputs, attributes, fixed=(1, 2, 3), tolerance=0.1)
        attributes = {"bits": bits, "block_size": 16, "gather_axis": 0, "quantize_axis": 1}
        rows = [unsigned(10, 4 * bits), whole(0, 10, 2, 3, kind=np.int64), sizes(10, 2)]
        yield Node("GatherBlockQuantized", rows, attributes, fixed=(0, 2))
        yield Node("GatherBlockQuantized", [*rows, unsigned(10, -(-2 * bits // 8))], attributes, fixed=(0, 2, 3))
    attributes = {"K": 64, "N": 6, "bits": 4, "block_size": 16}
    shifted = [floats(3, 64), unsigned(6, 4, 8), sizes(6, 4), floats(6, 4)]
    yield Node("MatMulNBits", shifted, attributes, fixed=(1, 2, 3), tolerance=0.1)
    grouped = [floats(3, 64), unsigned(6, 4, 8), sizes(6, 4), None, whole(0, 4, 64)]
    yield Node("MatMulNBits", grouped, attributes, fixed=(1, 2, 4), tolerance=0.1)
    for kind, low, high in ((ml_dtypes.int4, -8, 8), (ml_dtypes.uint4, 0, 16)):
        indices = whole(-10, 10, 2, 3, kind=np.int64)
        rows = [whole(low, high, 10, 32, kind=kind), indices, sizes(10, 2), whole(low, high, 10, 2, kind=kind)]
        yield Node("GatherBlockQuantized", rows, {"block_size": 16}, fixed=(0, 2, 3))
        tall = [whole(low, high, 32, 10, kind=kind), indices, sizes(2, 10)]
        axes = {"block_size": 16, "gather_axis": 1, "quantize_axis": 0}
        yield Node("GatherBlockQuantized", tall, axes, fixed=(0, 2))


def shapes() -> Iterator[Node]:
    """Older names and variants of standard operators."""
    pads = np.array([0, 1, 1, 0])
    yield Node("Inverse", [floats(2, 4, 4)], tolerance=1e-3)
    yield Node("Pad", [floats(2, 3), pads, s(2.0)])
    yield Node("Pad", [floats(4, 5), pads], {"mode": "reflect"})
    yield Node("Unique", [np.array([2, 1, 1, 3, 4, 3, 2], np.float32)], outputs=3)
    yield Node("Trilu", [floats(4, 4), np.array(1)], {"upper": 0})
    yield Node("Range", [s(0.0), s(5.0)])
    yield Node("Range", [np.array(0), np.array(9), np.array(2)])
    yield Node("ExpandDims", [floats(3, 4), np.array(-1, np.int32)])
    yield Node("GatherND", [floats(3, 4), np.array([[0, 1], [2, 3]])])
    grid = np.clip(floats(1, 3, 3, 2), -1, 1)
    yield Node("GridSample", [floats(1, 2, 5, 5), grid], {"mode": "bicubic"})
    yield Node("GridSample", [floats(1, 2, 5, 5), grid], {"mode": "nearest", "padding_mode": "border"})


CASES = [
    case
    for family in (
        products,
        normalizations,
        attentions,
        integer_products,
        byte_operators,
        blocks,
        shapes,
    )
    for case in family()
]
