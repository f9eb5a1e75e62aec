"""Networks for pictures written straight as ONNX graphs, untrained; our own executor trains them."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


@dataclass
class _Builder:
    """Collects nodes and weights; every method returns the name of the value it made."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def dense(self, x: str, name: str, into: int, out: int, result: str = "") -> str:
        """Matrix product and bias; weights of variance 1 / inputs."""
        weight = self.weight(f"{name}.weight", self.rng.normal(0, np.sqrt(1 / into), (out, into)))
        bias = self.weight(f"{name}.bias", np.zeros(out))
        return self.node("Gemm", [x, weight, bias], result or f"{name}.gemm", transB=1)

    def conv(
        self, x: str, name: str, shape: tuple[int, int, int], stride: int = 1, pad: int = 0, *, bias: bool = True
    ) -> str:
        """Convolution (He initialisation); `shape` is (out, in, kernel)."""
        out, into, kernel = shape
        scale = np.sqrt(2 / (into * kernel * kernel))
        weight = self.weight(f"{name}.weight", self.rng.normal(0, scale, (out, into, kernel, kernel)))
        window = {"strides": [stride] * 2, "pads": [pad] * 4, "kernel_shape": [kernel] * 2}
        shift = [self.weight(f"{name}.bias", np.zeros(out))] if bias else []
        return self.node("Conv", [x, weight, *shift], f"{name}.conv", **window)

    def model(self, name: str, x: tuple[str, *tuple[int, ...]], y: tuple[str, int]) -> onnx.ModelProto:
        """Return the checked model; `x` and `y` are the input's and the output's name and sizes of one row."""
        row, answer = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *axes]) for n, *axes in (x, y))
        graph = helper.make_graph(self.nodes, name, [row], [answer], self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="modelpress-examples"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def conv_bn(self, x: str, name: str, shape: tuple[int, int, int], stride: int = 1) -> str:
        """Convolution that keeps the picture's size, or halves it by its stride, and batch normalization."""
        y = self.conv(x, name, shape, stride, shape[2] // 2, bias=False)
        statistics = [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)]
        inputs = [self.weight(f"{name}.{key}", np.full(shape[0], value)) for key, value in statistics]
        return self.node("BatchNormalization", [y, *inputs], f"{name}.bn")

    def block(self, x: str, name: str, into: int, out: int) -> str:
        """Two 3×3 convolutions and a shortcut; halves the picture when the channels change."""
        stride = 1 if into == out else 2
        y = self.node("Relu", [self.conv_bn(x, f"{name}.a", (out, into, 3), stride)], f"{name}.a.relu")
        y = self.conv_bn(y, f"{name}.b", (out, out, 3))
        shortcut = x if into == out else self.conv_bn(x, f"{name}.short", (out, into, 1), stride)
        return self.node("Relu", [self.node("Add", [y, shortcut], f"{name}.add")], f"{name}.relu")


def perceptron(features: int, width: int, seed: int = 0) -> onnx.ModelProto:
    """Return a network of two hidden layers from `x` (batch, features) to `y` (batch, 1), for a figure."""
    build = _Builder(np.random.default_rng(seed))
    x = build.node("Relu", [build.dense("x", "hidden1", features, width)], "hidden1.relu")
    x = build.node("Relu", [build.dense(x, "hidden2", width, width)], "hidden2.relu")
    build.dense(x, "head", width, 1, "y")
    return build.model("perceptron", ("x", features), ("y", 1))


def lenet_300_100(classes: int = 10, seed: int = 0) -> onnx.ModelProto:
    """Return LeCun's network of two hidden layers for pictures (batch, 1, 28, 28): 266,610 parameters."""
    build = _Builder(np.random.default_rng(seed))
    x = build.node("Flatten", ["image"], "pixels", axis=1)
    x = build.node("Relu", [build.dense(x, "hidden1", 28 * 28, 300)], "hidden1.relu")
    x = build.node("Relu", [build.dense(x, "hidden2", 300, 100)], "hidden2.relu")
    build.dense(x, "head", 100, classes, "logits")
    return build.model("lenet_300_100", ("image", 1, 28, 28), ("logits", classes))


def lenet_5(classes: int = 10, seed: int = 0) -> onnx.ModelProto:
    """Return Caffe's LeNet-5 for pictures (batch, 1, 28, 28), as Deep Compression took it: 431,080 parameters."""
    build = _Builder(np.random.default_rng(seed))
    x, into = "image", 1
    for number, out in enumerate((20, 50), 1):
        x = build.conv(x, f"conv{number}", (out, into, 5))
        x = build.node("MaxPool", [x], f"pool{number}", kernel_shape=[2, 2], strides=[2, 2])
        into = out
    x = build.node("Flatten", [x], "features", axis=1)
    x = build.node("Relu", [build.dense(x, "hidden", 800, 500)], "hidden.relu")
    build.dense(x, "head", 500, classes, "logits")
    return build.model("lenet_5", ("image", 1, 28, 28), ("logits", classes))


def residual_cnn(
    widths: tuple[int, ...], blocks: int, side: int, classes: int, seed: int = 0, stride: int = 1
) -> onnx.ModelProto:
    """Return a ResNet (arXiv 1512.03385) for pictures (batch, 1, side, side) -> logits (batch, classes).

    `widths` are the channels of the stages, `blocks` the residual blocks per stage; `stride` is the first layer's.
    """
    build = _Builder(np.random.default_rng(seed))
    x = build.node("Relu", [build.conv_bn("image", "stem", (widths[0], 1, 3), stride)], "stem.relu")
    into = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            x = build.block(x, f"stage{stage}.{block}", into, width)
            into = width
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x], "pool")], "features", axis=1)
    build.dense(x, "head", into, classes, "logits")
    return build.model("residual_cnn", ("image", 1, side, side), ("logits", classes))
