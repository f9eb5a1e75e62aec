"""Operators of `com.microsoft`: against ONNX Runtime one by one, and in files that its own tools write."""

import collections
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as native
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from app.errors import ModelUnsupported
from tests.workers.autograd import graphs
from tests.workers.autograd.microsoft_cases import CASES, Node, attentions, normalizations, products
from tests.workers.autograd.test_executor import Arrays, images, tensors, text
from tests.workers.processors import SATURATES
from workers.compute.autograd.dtypes import from_numpy, to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.operators import MICROSOFT_RULES
from workers.compute.importers.onnx_file import admit
from workers.compute.importers.operators import CONTRIB

# The quantizers say in the log what they think of each graph, and ONNX's helpers warn in their own cause.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DIFFERENTIABLE = {
    "Attention",
    "BiasGelu",
    "EmbedLayerNormalization",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gelu",
    "GroupQueryAttention",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}


def outputs(proto: onnx.ModelProto, inputs: Arrays) -> list[NDArray[np.generic]]:
    """Run a file as it is: no rewriting."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.generic]] = session.run(None, inputs)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_single_node_agrees_with_onnxruntime(case: Node) -> None:
    proto = case.proto()
    executor = Executor(graphs.model(proto), trainable=False).eval()
    found = executor({name: from_numpy(array) for name, array in case.feed().items()})
    for name, theirs in zip(filter(None, case.results), outputs(proto, case.feed()), strict=True):
        mine = to_numpy(found[name])
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        limit = case.tolerance if theirs.dtype.kind == "f" else case.quantum
        np.testing.assert_allclose(mine.astype(np.float64), theirs.astype(np.float64), rtol=1e-3, atol=limit)


def test_every_rule_has_a_case() -> None:
    assert {case.op_type for case in CASES} - {"SimplifiedLayerNormalization"} == set(MICROSOFT_RULES)


def test_importer_admits_what_has_a_rule_and_a_kernel_in_onnxruntime() -> None:
    kernels = {
        kernel.op_name
        for kernel in native.get_all_opkernel_def()
        if kernel.domain == "com.microsoft" and kernel.provider == "CPUExecutionProvider"
    }
    assert set(MICROSOFT_RULES) <= kernels
    assert set(MICROSOFT_RULES) == CONTRIB


@pytest.mark.parametrize(
    "case",
    [case for family in (products, normalizations, attentions) for case in family() if case.op_type in DIFFERENTIABLE],
    ids=str,
)
def test_gradients_are_those_of_numeric_derivatives(case: Node) -> None:
    executor = Executor(graphs.model(case.proto()), trainable=False, dtype=torch.float64).eval()
    feed = {name: from_numpy(array) for name, array in case.feed().items()}
    names = [name for name, x in feed.items() if x.is_floating_point()]
    executor._declared = {}  # float32 inputs are declared, derivatives need float64
    inputs = [feed[name].double().requires_grad_() for name in names]

    def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = executor({**feed, **dict(zip(names, values, strict=True))})
        return tuple(y for y in found.values() if y.is_floating_point())

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def optimised(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


class Rows(CalibrationDataReader):  # type: ignore[misc] # the library is untyped
    """A few batches for the calibration."""

    def __init__(self, batches: list[Arrays]) -> None:
        """Start at the first."""
        self.left = iter(batches)

    def get_next(self) -> Arrays | None:
        """Return the next batch, None after the last."""
        return next(self.left, None)


def dynamic(proto: onnx.ModelProto, _rows: list[Arrays], folder: Path) -> onnx.ModelProto:
    onnx.save(proto, folder / "in.onnx")
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(
        folder / "in.onnx",
        folder / "out.onnx",
        weight_type=QuantType.QInt8,
        reduce_range=SATURATES,
        extra_options=options,
    )
    return onnx.load(folder / "out.onnx")


def _static(proto: onnx.ModelProto, rows: list[Arrays], folder: Path, form: QuantFormat) -> onnx.ModelProto:
    onnx.save(proto, folder / "in.onnx")
    quantize_static(
        folder / "in.onnx", folder / "out.onnx", Rows(rows), quant_format=form, per_channel=True, reduce_range=SATURATES
    )
    return onnx.load(folder / "out.onnx")


def static_qdq(proto: onnx.ModelProto, rows: list[Arrays], folder: Path) -> onnx.ModelProto:
    return _static(proto, rows, folder, QuantFormat.QDQ)


def static_operators(proto: onnx.ModelProto, rows: list[Arrays], folder: Path) -> onnx.ModelProto:
    return _static(proto, rows, folder, QuantFormat.QOperator)


def four_bits(proto: onnx.ModelProto, _rows: list[Arrays], _folder: Path) -> onnx.ModelProto:
    return in_blocks(proto, 4)


def eight_bits(proto: onnx.ModelProto, _rows: list[Arrays], _folder: Path) -> onnx.ModelProto:
    return in_blocks(proto, 8)


def in_blocks(proto: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    quantizer = MatMulNBitsQuantizer(proto, block_size=16, bits=bits, is_symmetric=False)
    quantizer.process()
    written: onnx.ModelProto = quantizer.model.model
    return written


def plain(proto: onnx.ModelProto, _rows: list[Arrays], _folder: Path) -> onnx.ModelProto:
    return proto


Writer = Callable[[onnx.ModelProto, list[Arrays], Path], onnx.ModelProto]
NETWORKS = {
    "encoder13": (lambda: graphs.encoder(13), [text(seed=seed) for seed in range(3)]),
    "encoder20": (lambda: graphs.encoder(20), [text(seed=seed) for seed in range(3)]),
    "cnn13": (lambda: graphs.cnn(13), [images()]),
}
# What each tool must have written, so that the comparison is about it.
SIGNS = {
    plain: {"FusedMatMul", "BiasGelu", "FusedGemm", "FusedConv"},
    dynamic: {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"},
    static_qdq: {"QuantizeLinear", "QGemm"},
    static_operators: {"QLinearAdd", "QGemm"},
    four_bits: {"MatMulNBits"},
    eight_bits: {"MatMulNBits"},
}


@pytest.mark.parametrize("after", [False, True], ids=["written", "then_optimised"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("write", SIGNS, ids=lambda write: write.__name__)
def test_file_of_onnxruntimes_own_tools_agrees_with_it(
    write: Writer, network: str, *, after: bool, tmp_path: Path
) -> None:
    make, rows = NETWORKS[network]
    proto = write(make(), rows, tmp_path)
    proto = optimised(proto, tmp_path) if after else proto
    kinds = collections.Counter(node.op_type for node in proto.graph.node)
    if after and not (network == "cnn13" and write in {four_bits, eight_bits}):
        assert SIGNS[write] & set(kinds)
    found = Executor(graphs.model(proto)).eval()(tensors(rows[0]))
    # A value at the border of two steps may round to either; the scores' grid has 256 steps.
    step = 1 / 255 if write in {static_qdq, static_operators} else 1e-5
    for value, theirs in zip(proto.graph.output, outputs(proto, rows[0]), strict=True):
        np.testing.assert_allclose(found[value.name].detach().numpy(), theirs, rtol=1e-4, atol=1.01 * step)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("write", SIGNS, ids=lambda write: write.__name__)
def test_file_of_onnxruntimes_own_tools_is_admitted(write: Writer, network: str, tmp_path: Path) -> None:
    make, rows = NETWORKS[network]
    proto = optimised(write(make(), rows, tmp_path), tmp_path)
    onnx.save(proto, tmp_path / "model.onnx")
    assert admit(tmp_path / "model.onnx").SerializeToString() == proto.SerializeToString()


def root_mean_square() -> onnx.ModelProto:
    """A layer that ONNX Runtime's optimiser would write: its operator in the standard domain."""
    sketch = graphs.Sketch(17)
    product = sketch.op("MatMul", "x", sketch.weight("w", 4, 4))
    scale = sketch.weight("scale", 4)
    sketch.nodes.append(helper.make_node("SimplifiedLayerNormalization", [product, scale], ["y"], "norm"))
    value = helper.make_tensor_value_info
    given, made = value("x", 1, ["N", 4]), value("y", 1, ["N", 4])
    graph = helper.make_graph(sketch.nodes, "graph", [given], [made], sketch.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_unregistered_operator_of_the_standard_domain_is_admitted(tmp_path: Path) -> None:
    proto = root_mean_square()
    onnx.save(proto, tmp_path / "model.onnx")
    assert admit(tmp_path / "model.onnx").SerializeToString() == proto.SerializeToString()
    x = {"x": np.ones((2, 4), np.float32)}
    found = Executor(graphs.model(proto))(tensors(x))["y"]
    np.testing.assert_allclose(found.detach().numpy(), outputs(proto, x)[0], rtol=1e-5)


def test_optimised_encoder_learns_all_its_weights_and_no_setting(tmp_path: Path) -> None:
    executor = Executor(graphs.model(optimised(graphs.encoder(13), tmp_path)))
    executor(tensors(text()))["logits"].square().sum().backward()
    assert all(parameter.grad is not None for parameter in executor.parameters())


def test_scales_of_quantized_operators_are_not_trained(tmp_path: Path) -> None:
    written = optimised(static_operators(graphs.cnn(13), [images()], tmp_path), tmp_path)
    assert set(Executor(graphs.model(written)).trained) == {
        f"conv{at}.{part}" for at in (1, 2) for part in ("scale", "bias")
    }


def test_hardware_layout_is_refused_by_name() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "laid_out", domain="com.microsoft.nchwc")
    values = [helper.make_tensor_value_info(name, 1, [1, 8, 4, 4]) for name in ("x", "w", "y")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft.nchwc", 1)]
    proto = helper.make_model(helper.make_graph([node], "g", values[:2], values[2:]), opset_imports=imports)
    with pytest.raises(ModelUnsupported, match=r"Conv \(domain com.microsoft.nchwc, opset 1\) at node laid_out"):
        Executor(graphs.model(proto))
