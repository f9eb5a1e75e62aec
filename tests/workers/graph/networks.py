"""Small whole models as exporters write them: a residual CNN and BERT-like encoders, with rows to feed them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph.model import Model

Array = NDArray[np.generic]
Kind = ir.DataType

VOCABULARY, TOKENS, WIDTH, HEADS, HIDDEN, CLASSES = 120, 8, 16, 2, 48, 3


@dataclass
class Network:
    """Adds nodes one by one; every name says where it comes from."""

    opset: int
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)

    def given(self, name: str, kind: Kind, shape: Sequence[int | str]) -> ir.Value:
        self.inputs.append(ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(kind)))
        return self.inputs[-1]

    def constant(self, name: str, values: Array) -> ir.Value:
        tensor = ir.tensor(values, name=name)
        value = ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.initializers.append(value)
        return value

    def weight(self, name: str, *shape: int, around: float = 0.0) -> ir.Value:
        values = around + self.random.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)
        return self.constant(name, values.astype(np.float32))

    def numbers(self, name: str, *values: int) -> ir.Value:
        return self.constant(name, np.asarray(values, np.int64))

    def add(self, name: str, op_type: str, *inputs: ir.Value, **attributes: float | Sequence[int]) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes, name=name)
        node.outputs[0].name = f"{name}_out"
        self.nodes.append(node)
        return node.outputs[0]

    def model(self, output: ir.Value, shape: Sequence[int | str]) -> Model:
        output.name, output.shape, output.type = "logits", ir.Shape(shape), ir.TensorType(Kind.FLOAT)
        graph = ir.Graph(
            self.inputs,
            [output],
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": self.opset},
            name="graph",
        )
        return Model(ir.Model(graph, ir_version=8))


def cnn(blocks: int = 2, opset: int = 12) -> Model:
    """Return a residual CNN on (batch, 1, 8, 8): stem, `blocks` equal blocks with batch norm, pooling, classifier."""
    net = Network(opset)
    x = net.given("image", Kind.FLOAT, ["batch", 1, 8, 8])
    x = net.add("stem", "Conv", x, net.weight("stem.w", 16, 1, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = net.add("stem_relu", "Relu", x)
    for block in range(blocks):
        x = _block(net, f"block{block}", x)
    x = net.add("pool", "GlobalAveragePool", x)
    x = net.add("flat", "Flatten", x)
    x = net.add("head", "Gemm", x, net.weight("head.w", CLASSES, 16), net.weight("head.b", CLASSES), transB=1)
    return net.model(x, ["batch", CLASSES])


def _block(net: Network, name: str, x: ir.Value) -> ir.Value:
    y = x
    for half in ("a", "b"):
        weight = net.weight(f"{name}.{half}.w", 16, 16, 3, 3)
        y = net.add(f"{name}.{half}.conv", "Conv", y, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        scale, shift = net.weight(f"{name}.{half}.scale", 16, around=1), net.weight(f"{name}.{half}.shift", 16)
        mean = net.constant(f"{name}.{half}.mean", np.zeros(16, np.float32))
        variance = net.constant(f"{name}.{half}.var", np.ones(16, np.float32))
        y = net.add(f"{name}.{half}.bn", "BatchNormalization", y, scale, shift, mean, variance)
        if half == "a":
            y = net.add(f"{name}.{half}.relu", "Relu", y)
    return net.add(f"{name}.relu", "Relu", net.add(f"{name}.add", "Add", y, x))


def dense(entering: int, leaving: int) -> Model:
    """Return one product by a matrix, on (batch, entering)."""
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", entering])
    return net.model(net.add("dense", "MatMul", x, net.weight("w", entering, leaving)), ["batch", leaving])


def bert(layers: int = 4, opset: int = 13, *, post_norm: bool = True) -> Model:
    """Return an encoder on ids and mask of (batch, tokens), layer norms decomposed, shapes computed in the graph."""
    net = Network(opset)
    ids = net.given("input_ids", Kind.INT64, ["batch", "tokens"])
    mask = net.given("attention_mask", Kind.INT64, ["batch", "tokens"])
    x = net.add("words", "Gather", net.weight("words.w", VOCABULARY, WIDTH, around=0.1), ids)
    length = net.add("length", "Gather", net.add("shape", "Shape", ids), net.numbers("one", 1))
    positions = net.weight("positions.w", 32, WIDTH)
    zero = net.numbers("zero", 0)
    x = net.add("embedded", "Add", x, net.add("positions", "Slice", positions, zero, length, zero))
    x = _norm(net, "norm", x)
    wide = net.add("mask_wide", "Unsqueeze", net.add("mask_float", "Cast", mask, to=1), net.numbers("axes12", 1, 2))
    negated = net.add("mask_negated", "Sub", net.constant("unit", np.asarray(1, np.float32)), wide)
    bias = net.add("mask_bias", "Mul", negated, net.constant("minus", np.asarray(-1e4, np.float32)))
    for layer in range(layers):
        x = _layer(net, f"layer{layer}", x, bias, post_norm=post_norm)
    first = net.add("first", "Gather", x, net.constant("position0", np.asarray(0, np.int64)), axis=1)
    x = net.add("pooler", "Tanh", _linear(net, "pool", first, WIDTH, WIDTH))
    return net.model(_linear(net, "head", x, WIDTH, CLASSES), ["batch", CLASSES])


def _layer(net: Network, name: str, x: ir.Value, bias: ir.Value, *, post_norm: bool) -> ir.Value:
    if post_norm:
        x = _norm(
            net, f"{name}.norm1", net.add(f"{name}.add1", "Add", _attention(net, f"{name}.attention", x, bias), x)
        )
        return _norm(net, f"{name}.norm2", net.add(f"{name}.add2", "Add", _mlp(net, f"{name}.mlp", x), x))
    y = _attention(net, f"{name}.attention", _norm(net, f"{name}.norm1", x), bias)
    x = net.add(f"{name}.add1", "Add", x, y)
    return net.add(f"{name}.add2", "Add", x, _mlp(net, f"{name}.mlp", _norm(net, f"{name}.norm2", x)))


def _attention(net: Network, name: str, x: ir.Value, bias: ir.Value) -> ir.Value:
    query, key, value = (
        _heads(net, f"{name}.{part}", _linear(net, f"{name}.{part}", x, WIDTH, WIDTH)) for part in "qkv"
    )
    turned = net.add(f"{name}.turn", "Transpose", key, perm=[0, 1, 3, 2])
    scores = net.add(f"{name}.scores", "MatMul", query, turned)
    root = net.constant(f"{name}.root", np.asarray(np.sqrt(WIDTH / HEADS), np.float32))
    scores = net.add(f"{name}.masked", "Add", net.add(f"{name}.scaled", "Div", scores, root), bias)
    mixed = net.add(f"{name}.mix", "MatMul", net.add(f"{name}.softmax", "Softmax", scores, axis=-1), value)
    mixed = net.add(f"{name}.back", "Transpose", mixed, perm=[0, 2, 1, 3])
    # As exporters do, the batch and length are read back from a value of this very layer.
    shape = net.add(f"{name}.shape", "Shape", x)
    rows = net.add(f"{name}.rows", "Slice", shape, net.numbers(f"{name}.from", 0), net.numbers(f"{name}.to", 2))
    target = net.add(f"{name}.target", "Concat", rows, net.numbers(f"{name}.width", WIDTH), axis=0)
    return _linear(net, f"{name}.out", net.add(f"{name}.merge", "Reshape", mixed, target), WIDTH, WIDTH)


def _heads(net: Network, name: str, x: ir.Value) -> ir.Value:
    split = net.add(f"{name}.split", "Reshape", x, net.numbers(f"{name}.heads", 0, 0, HEADS, WIDTH // HEADS))
    return net.add(f"{name}.turn", "Transpose", split, perm=[0, 2, 1, 3])


def _mlp(net: Network, name: str, x: ir.Value) -> ir.Value:
    hidden = net.add(f"{name}.relu", "Relu", _linear(net, f"{name}.up", x, WIDTH, HIDDEN))
    return _linear(net, f"{name}.down", hidden, HIDDEN, WIDTH)


def _linear(net: Network, name: str, x: ir.Value, rows: int, columns: int) -> ir.Value:
    product = net.add(f"{name}.matmul", "MatMul", x, net.weight(f"{name}.w", rows, columns))
    return net.add(f"{name}.bias", "Add", product, net.weight(f"{name}.b", columns))


def _norm(net: Network, name: str, x: ir.Value) -> ir.Value:
    centred = net.add(f"{name}.centre", "Sub", x, net.add(f"{name}.mean", "ReduceMean", x, axes=[-1], keepdims=1))
    square = net.add(f"{name}.square", "Mul", centred, centred)
    variance = net.add(f"{name}.variance", "ReduceMean", square, axes=[-1], keepdims=1)
    safe = net.add(f"{name}.safe", "Add", variance, net.constant(f"{name}.eps", np.asarray(1e-5, np.float32)))
    scaled = net.add(f"{name}.divide", "Div", centred, net.add(f"{name}.root", "Sqrt", safe))
    scaled = net.add(f"{name}.scale", "Mul", scaled, net.weight(f"{name}.gamma", WIDTH, around=1))
    return net.add(f"{name}.shift", "Add", scaled, net.weight(f"{name}.beta", WIDTH))


def rows_for(model: Model, count: int, seed: int = 0, length: int = TOKENS) -> Samples:
    """Return random rows with labels that depend on them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    if len(model.graph.inputs) == 1:
        images = random.normal(size=(count, 1, 8, 8)) + labels[:, None, None, None]
        return Samples({"image": images.astype(np.float32)}, labels)
    ids = random.integers(0, VOCABULARY // CLASSES, (count, length)) + labels[:, None] * (VOCABULARY // CLASSES)
    mask = (np.arange(length) < random.integers(2, length + 1, (count, 1))).astype(np.int64)
    return Samples({"input_ids": ids.astype(np.int64), "attention_mask": mask}, labels)


def dataset_for(model: Model, rows: int = 64) -> Dataset:
    train, validation, test = (rows_for(model, rows, seed) for seed in range(3))
    return Dataset(train, validation, test, task="classification", classes=("a", "b", "c"))


def answers(model: Model, rows: Samples) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    file = ir.serde.serialize_model(model.ir).SerializeToString()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, dict(rows.inputs))[0]
    return logits
