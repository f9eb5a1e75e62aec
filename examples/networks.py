"""A residual CNN written straight as an ONNX graph, untrained; our own executor trains it."""

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

    def conv_bn(self, x: str, name: str, shape: tuple[int, int, int], stride: int = 1) -> str:
        """Convolution (He initialisation) and batch normalization; `shape` is (out, in, kernel)."""
        out, into, kernel = shape
        scale = np.sqrt(2 / (into * kernel * kernel))
        kernel_values = self.rng.normal(0, scale, (out, into, kernel, kernel))
        weight = self.weight(f"{name}.weight", kernel_values)
        pad = kernel // 2
        y = self.node(
            "Conv", [x, weight], f"{name}.conv", strides=[stride] * 2, pads=[pad] * 4, kernel_shape=[kernel] * 2
        )
        statistics = [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)]
        inputs = [self.weight(f"{name}.{key}", np.full(out, value)) for key, value in statistics]
        return self.node("BatchNormalization", [y, *inputs], f"{name}.bn")

    def block(self, x: str, name: str, into: int, out: int) -> str:
        """Two 3×3 convolutions and a shortcut; halves the picture when the channels change."""
        stride = 1 if into == out else 2
        y = self.node("Relu", [self.conv_bn(x, f"{name}.a", (out, into, 3), stride)], f"{name}.a.relu")
        y = self.conv_bn(y, f"{name}.b", (out, out, 3))
        shortcut = x if into == out else self.conv_bn(x, f"{name}.short", (out, into, 1), stride)
        return self.node("Relu", [self.node("Add", [y, shortcut], f"{name}.add")], f"{name}.relu")


def residual_cnn(widths: tuple[int, ...], blocks: int, side: int, classes: int, seed: int = 0) -> onnx.ModelProto:
    """Return a ResNet (arXiv 1512.03385) for pictures (batch, 1, side, side) -> logits (batch, classes).

    `widths` are the channels of the stages, `blocks` the residual blocks per stage.
    """
    build = _Builder(np.random.default_rng(seed))
    x = build.node("Relu", [build.conv_bn("image", "stem", (widths[0], 1, 3))], "stem.relu")
    into = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            x = build.block(x, f"stage{stage}.{block}", into, width)
            into = width
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x], "pool")], "features", axis=1)
    head = build.weight("head.weight", build.rng.normal(0, np.sqrt(1 / into), (classes, into)))
    bias = build.weight("head.bias", np.zeros(classes))
    build.node("Gemm", [x, head, bias], "logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, side, side])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(build.nodes, "residual_cnn", [image], [logits], build.weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="modelpress-examples"
    )
    onnx.checker.check_model(model, full_check=True)
    return model
