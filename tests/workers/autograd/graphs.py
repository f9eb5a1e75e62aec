"""Small ONNX graphs as exporters write them, for tests and for the bench beside it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workers.compute.graph.model import Model

Array = NDArray[np.generic]


@dataclass
class Sketch:
    """A graph under construction."""

    opset: int
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    serial: int = 0

    def __post_init__(self) -> None:
        """Seed the weights."""
        self.rng = np.random.default_rng(self.seed)

    def op(self, op_type: str, *inputs: str, out: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add a node; return its first output."""
        self.serial += 1
        name = out or f"{op_type.lower()}_{self.serial}"
        more = [f"{name}.{at}" for at in range(1, outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), [name, *more], name=f"node_{name}", **attributes))
        return name

    def weight(self, name: str, *shape: int, scale: float = 0.1, centre: float = 0.0) -> str:
        """Add a random float weight."""
        return self.constant(name, (self.rng.normal(size=shape) * scale + centre).astype(np.float32))

    def constant(self, name: str, value: Any) -> str:
        """Add an initializer."""
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def axes(self, op_type: str, x: str, axes: list[int], since: int, **attributes: Any) -> str:
        """Add a node whose axes are an attribute before opset `since` and an input from then on."""
        if self.opset < since:
            return self.op(op_type, x, axes=axes, **attributes)
        self.serial += 1
        return self.op(op_type, x, self.constant(f"axes_{self.serial}", np.array(axes, np.int64)), **attributes)

    def proto(
        self, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, tuple[int, list[Any]]]
    ) -> onnx.ModelProto:
        """Return the finished and checked model; values are (element type, shape) by name."""
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
            self.weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(proto)
        return proto


def layer_norm(sketch: Sketch, x: str, name: str, width: int) -> str:
    """Add a layer normalization: one operator from opset 17 on, spelled out before."""
    scale = sketch.weight(f"{name}.weight", width, centre=1.0)
    bias = sketch.weight(f"{name}.bias", width)
    if sketch.opset >= 17:
        return sketch.op("LayerNormalization", x, scale, bias, epsilon=1e-5)
    mean = sketch.op("ReduceMean", x, axes=[-1])
    centred = sketch.op("Sub", x, mean)
    square = sketch.op("Pow", centred, sketch.constant(f"{name}.two", np.float32(2)))
    var = sketch.op("ReduceMean", square, axes=[-1])
    root = sketch.op("Sqrt", sketch.op("Add", var, sketch.constant(f"{name}.eps", np.float32(1e-5))))
    return sketch.op("Add", sketch.op("Mul", sketch.op("Div", centred, root), scale), bias)


def gelu(sketch: Sketch, x: str, name: str) -> str:
    """Add a GELU: one operator from opset 20 on, spelled out before."""
    if sketch.opset >= 20:
        return sketch.op("Gelu", x)
    scaled = sketch.op("Div", x, sketch.constant(f"{name}.root2", np.float32(np.sqrt(2))))
    added = sketch.op("Add", sketch.op("Erf", scaled), sketch.constant(f"{name}.one", np.float32(1)))
    return sketch.op("Mul", sketch.op("Mul", x, added), sketch.constant(f"{name}.half", np.float32(0.5)))


def linear(sketch: Sketch, x: str, name: str, wide: int, out: int) -> str:
    """Add a dense layer as MatMul and Add."""
    product = sketch.op("MatMul", x, sketch.weight(f"{name}.weight", wide, out, scale=wide**-0.5))
    return sketch.op("Add", product, sketch.weight(f"{name}.bias", out))


def _dimension(sketch: Sketch, x: str, axis: int) -> str:
    picked = sketch.op(
        "Gather", sketch.op("Shape", x), sketch.constant(f"axis_{sketch.serial}", np.int64(axis)), axis=0
    )
    return sketch.axes("Unsqueeze", picked, [0], 13)


def _heads(sketch: Sketch, x: str, name: str, heads: int, size: int, perm: list[int]) -> str:
    tail = sketch.constant(f"{name}.tail", np.array([heads, size], np.int64))
    shape = sketch.op("Concat", _dimension(sketch, x, 0), _dimension(sketch, x, 1), tail, axis=0)
    return sketch.op("Transpose", sketch.op("Reshape", x, shape), perm=perm)


def attention(sketch: Sketch, x: str, mask: str, name: str, width: int, heads: int) -> str:
    """Add multi-head attention as exporters spell it, with an additive mask."""
    size = width // heads
    q = _heads(sketch, linear(sketch, x, f"{name}.q", width, width), f"{name}.q", heads, size, [0, 2, 1, 3])
    k = _heads(sketch, linear(sketch, x, f"{name}.k", width, width), f"{name}.k", heads, size, [0, 2, 3, 1])
    v = _heads(sketch, linear(sketch, x, f"{name}.v", width, width), f"{name}.v", heads, size, [0, 2, 1, 3])
    scores = sketch.op("Div", sketch.op("MatMul", q, k), sketch.constant(f"{name}.scale", np.float32(np.sqrt(size))))
    share = sketch.op("Softmax", sketch.op("Add", scores, mask), axis=3 if sketch.opset < 13 else -1)
    joined = sketch.op("Transpose", sketch.op("MatMul", share, v), perm=[0, 2, 1, 3])
    tail = sketch.constant(f"{name}.width", np.array([width], np.int64))
    shape = sketch.op("Concat", _dimension(sketch, joined, 0), _dimension(sketch, joined, 1), tail, axis=0)
    return linear(sketch, sketch.op("Reshape", joined, shape), f"{name}.o", width, width)


@dataclass(frozen=True)
class Encoder:
    """Sizes of a BERT-like classifier."""

    layers: int = 2
    width: int = 32
    heads: int = 4
    vocabulary: int = 50
    positions: int = 64
    classes: int = 3


def encoder(opset: int = 13, sizes: Encoder = Encoder(), seed: int = 0) -> onnx.ModelProto:
    """Return a BERT-like classifier over input_ids and attention_mask (rows, length), both axes dynamic."""
    sketch = Sketch(opset, seed)
    words = sketch.op("Gather", sketch.weight("words", sizes.vocabulary, sizes.width), "input_ids", axis=0)
    zero, one = sketch.constant("zero", np.int64(0)), sketch.constant("one", np.int64(1))
    length = sketch.op("Gather", sketch.op("Shape", "input_ids"), one, axis=0)
    steps = sketch.op("Range", zero, length, one)
    places = sketch.op("Gather", sketch.weight("places", sizes.positions, sizes.width), steps, axis=0)
    x = layer_norm(sketch, sketch.op("Add", words, places), "embedding_norm", sizes.width)
    wide_mask = sketch.axes("Unsqueeze", "attention_mask", [1, 2], 13)
    inverse = sketch.op(
        "Sub", sketch.constant("one_float", np.float32(1)), sketch.op("Cast", wide_mask, to=TensorProto.FLOAT)
    )
    mask = sketch.op("Mul", inverse, sketch.constant("lowest", np.float32(np.finfo(np.float32).min)))
    for layer in range(sizes.layers):
        name = f"layer{layer}"
        attended = attention(sketch, x, mask, f"{name}.attention", sizes.width, sizes.heads)
        x = layer_norm(sketch, sketch.op("Add", attended, x), f"{name}.norm1", sizes.width)
        hidden = gelu(sketch, linear(sketch, x, f"{name}.up", sizes.width, 4 * sizes.width), name)
        x = layer_norm(
            sketch,
            sketch.op("Add", linear(sketch, hidden, f"{name}.down", 4 * sizes.width, sizes.width), x),
            f"{name}.norm2",
            sizes.width,
        )
    first = sketch.op("Gather", x, zero, axis=1)
    pooled = sketch.op(
        "Tanh",
        sketch.op(
            "Gemm",
            first,
            sketch.weight("pool.weight", sizes.width, sizes.width),
            sketch.weight("pool.bias", sizes.width),
            transB=1,
        ),
    )
    sketch.op(
        "Gemm",
        pooled,
        sketch.weight("head.weight", sizes.classes, sizes.width),
        sketch.weight("head.bias", sizes.classes),
        transB=1,
        out="logits",
    )
    tokens: tuple[int, list[Any]] = (TensorProto.INT64, ["rows", "length"])
    inputs = {"input_ids": tokens, "attention_mask": tokens}
    return sketch.proto(inputs, {"logits": (TensorProto.FLOAT, ["rows", sizes.classes])})


def cnn(opset: int = 13, channels: int = 8, classes: int = 4, seed: int = 0) -> onnx.ModelProto:
    """Return a CNN over images (rows, 1, 16, 16): batch norm, a residual add, pools, a softmax at the end."""
    sketch = Sketch(opset, seed)

    def convolution(x: str, name: str, wide: int, out: int) -> str:
        y = sketch.op(
            "Conv", x, sketch.weight(f"{name}.weight", out, wide, 3, 3, scale=(9 * wide) ** -0.5), pads=[1] * 4
        )
        parts = [sketch.weight(f"{name}.scale", out, centre=1.0), sketch.weight(f"{name}.bias", out)]
        parts += [sketch.weight(f"{name}.mean", out), sketch.constant(f"{name}.var", np.full(out, 0.8, np.float32))]
        return sketch.op("BatchNormalization", y, *parts, epsilon=1e-5)

    x = sketch.op("Relu", convolution("image", "conv1", 1, channels))
    x = sketch.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = sketch.op("Relu", sketch.op("Add", convolution(x, "conv2", channels, channels), x))
    x = sketch.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = sketch.op("Flatten", sketch.op("GlobalAveragePool", x))
    logits = sketch.op(
        "Gemm",
        x,
        sketch.weight("head.weight", classes, channels),
        sketch.weight("head.bias", classes),
        transB=1,
        out="logits",
    )
    sketch.op("Softmax", logits, axis=1, out="scores")
    return sketch.proto(
        {"image": (TensorProto.FLOAT, ["rows", 1, 16, 16])}, {"scores": (TensorProto.FLOAT, ["rows", classes])}
    )


def model(proto: onnx.ModelProto) -> Model:
    """Return a graph as our representation."""
    return Model(ir.from_proto(proto))
