"""Networks that hypothesis draws: layers of every kind that has a rule for its dimensions, in any order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from hypothesis import strategies as st

from tests.workers.graph.networks import Kind, Network
from workers.compute.graph.model import Model

CLASSES, SIDE, LISTS_AS_INPUTS = 3, 4, 13


@dataclass(frozen=True)
class Stream:
    """A value of (rows, *sizes): an image (channels, height, width), a sequence (length, width) or a vector."""

    value: ir.Value
    sizes: tuple[int, ...]


class Drawing:
    """A network under construction; `draw` is hypothesis's."""

    def __init__(self, draw: st.DrawFn, opset: int) -> None:
        self.draw, self.net, self.serial = draw, Network(opset), 0

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def add(self, op_type: str, *inputs: ir.Value, **attributes: float | list[int] | str) -> ir.Value:
        self.serial += 1
        return self.net.add(f"n{self.serial}", op_type, *inputs, **attributes)

    def pieces(self, op_type: str, *inputs: ir.Value, count: int, **attributes: int | list[int]) -> list[ir.Value]:
        self.serial += 1
        node = ir.node(op_type, list(inputs), attributes, name=f"n{self.serial}", num_outputs=count)
        for at, value in enumerate(node.outputs):
            value.name = f"n{self.serial}_{at}"
        self.net.nodes.append(node)
        return list(node.outputs)

    def weight(self, *shape: int, around: float = 0.0) -> ir.Value:
        self.serial += 1
        return self.net.weight(f"w{self.serial}", *shape, around=around)

    def numbers(self, *values: int) -> ir.Value:
        self.serial += 1
        return self.net.numbers(f"w{self.serial}", *values)

    def split(self, x: ir.Value, axis: int, sizes: list[int]) -> list[ir.Value]:
        if self.net.opset < LISTS_AS_INPUTS:
            return self.pieces("Split", x, count=len(sizes), axis=axis, split=sizes)
        return self.pieces("Split", x, self.numbers(*sizes), count=len(sizes), axis=axis)

    def divisor(self, *sizes: int) -> int:
        return self.draw(st.sampled_from([each for each in (1, 2, 3, 4) if all(size % each == 0 for size in sizes)]))


def _conv(d: Drawing, x: Stream) -> Stream:
    wide, (channels, *side) = d.number(2, 8), x.sizes
    groups, kernel = d.divisor(channels, wide), d.draw(st.sampled_from([1, 3]))
    inputs = [d.weight(wide, channels // groups, kernel, kernel)]
    inputs += [d.weight(wide)] if d.number(0, 1) else []
    pads = [kernel // 2] * 4
    return Stream(d.add("Conv", x.value, *inputs, group=groups, pads=pads), (wide, *side))


def _depthwise(d: Drawing, x: Stream) -> Stream:
    channels, times = x.sizes[0], d.number(1, 2)
    kernel = d.weight(channels * times, 1, 3, 3)
    return Stream(d.add("Conv", x.value, kernel, group=channels, pads=[1] * 4), (channels * times, *x.sizes[1:]))


def _transposed(d: Drawing, x: Stream) -> Stream:
    channels, wide = x.sizes[0], d.number(1, 3)
    groups = d.divisor(channels)
    found = d.add("ConvTranspose", x.value, d.weight(channels, wide, 1, 1), group=groups)
    return Stream(found, (wide * groups, *x.sizes[1:]))


def _batch_norm(d: Drawing, x: Stream) -> Stream:
    width = x.sizes[0]
    parameters = [
        d.weight(width, around=1),
        d.weight(width),
        d.weight(width),
        d.net.constant(f"v{d.serial}", _ones(width)),
    ]
    return Stream(d.add("BatchNormalization", x.value, *parameters), x.sizes)


def _ones(width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.linspace(0.5, 1.5, width, dtype=np.float32)


def _instance_norm(d: Drawing, x: Stream) -> Stream:
    width = x.sizes[0]
    return Stream(d.add("InstanceNormalization", x.value, d.weight(width, around=1), d.weight(width)), x.sizes)


def _prelu(d: Drawing, x: Stream) -> Stream:
    return Stream(d.add("PRelu", x.value, d.weight(x.sizes[0], 1, 1)), x.sizes)


def _activation(d: Drawing, x: Stream) -> Stream:
    kind = d.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Identity"]))
    squashed = d.add("Tanh", x.value) if kind == "Exp" else x.value
    return Stream(d.add(kind, squashed), x.sizes)


def _gate(d: Drawing, x: Stream) -> Stream:
    channels = x.sizes[0]
    pooled = d.add("GlobalAveragePool", x.value)
    gate = d.add("Sigmoid", d.add("Conv", pooled, d.weight(channels, channels, 1, 1), d.weight(channels)))
    return Stream(d.add("Mul", x.value, gate), x.sizes)


def _residual(d: Drawing, x: Stream) -> Stream:
    channels = x.sizes[0]
    inner = d.add("Relu", d.add("Conv", x.value, d.weight(5, channels, 1, 1)))
    return Stream(d.add("Add", d.add("Conv", inner, d.weight(channels, 5, 1, 1)), x.value), x.sizes)


def _dense(d: Drawing, x: Stream) -> Stream:
    added = _conv(d, x)
    pair = [x, added] if d.number(0, 1) else [added, x]
    found = d.add("Concat", *(each.value for each in pair), axis=1)
    return Stream(found, (x.sizes[0] + added.sizes[0], *x.sizes[1:]))


def _swapped(d: Drawing, x: Stream) -> Stream:
    """Split at some channel and put the second part first."""
    channels = x.sizes[0]
    first = d.number(1, channels - 1)
    left, right = d.split(x.value, 1, [first, channels - first])
    return Stream(d.add("Concat", right, left, axis=1), x.sizes)


def _sliced(d: Drawing, x: Stream) -> Stream:
    channels = x.sizes[0]
    start, end = d.number(0, channels - 2), 0
    end = d.number(start + 2, channels)
    bounds = [d.numbers(start), d.numbers(end if d.number(0, 1) else end - channels or channels), d.numbers(1)]
    return Stream(d.add("Slice", x.value, *bounds), (end - start, *x.sizes[1:]))


def _shuffled(d: Drawing, x: Stream) -> Stream:
    channels, *side = x.sizes
    groups = d.divisor(channels)
    apart = d.add("Reshape", x.value, d.numbers(0, groups, channels // groups, *side))
    return Stream(
        d.add("Reshape", d.add("Transpose", apart, perm=[0, 2, 1, 3, 4]), d.numbers(0, channels, *side)), x.sizes
    )


def _depth_to_space(d: Drawing, x: Stream) -> Stream:
    wide = _conv_to(d, x, 4 * d.number(1, 3))
    mode = d.draw(st.sampled_from(["DCR", "CRD"]))
    spread = d.add("DepthToSpace", wide.value, blocksize=2, mode=mode)
    spread = d.add("MaxPool", spread, kernel_shape=[2, 2], strides=[2, 2])
    return Stream(spread, (wide.sizes[0] // 4, *x.sizes[1:]))


def _space_to_depth(d: Drawing, x: Stream) -> Stream:
    if x.sizes[0] > 8:
        return x
    deep = d.add("SpaceToDepth", x.value, blocksize=2)
    scales = d.net.constant(f"s{d.serial}", np.asarray([1, 1, 2, 2], np.float32))
    empty = d.net.constant(f"e{d.serial}", np.zeros(0, np.float32))
    return Stream(d.add("Resize", deep, empty, scales, mode="nearest"), (4 * x.sizes[0], *x.sizes[1:]))


def _conv_to(d: Drawing, x: Stream, wide: int) -> Stream:
    return Stream(d.add("Conv", x.value, d.weight(wide, x.sizes[0], 1, 1)), (wide, *x.sizes[1:]))


def _pooled(d: Drawing, x: Stream) -> Stream:
    kind = d.draw(st.sampled_from(["AveragePool", "MaxPool"]))
    return Stream(d.add(kind, x.value, kernel_shape=[3, 3], pads=[1] * 4), x.sizes)


def _mean_of_channels(d: Drawing, x: Stream) -> Stream:
    return Stream(d.add("Sub", x.value, d.add("ReduceMax", x.value, axes=[1], keepdims=1)), x.sizes)


def _to_sequence(d: Drawing, x: Stream) -> Stream:
    channels, *side = x.sizes
    flat = d.add("Reshape", x.value, d.numbers(0, channels, -1))
    return Stream(d.add("Transpose", flat, perm=[0, 2, 1]), (int(np.prod(side)), channels))


def _to_vector(d: Drawing, x: Stream) -> Stream:
    if d.number(0, 1):
        return Stream(d.add("Flatten", d.add("GlobalAveragePool", x.value)), x.sizes[:1])
    return Stream(d.add("Flatten", x.value), (int(np.prod(x.sizes)),))


def _linear(d: Drawing, x: Stream, wide: int = 0) -> Stream:
    wide = wide or d.number(2, 8)
    found = d.add("Add", d.add("MatMul", x.value, d.weight(x.sizes[-1], wide)), d.weight(wide))
    return Stream(found, (*x.sizes[:-1], wide))


def _einsum(d: Drawing, x: Stream) -> Stream:
    wide = d.number(2, 6)
    return Stream(d.add("Einsum", x.value, d.weight(wide, x.sizes[1]), equation="btc,dc->btd"), (x.sizes[0], wide))


def _attention(d: Drawing, x: Stream) -> Stream:
    heads, size, (length, width) = d.number(2, 3), d.number(2, 3), x.sizes
    query, key, value = (_cut_heads(d, _linear(d, x, heads * size), heads, size) for _ in range(3))
    scores = d.add("Softmax", d.add("MatMul", query, d.add("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
    mixed = d.add("Transpose", d.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    joined = d.add("Reshape", mixed, _target(d, x.value, heads * size))
    found = d.add("Add", _linear(d, Stream(joined, (length, heads * size)), width).value, x.value)
    return Stream(found, x.sizes)


def _cut_heads(d: Drawing, x: Stream, heads: int, size: int) -> ir.Value:
    return d.add("Transpose", d.add("Reshape", x.value, d.numbers(0, 0, heads, size)), perm=[0, 2, 1, 3])


def _target(d: Drawing, x: ir.Value, width: int) -> ir.Value:
    """Compute a shape as exporters do: the leading sizes of x, then a number."""
    sizes = d.add("Slice", d.add("Shape", x), d.numbers(0), d.numbers(2))
    return d.add("Concat", sizes, d.numbers(width), axis=0)


def _fused_qkv(d: Drawing, x: Stream) -> Stream:
    heads, size, (length, width) = d.number(2, 3), d.number(2, 3), x.sizes
    wide = _linear(d, x, 3 * heads * size)
    apart = d.add("Reshape", wide.value, d.numbers(0, length, 3, heads, size))
    turned = d.add("Transpose", apart, perm=[2, 0, 3, 1, 4])
    query, key, value = (d.add("Gather", turned, _place(d, at), axis=0) for at in range(3))
    scores = d.add("Softmax", d.add("MatMul", query, d.add("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
    mixed = d.add("Transpose", d.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    joined = d.add("Reshape", mixed, d.numbers(0, length, heads * size))
    return _linear(d, Stream(joined, (length, heads * size)), width)


def _place(d: Drawing, at: int) -> ir.Value:
    d.serial += 1
    return d.net.constant(f"p{d.serial}", np.asarray(at, np.int64))


def _gated(d: Drawing, x: Stream) -> Stream:
    half = d.number(2, 4)
    left, right = d.split(_linear(d, x, 2 * half).value, 2, [half, half])
    return Stream(d.add("Mul", left, d.add("Sigmoid", right)), (x.sizes[0], half))


def _normed(d: Drawing, x: Stream) -> Stream:
    width = x.sizes[-1]
    centred = d.add("Sub", x.value, d.add("ReduceMean", x.value, axes=[-1], keepdims=1))
    return Stream(d.add("Add", d.add("Mul", centred, d.weight(width, around=1)), d.weight(width)), x.sizes)


def _recurrent(d: Drawing, x: Stream) -> Stream:
    kind, gates = d.draw(st.sampled_from([("LSTM", 4), ("GRU", 3), ("RNN", 1)]))
    hidden, both, (length, width) = d.number(2, 4), d.number(1, 2), x.sizes
    weights = (d.weight(both, gates * hidden, size) for size in (width, hidden))
    turned = d.add("Transpose", x.value, perm=[1, 0, 2])
    direction = "bidirectional" if both > 1 else d.draw(st.sampled_from(["forward", "reverse"]))
    bias = d.weight(both, 2 * gates * hidden)
    found = d.add(kind, turned, *weights, bias, hidden_size=hidden, direction=direction)
    turned = d.add("Transpose", found, perm=[2, 0, 1, 3])
    return Stream(d.add("Reshape", turned, d.numbers(0, length, both * hidden)), (length, both * hidden))


def _flat_rows(d: Drawing, x: Stream) -> Stream:
    """Fold the length into the rows for a product, and take it out again."""
    length, width = x.sizes
    wide = _linear(d, Stream(d.add("Reshape", x.value, d.numbers(-1, width)), (width,)))
    return Stream(d.add("Reshape", wide.value, d.numbers(-1, length, *wide.sizes)), (length, *wide.sizes))


def _softmaxed(d: Drawing, x: Stream) -> Stream:
    return Stream(d.add("Softmax", x.value, axis=len(x.sizes)), x.sizes)


def _pooled_sequence(d: Drawing, x: Stream) -> Stream:
    if d.number(0, 1):
        return Stream(d.add("ReduceMean", x.value, axes=[1], keepdims=0), x.sizes[1:])
    return Stream(d.add("Gather", x.value, _place(d, d.number(0, x.sizes[0] - 1)), axis=1), x.sizes[1:])


def _gemm(d: Drawing, x: Stream, wide: int = 0) -> Stream:
    wide, flipped = wide or d.number(2, 8), d.number(0, 1)
    shape = (wide, x.sizes[0]) if flipped else (x.sizes[0], wide)
    return Stream(d.add("Gemm", x.value, d.weight(*shape), d.weight(wide), transB=flipped), (wide,))


Layer = Callable[[Drawing, Stream], Stream]
IMAGE: tuple[Layer, ...] = (
    *(_conv, _depthwise, _transposed, _batch_norm, _instance_norm, _prelu, _activation, _gate, _residual, _dense),
    *(_swapped, _sliced, _shuffled, _depth_to_space, _space_to_depth, _pooled, _mean_of_channels),
    *(_to_sequence, _to_vector),
)
SEQUENCE: tuple[Layer, ...] = (
    *(_linear, _einsum, _attention, _fused_qkv, _gated, _normed, _recurrent, _flat_rows, _softmaxed, _activation),
    _pooled_sequence,
)
VECTOR: tuple[Layer, ...] = (_gemm, _linear, _activation, _normed)
LAYERS: Mapping[int, tuple[Layer, ...]] = {3: IMAGE, 2: SEQUENCE, 1: VECTOR}


@st.composite
def networks(draw: st.DrawFn, opset: int) -> Model:
    """Draw a network on (rows, 3, 4, 4)."""
    d = Drawing(draw, opset)
    image = d.net.given("x", Kind.FLOAT, ["rows", 3, SIDE, SIDE])
    x = _conv(d, Stream(image, (3, SIDE, SIDE)))
    x = _to_sequence(d, x) if d.number(0, 1) else x
    for _ in range(d.number(2, 8)):
        x = draw(st.sampled_from(LAYERS[len(x.sizes)]))(d, x)
        if len(x.sizes) == 3 and not 3 <= x.sizes[0] <= 40:
            x = _conv_to(d, x, 6)
    if len(x.sizes) == 3:
        x = _to_vector(d, x)
    if len(x.sizes) == 2:
        x = _pooled_sequence(d, x)
    return d.net.model(_gemm(d, x, CLASSES).value, ["rows", CLASSES])
