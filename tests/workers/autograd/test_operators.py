"""Families of operators against ONNX Runtime on drawn attributes, and against numeric derivatives."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from tests.workers.autograd import graphs
from workers.compute.autograd.executor import Executor

Array = NDArray[np.generic]
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def single(
    op_type: str, opset: int, inputs: list[Array | None], outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """Return a model of one node whose inputs are graph inputs; None is an absent optional input."""
    names = ["" if array is None else f"x{at}" for at, array in enumerate(inputs)]
    results = [f"y{at}" for at in range(outputs)]
    node = helper.make_node(op_type, names, results, **attributes)
    given_inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
        if array is not None
    ]
    graph = helper.make_graph([node], "g", given_inputs, [onnx.ValueInfoProto(name=name) for name in results])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def check(
    op_type: str, opset: int, *inputs: Array | None, outputs: int = 1, tolerance: float = 1e-4, **attributes: Any
) -> None:
    """Compare one node with ONNX Runtime; a node that it refuses proves nothing and passes."""
    proto = single(op_type, opset, list(inputs), outputs, **attributes)
    feed = {f"x{at}": array for at, array in enumerate(inputs) if array is not None}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        expected = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, feed
        )
    except Exception:  # noqa: BLE001 - its bindings raise many classes
        return
    executor = Executor(graphs.model(proto), trainable=False).eval()
    found = executor({name: torch.from_numpy(array) for name, array in feed.items()})
    for name, theirs in zip((f"y{at}" for at in range(outputs)), expected, strict=True):
        assert tuple(found[name].shape) == theirs.shape
        np.testing.assert_allclose(found[name].double(), theirs, atol=tolerance, rtol=1e-3)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@quick
@given(
    rank=st.integers(1, 3),
    size=st.integers(5, 8),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    begin=st.integers(0, 2),
    end=st.integers(0, 2),
    auto_pad=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
)
def test_conv_agrees_with_onnxruntime(rank: int, size: int, auto_pad: str, **draw: int) -> None:
    attributes: dict[str, Any] = {"strides": [draw["stride"]] * rank, "group": draw["groups"], "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        attributes |= {"pads": [draw["begin"]] * rank + [draw["end"]] * rank, "dilations": [draw["dilation"]] * rank}
    weight = normal(4, 4 // draw["groups"], *[draw["kernel"]] * rank, seed=1)
    check("Conv", 11, normal(2, 4, *[size] * rank), weight, normal(4, seed=2), **attributes)


@quick
@given(
    flat=st.integers(1, 2),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    begin=st.integers(0, 2),
    end=st.integers(0, 2),
    auto_pad=st.sampled_from(["NOTSET", "SAME_UPPER", "VALID"]),
    padded=st.booleans(),
)
def test_conv_along_one_axis_agrees_with_onnxruntime(flat: int, auto_pad: str, *, padded: bool, **draw: int) -> None:
    ones, side = [1] * flat, [int(padded)] * flat
    attributes: dict[str, Any] = {"strides": [draw["stride"], *ones], "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        pads = [draw["begin"], *side, draw["end"], *side]
        attributes |= {"pads": pads, "dilations": [draw["dilation"], *ones]}
    check("Conv", 11, normal(2, 4, 9, *ones), normal(6, 4, 3, *ones, seed=1), normal(6, seed=2), **attributes)


@quick
@given(
    rank=st.integers(1, 2),
    size=st.integers(2, 5),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    extra=st.integers(0, 1),
    begin=st.integers(0, 1),
    end=st.integers(0, 1),
    groups=st.sampled_from([1, 2]),
)
def test_conv_transpose_agrees_with_onnxruntime(rank: int, size: int, **draw: int) -> None:
    attributes = {
        "strides": [draw["stride"]] * rank,
        "group": draw["groups"],
        "pads": [draw["begin"]] * rank + [draw["end"]] * rank,
        "output_padding": [min(draw["extra"], draw["stride"] - 1)] * rank,
    }
    weight = normal(4, 2, *[draw["kernel"]] * rank, seed=1)
    check("ConvTranspose", 11, normal(1, 4, *[size] * rank), weight, **attributes)


@quick
@given(
    op_type=st.sampled_from(["MaxPool", "AveragePool"]),
    rank=st.integers(1, 3),
    size=st.integers(4, 8),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    begin=st.integers(0, 1),
    end=st.integers(0, 1),
    ceil=st.integers(0, 1),
    count=st.integers(0, 1),
)
def test_pools_agree_with_onnxruntime(op_type: str, rank: int, size: int, **draw: int) -> None:
    pads = [min(draw["begin"], draw["kernel"] - 1)] * rank + [min(draw["end"], draw["kernel"] - 1)] * rank
    attributes = {
        "kernel_shape": [draw["kernel"]] * rank,
        "strides": [draw["stride"]] * rank,
        "pads": pads,
        "ceil_mode": draw["ceil"],
    }
    if op_type == "AveragePool":
        attributes["count_include_pad"] = draw["count"]
    check(op_type, 19 if op_type == "AveragePool" else 12, normal(2, 3, *[size] * rank), **attributes)


@quick
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    transform=st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]),
    rounding=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_resize_agrees_with_onnxruntime(mode: str, transform: str, rounding: str, height: int, width: int) -> None:
    sizes = np.array([1, 2, height, width], np.int64)
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        attributes["nearest_mode"] = rounding
    check("Resize", 18, normal(1, 2, 4, 5), None, None, sizes, **attributes)


@quick
@given(data=st.data())
def test_slice_agrees_with_onnxruntime(data: st.DataObject) -> None:
    bound = st.integers(-9, 9)
    starts, ends = (np.array(data.draw(st.tuples(bound, bound)), np.int64) for _ in range(2))
    steps = np.array(data.draw(st.tuples(*[st.sampled_from([-2, -1, 1, 2])] * 2)), np.int64)
    check("Slice", 13, normal(5, 6), starts, ends, np.array([0, -1], np.int64), steps)


@quick
@given(
    mode=st.sampled_from(["constant", "reflect", "edge"]),
    pads=st.lists(st.integers(-1, 3), min_size=4, max_size=4),
)
def test_pad_agrees_with_onnxruntime(mode: str, pads: list[int]) -> None:
    check("Pad", 13, normal(5, 6), np.array(pads, np.int64), np.array(1.5, np.float32), mode=mode)


@quick
@given(
    op_type=st.sampled_from(
        ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd", "ReduceLogSumExp", "ReduceSumSquare"]
    ),
    axes=st.sampled_from([[0], [1], [-1], [0, 2], [0, 1, 2]]),
    keep=st.integers(0, 1),
    opset=st.sampled_from([11, 18]),
)
def test_reductions_agree_with_onnxruntime(op_type: str, axes: list[int], keep: int, opset: int) -> None:
    if opset >= 18:
        check(op_type, opset, normal(2, 3, 4), np.array(axes, np.int64), keepdims=keep)
    else:
        check(op_type, opset, normal(2, 3, 4), axes=axes, keepdims=keep)


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [1, 2])
def test_softmax_follows_its_opset(op_type: str, opset: int, axis: int) -> None:
    check(op_type, opset, normal(2, 3, 4), axis=axis)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op_type", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_agree_with_onnxruntime(op_type: str, gates: int, direction: str) -> None:
    ways = 2 if direction == "bidirectional" else 1
    weights = [normal(ways, gates * 5, 3, seed=1), normal(ways, gates * 5, 5, seed=2), normal(ways, gates * 10, seed=3)]
    check(op_type, 14, normal(6, 2, 3), *weights, outputs=2, direction=direction, hidden_size=5)


def gradients_hold(op_type: str, opset: int, inputs: list[Array], **attributes: Any) -> bool:
    """Compare autograd's derivatives of one node with numeric ones, in double precision."""
    executor = Executor(
        graphs.model(single(op_type, opset, list(inputs), **attributes)), trainable=False, dtype=torch.float64
    )
    variables = [torch.from_numpy(array).requires_grad_(array.dtype == np.float64) for array in inputs]

    def run(*values: torch.Tensor) -> torch.Tensor:
        return executor({f"x{at}": value for at, value in enumerate(values)})["y0"]

    return torch.autograd.gradcheck(run, variables)


def double(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("Conv", [double(1, 2, 5, 5), double(3, 2, 3, 3)], {"pads": [1, 0, 1, 2]}),
        ("ConvTranspose", [double(1, 2, 3, 3), double(2, 2, 3, 3)], {"strides": [2, 2]}),
        ("AveragePool", [double(1, 2, 5, 5)], {"kernel_shape": [2, 2], "ceil_mode": 1, "strides": [2, 2]}),
        ("Gemm", [double(2, 3), double(4, 3), double(4)], {"transB": 1, "alpha": 0.5}),
        ("LayerNormalization", [double(2, 4), double(4), double(4)], {}),
        ("InstanceNormalization", [double(2, 3, 4), double(3), double(3)], {}),
        ("Gelu", [double(3, 4)], {}),
        ("Mish", [double(3, 4)], {}),
        ("Gather", [double(5, 3), np.array([0, 2, 2, -1])], {}),
        ("Resize", [double(1, 1, 3, 3), np.zeros(0), np.array([1.0, 1.0, 2.0, 2.0], np.float32)], {"mode": "cubic"}),
        ("Softmax", [double(2, 5)], {"axis": -1}),
        ("PRelu", [double(2, 3), double(3)], {}),
        ("ScatterElements", [double(3, 3), np.array([[0, 1, 2]]), double(1, 3)], {"reduction": "add"}),
        ("LSTM", [double(2, 1, 2), double(1, 8, 2), double(1, 8, 2)], {"hidden_size": 2}),
    ],
)
def test_gradient_agrees_with_finite_differences(op_type: str, inputs: list[Array], attributes: dict[str, Any]) -> None:
    assert gradients_hold(op_type, 20, inputs, **attributes)


def test_quantizer_passes_the_gradient_inside_its_range() -> None:
    sketch = graphs.Sketch(13)
    scale, zero = sketch.constant("scale", np.float32(0.1)), sketch.constant("zero", np.int8(0))
    sketch.op("DequantizeLinear", sketch.op("QuantizeLinear", "x", scale, zero), scale, zero, out="y")
    value = (onnx.TensorProto.FLOAT, [3])
    x = torch.tensor([0.33, -1.0, 99.0], requires_grad=True)
    y = Executor(graphs.model(sketch.proto({"x": value}, {"y": value})))({"x": x})["y"]
    y.sum().backward()
    torch.testing.assert_close(y.detach(), torch.tensor([0.3, -1.0, 12.7]))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("length", [None, 2, 6])
def test_inverse_transform_of_real_numbers_agrees_with_onnxruntime(length: int | None) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 1)).astype(np.float32)
    check("DFT", 17, x, None if length is None else np.array(length), axis=1, inverse=1)
