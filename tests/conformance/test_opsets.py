"""Models written at old and new opsets against ONNX Runtime: real uploads are of opset 7 to the newest."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, defs, helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from tests.workers.autograd import graphs
from tests.workers.autograd.graphs import Sketch
from workers.compute.autograd.executor import Executor
from workers.compute.importers.operators import NEWEST_OPSET

Arrays = dict[str, NDArray[np.generic]]
OPSETS = (7, 9, 11, 13, 17, 21, NEWEST_OPSET, defs.onnx_opset_version())
SHAPE = (2, 3, 4, 4)


def whole(sketch: Sketch, *values: int) -> str:
    return sketch.constant(f"whole_{len(sketch.weights)}", np.array(values, np.int64))


def number(sketch: Sketch, value: float) -> str:
    return sketch.constant(f"number_{len(sketch.weights)}", np.float32(value))


def batch_normalization(sketch: Sketch, x: str) -> str:
    parts = [sketch.weight(name, 3, centre=1.0) for name in ("scale", "bias", "mean")]
    return sketch.op("BatchNormalization", x, *parts, sketch.constant("var", np.full(3, 0.7, np.float32)))


def clip(sketch: Sketch, x: str) -> str:
    if sketch.opset < 11:
        return sketch.op("Clip", x, min=-0.5, max=0.8)
    return sketch.op("Clip", x, number(sketch, -0.5), number(sketch, 0.8))


def depth_to_space(sketch: Sketch, x: str) -> str:
    deep = sketch.op("Conv", x, sketch.weight("deep", 8, 3, 1, 1))
    return sketch.op("SpaceToDepth", sketch.op("DepthToSpace", deep, blocksize=2), blocksize=4)


def dropout(sketch: Sketch, x: str) -> str:
    if sketch.opset < 12:
        return sketch.op("Dropout", x, ratio=0.4)
    return sketch.op("Dropout", x, number(sketch, 0.4))


def dropout_in_training_mode_is_left_out(sketch: Sketch, x: str) -> str:
    return sketch.op("Dropout", x) if sketch.opset < 12 else sketch.op("Dropout", x, number(sketch, 0.0))


def gemm_without_bias(sketch: Sketch, x: str) -> str:
    rows = sketch.op("Flatten", x, axis=2)
    inputs = [rows, sketch.weight("w", 16, 5)]
    return sketch.op("Gemm", *inputs, *([sketch.weight("b", 5)] if sketch.opset < 11 else []))


def layer_normalization(sketch: Sketch, x: str) -> str:
    if sketch.opset >= 18:
        return sketch.op("LayerNormalization", x, sketch.weight("scale", 4, centre=1.0))
    return graphs.layer_norm(sketch, x, "norm", 4)


def log_softmax(sketch: Sketch, x: str) -> str:
    return sketch.op("LogSoftmax", x, axis=2)


def lstm(sketch: Sketch, x: str) -> str:
    steps = sketch.op("Reshape", x, whole(sketch, 6, 4, 4))
    weights = [sketch.weight(name, 2, *shape) for name, shape in (("w", (20, 4)), ("r", (20, 5)), ("b", (40,)))]
    y = sketch.op("LSTM", steps, *weights, direction="bidirectional", hidden_size=5, outputs=3)
    return sketch.op("Concat", sketch.op("Reshape", y, whole(sketch, -1)), flat(sketch, f"{y}.2"), axis=0)


def gru(sketch: Sketch, x: str) -> str:
    steps = sketch.op("Reshape", x, whole(sketch, 6, 4, 4))
    weights = [sketch.weight(name, 1, *shape) for name, shape in (("w", (15, 4)), ("r", (15, 5)), ("b", (30,)))]
    return sketch.op("GRU", steps, *weights, hidden_size=5, linear_before_reset=1, outputs=2)


def flat(sketch: Sketch, x: str) -> str:
    return sketch.op("Reshape", x, whole(sketch, -1))


def max_and_min(sketch: Sketch, x: str) -> str:
    like = sketch.op("Neg", x)  # opset 7 did not broadcast them
    return sketch.op("Max", sketch.op("Min", x, like), sketch.op("Mean", x, x))


def max_pool(sketch: Sketch, x: str) -> str:
    more = {"ceil_mode": 1} if sketch.opset >= 10 else {}
    pooled = sketch.op("MaxPool", x, kernel_shape=[2, 2], strides=[3, 3], **more)
    return sketch.op("AveragePool", pooled, kernel_shape=[2, 2], auto_pad="SAME_UPPER")


def one_hot(sketch: Sketch, x: str) -> str:
    best = sketch.op("ArgMax", x, axis=1, keepdims=0)
    if sketch.opset < 9:
        return sketch.op("Cast", best, to=TensorProto.FLOAT)
    return sketch.op("OneHot", best, whole(sketch, 3), sketch.constant("values", np.array([0, 2], np.float32)))


def pad(sketch: Sketch, x: str) -> str:
    widths = [0, 0, 1, 2, 0, 0, 1, 0]
    if sketch.opset < 11:
        return sketch.op("Pad", sketch.op("Pad", x, pads=widths, mode="reflect"), pads=widths, value=0.5)
    reflected = sketch.op("Pad", x, whole(sketch, *widths), mode="reflect")
    return sketch.op("Pad", reflected, whole(sketch, *widths), number(sketch, 0.5))


def power(sketch: Sketch, x: str) -> str:
    two = sketch.constant("two", np.float32(2) if sketch.opset < 12 else np.int64(2))
    return sketch.op("Pow", x, two)


def quantized(sketch: Sketch, x: str) -> str:
    if sketch.opset < 10:
        return sketch.op("PRelu", x, sketch.weight("slope", 3, 1, 1))
    zero = sketch.constant("zero", np.int8(3))
    if sketch.opset < 13:
        scale = number(sketch, 0.05)
        return sketch.op("DequantizeLinear", sketch.op("QuantizeLinear", x, scale, zero), scale, zero)
    scales = sketch.constant("scales", np.array([0.05, 0.02, 0.1], np.float32))
    zeros = sketch.constant("zeros", np.array([3, -5, 0], np.int8))
    return sketch.op("DequantizeLinear", sketch.op("QuantizeLinear", x, scales, zeros, axis=1), scales, zeros, axis=1)


def reduce_mean(sketch: Sketch, x: str) -> str:
    return sketch.axes("ReduceMean", sketch.axes("ReduceMax", x, [1], 18, keepdims=1), [2, 3], 18, keepdims=0)


def reduce_sum(sketch: Sketch, x: str) -> str:
    return sketch.axes("ReduceSum", x, [1, 3], 13, keepdims=0)


def scatter(sketch: Sketch, x: str) -> str:
    if sketch.opset < 9:
        return sketch.op("Gather", x, whole(sketch, 2, 0), axis=1)
    index = sketch.constant("index", np.full((1, 1, 2, 4), 2, np.int64))
    name = "Scatter" if sketch.opset < 11 else "ScatterElements"
    return sketch.op(name, x, index, sketch.weight("updates", 1, 1, 2, 4), axis=1)


def slice_(sketch: Sketch, x: str) -> str:
    if sketch.opset < 10:
        return sketch.op("Slice", x, starts=[1, -3], ends=[9, -1], axes=[1, 3])
    bounds = [whole(sketch, *values) for values in ((1, -1), (9, -9), (1, 3), (1, -2))]
    return sketch.op("Slice", x, *bounds)


def softmax(sketch: Sketch, x: str) -> str:
    return sketch.op("Softmax", sketch.op("Softmax", x, axis=1))


def split(sketch: Sketch, x: str) -> str:
    if sketch.opset < 13:
        uneven = sketch.op("Split", x, axis=3, split=[1, 3], outputs=2)
    else:
        uneven = sketch.op("Split", x, whole(sketch, 1, 3), axis=3, outputs=2)
    even = {"num_outputs": 3} if sketch.opset >= 18 else {}
    return sketch.op("Split", f"{uneven}.1", axis=1, outputs=3, **even)  # two of the three parts are read by nobody


def squeeze(sketch: Sketch, x: str) -> str:
    return sketch.axes("Squeeze", sketch.axes("Unsqueeze", x, [0, 3], 13), [0], 13)


def top_k(sketch: Sketch, x: str) -> str:
    if sketch.opset < 10:
        return sketch.op("TopK", x, k=2, axis=3, outputs=2)
    return sketch.op("TopK", x, whole(sketch, 2), axis=3, outputs=2)


def upsample(sketch: Sketch, x: str) -> str:
    factors = np.array([1, 1, 2, 3], np.float32)
    if sketch.opset < 9:
        return sketch.op("Upsample", x, scales=factors.tolist(), mode="nearest")
    scales = sketch.constant("scales", factors)
    if sketch.opset < 11:
        return sketch.op("Upsample" if sketch.opset < 10 else "Resize", x, scales, mode="linear")
    region = sketch.constant("region", np.zeros(0, np.float32))
    return sketch.op("Resize", x, region, scales, mode="linear", coordinate_transformation_mode="half_pixel")


FORMS: tuple[Callable[[Sketch, str], str], ...] = (
    *(batch_normalization, clip, depth_to_space, dropout, dropout_in_training_mode_is_left_out, gemm_without_bias),
    *(gru, layer_normalization, log_softmax, lstm, max_and_min, max_pool, one_hot, pad, power, quantized),
    *(reduce_mean, reduce_sum, scatter, slice_, softmax, split, squeeze, top_k, upsample),
)


def agree(proto: onnx.ModelProto, inputs: Arrays) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    executor = Executor(graphs.model(proto)).eval()
    found = executor({name: torch.from_numpy(array) for name, array in inputs.items()})
    for value, theirs in zip(session.get_outputs(), session.run(None, inputs), strict=True):
        mine = found[value.name].detach().numpy()
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_operator_agrees_with_onnxruntime_in_its_form_at(form: Callable[[Sketch, str], str], opset: int) -> None:
    sketch = Sketch(opset)
    sketch.op("Identity", form(sketch, "x"), out="y")
    inputs: Arrays = {"x": np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)}
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    graph = helper.make_graph(sketch.nodes, "g", [value], [onnx.ValueInfoProto(name="y")], sketch.weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    try:
        agree(proto, inputs)
    except NoKernel:
        if opset <= NEWEST_OPSET:
            raise
        pytest.skip("ONNX Runtime has no kernel for this operator set, which uploads may not have")


@pytest.mark.parametrize("opset", OPSETS)
def test_cnn_agrees_with_onnxruntime_at(opset: int) -> None:
    agree(graphs.cnn(opset), {"image": np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)})


@pytest.mark.parametrize("opset", [opset for opset in OPSETS if opset >= 11])
def test_encoder_agrees_with_onnxruntime_at(opset: int) -> None:
    rng = np.random.default_rng(0)
    mask = (np.arange(9) < rng.integers(2, 10, (3, 1))).astype(np.int64)
    agree(graphs.encoder(opset), {"input_ids": rng.integers(0, 50, (3, 9)), "attention_mask": mask})
