from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, answers, bert, cnn, dataset_for, rows_for
from tests.workers.processors import SATURATES
from tests.workers.techniques.steps import take
from workers.compute.autograd.prediction import predict
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.encodings.packer import pack
from workers.compute.graph.model import Model, save
from workers.compute.graph.readers import matrices
from workers.compute.lowering import twin_of


def exact(changes: dict[str, object]) -> dict[str, object]:
    """Return options whose answers do not depend on the processor: weights of 7 bits where those of 8 saturate."""
    return {"reduce_range": True, **changes} if SATURATES else changes


def options(**changes: object) -> QuantizeInt8:
    return QuantizeInt8.model_validate(changes)


def operators(model: Model) -> set[str]:
    return {node.op_type for node in model.graph}


def optimized(model: Model, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime really runs."""
    save(model, folder / "model.onnx")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(folder / "model.onnx", settings, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


MODES = [
    {"mode": "qat", "ranges": "static", "epochs": 0},
    {"mode": "qat", "ranges": "dynamic", "epochs": 0},
    {"mode": "dynamic"},
    {"mode": "dynamic", "per_channel": False},
    {"mode": "dynamic", "reduce_range": True},
    {"mode": "static"},
    {"mode": "static", "per_channel": False, "reduce_range": True},
    {"mode": "static", "calibration": "entropy", "calibration_rows": 32},
    {"mode": "static", "calibration": "percentile", "calibration_rows": 32},
]


@pytest.mark.parametrize("changes", MODES, ids=str)
@pytest.mark.parametrize("name", ["cnn", "bert"])
def test_answers_stay_close_when_quantized(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    model = cnn() if name == "cnn" else bert(layers=2)
    rows = rows_for(model, 32)

    outcome = take(options(**exact(changes)), model, tmp_path)

    before, after = answers(model, rows), answers(outcome.model, rows)
    noise = float(np.square(before - after).mean() / np.square(before - before.mean()).mean())
    # 20 dB; int8 reaches some 30 here, clipped ranges of entropy some 15.
    assert noise < (0.1 if "calibration" in changes else 0.01)


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize("opset", [9, 13, 17])
def test_no_floating_matrix_is_left_when_quantized(opset: int, mode: str, tmp_path: Path) -> None:
    model = cnn(opset=opset)

    quantized = take(options(mode=mode), model, tmp_path).model

    left = [name for name in matrices(quantized) if quantized.read(name).nbytes >= 1024]
    assert left == []


def test_products_are_integer_when_dynamic(tmp_path: Path) -> None:
    quantized = take(options(), bert(layers=1), tmp_path).model

    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= operators(quantized)


def test_convolutions_are_integer_when_static(tmp_path: Path) -> None:
    quantized = take(options(mode="static"), cnn(), tmp_path).model

    assert optimized(quantized, tmp_path).count("QLinearConv") == 5


def test_convolutions_fold_back_when_dynamic(tmp_path: Path) -> None:
    outcome = take(options(), cnn(), tmp_path)

    assert "Mul" not in optimized(outcome.model, tmp_path)
    assert any("static mode" in note for note in outcome.notes)


def test_table_is_int8_when_gathered(tmp_path: Path) -> None:
    model = bert(layers=1)

    quantized = take(options(), model, tmp_path).model

    table = quantized.read("words.w_int8").astype(np.float32)
    assert quantized.read("words.w_int8").dtype == np.int8
    assert quantized.read("words.w_scale").shape == (120, 1)
    decoded = table * quantized.read_floats("words.w_scale")
    np.testing.assert_allclose(decoded, model.read_floats("words.w"), atol=0.01)


def test_zeros_stay_zeros_when_quantized_after_pruning(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.6, epochs=0), bert(layers=1), tmp_path).model

    outcome = take(options(), pruned, tmp_path)

    weights = outcome.model.read("layer0.mlp.up.w_quantized")
    np.testing.assert_array_equal(weights == 0, (pruned.read("layer0.mlp.up.w") == 0) | (weights == 0))
    assert not weights[pruned.read("layer0.mlp.up.w") == 0].any()
    assert not any("not exactly zero" in note for note in outcome.notes)


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_sparse_integers_run_as_fast_operators_when_packed(mode: str, tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.9, epochs=0), wide(), tmp_path, dataset=None).model
    rows = Samples({"x": np.random.default_rng(0).normal(size=(32, 128)).astype(np.float32)})
    dataset = Dataset(rows, rows, rows)
    quantized = take(options(mode=mode), pruned, tmp_path, dataset=dataset).model

    packed = pack(quantized)

    assert "sparse" in {report.encoding for report in packed.tensors}
    np.testing.assert_array_equal(answers(packed.model, rows), answers(quantized, rows))
    assert optimized(packed.model, tmp_path) == optimized(quantized, tmp_path)


def wide() -> Model:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 128])
    return net.model(net.add("dense", "MatMul", x, net.weight("w", 128, 256)), ["batch", 256])


def test_node_stays_floating_when_excluded(tmp_path: Path) -> None:
    quantized = take(options(exclude=["layer0.mlp.up.matmul", "words"]), bert(layers=1), tmp_path).model

    assert quantized.read("layer0.mlp.up.w").dtype == np.float32
    assert quantized.read("words.w").dtype == np.float32


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_gemm_stays_floating_when_excluded(mode: str, tmp_path: Path) -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 64])
    hidden = net.add("first", "Gemm", x, net.weight("w1", 64, 64), net.weight("b1", 64))
    last = net.add("last", "Gemm", hidden, net.weight("w2", 64, 16), net.weight("b2", 16))
    rows = Samples({"x": np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)}, None)
    dataset = Dataset(rows, rows, rows, task="match")

    quantized = take(options(mode=mode, exclude=["first"]), net.model(last, ["batch", 16]), tmp_path, dataset=dataset)

    kept = {name for name in quantized.model.weights() if quantized.model.read(name).dtype == np.float32}
    assert "w1" in kept
    assert "w2" not in kept


def after_scaler() -> Model:
    net = Network(13)
    x = net.add("scaler", "Scaler", net.given("x", Kind.FLOAT, ["batch", 64]))
    net.nodes[0].domain = "ai.onnx.ml"
    for name, value in (("offset", 0.0), ("scale", 1.0)):
        net.nodes[0].attributes.add(ir.AttrFloat32s(name, [value]))
    hidden = net.add("first", "MatMul", x, net.weight("w1", 64, 64))
    model = net.model(net.add("last", "MatMul", hidden, net.weight("w2", 64, 16)), ["batch", 16])
    model.graph.opset_imports["ai.onnx.ml"] = 1
    return model


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_products_are_quantized_after_an_operator_of_another_domain(mode: str, tmp_path: Path) -> None:
    rows = Samples({"x": np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)}, None)
    dataset = Dataset(rows, rows, rows, task="match")

    quantized = take(options(mode=mode), after_scaler(), tmp_path, dataset=dataset).model

    assert {quantized.read(f"{name}_quantized").dtype for name in ("w1", "w2")} == {np.dtype(np.int8)}
    assert optimized(quantized, tmp_path)


QAT = [{"ranges": "static"}, {"ranges": "dynamic"}, {"ranges": "dynamic", "per_channel": False}]


def integers(model: Model) -> dict[str, NDArray[np.generic]]:
    """Return the constants whose type is int8."""
    names = (name for name, value in model.graph.initializers.items() if value.dtype == Kind.INT8)
    return {name: model.read(name) for name in names}


@pytest.mark.parametrize("changes", QAT, ids=str)
@pytest.mark.parametrize("name", ["cnn", "bert"])
def test_trained_twin_answers_as_the_integers_do(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    model = cnn() if name == "cnn" else bert(layers=1)
    quantized = take(options(mode="qat", epochs=0, **exact(changes)), model, tmp_path).model
    rows = rows_for(model, 16)
    twin = twin_of(quantized, model)

    trained, shipped = predict(twin.model, rows, device="cpu", threads=1)["logits"], answers(quantized, rows)

    assert twin.integers
    # Without rounding the activations it would be 4e-5; sums in another order round a few of them otherwise.
    assert np.square(trained - shipped).mean() < 1e-6 * np.square(shipped - shipped.mean()).mean()


@pytest.mark.parametrize("changes", QAT, ids=str)
@pytest.mark.parametrize("name", ["cnn", "bert"])
def test_integers_move_and_what_was_trained_is_shipped(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    model = cnn() if name == "cnn" else bert(layers=1)
    plain = take(options(mode="qat", epochs=0, **changes), model, tmp_path).model

    outcome = take(options(mode="qat", epochs=4, learning_rate=0.005, batch_size=16, **changes), model, tmp_path)

    moved = [key for key, values in integers(outcome.model).items() if not np.array_equal(values, integers(plain)[key])]
    assert moved
    assert outcome.curve[-1].validation_score is not None
    rows = dataset_for(model).validation
    best = max(point.validation_score or 0 for point in outcome.curve)
    assert (answers(outcome.model, rows).argmax(-1) == rows.labels).mean() >= best - 0.05


def test_zeros_stay_zeros_when_trained_after_pruning(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.6, epochs=0), bert(layers=1), tmp_path).model

    outcome = take(options(mode="qat", epochs=2, learning_rate=0.01), pruned, tmp_path)

    weights = outcome.model.read("layer0.mlp.up.w_quantized")
    assert not weights[pruned.read("layer0.mlp.up.w") == 0].any()
    assert weights.any()


def test_ternary_weights_stay_ternary_when_trained(tmp_path: Path) -> None:
    ternary = take(Ternarize(epochs=0), bert(layers=1), tmp_path).model

    outcome = take(options(mode="qat", epochs=2, learning_rate=0.01), ternary, tmp_path)

    assert set(np.unique(outcome.model.read("layer0.mlp.up.w_quantized"))) <= {-1, 0, 1}


@pytest.mark.parametrize("changes", [{}, {"reduce_range": True}, {"mode": "static"}], ids=str)
def test_ternary_products_answer_alike_on_every_processor(changes: dict[str, object], tmp_path: Path) -> None:
    ternary = take(Ternarize(epochs=0), bert(layers=1), tmp_path).model

    lowered = take(options(**changes), ternary, tmp_path).model

    name = "layer0.mlp.up.w"
    integers, scale = lowered.read(f"{name}_quantized"), lowered.read(f"{name}_scale")
    np.testing.assert_allclose(integers * scale, ternary.read(name), rtol=1e-6)
    assert set(np.unique(integers)) == {-1, 0, 1}
    before, after = answers(ternary, rows_for(ternary, 32)), answers(lowered, rows_for(ternary, 32))
    assert np.square(before - after).mean() < 0.01 * np.square(before - before.mean()).mean()


def test_convolutions_are_integer_when_trained(tmp_path: Path) -> None:
    outcome = take(options(mode="qat", epochs=1), cnn(), tmp_path)

    assert optimized(outcome.model, tmp_path).count("QLinearConv") == 5


def test_products_are_dynamic_when_trained_without_convolutions(tmp_path: Path) -> None:
    outcome = take(options(mode="qat", epochs=1), bert(layers=1), tmp_path)

    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= operators(outcome.model)
    assert "QuantizeLinear" not in operators(outcome.model)


def test_epochs_are_refused_when_the_mode_does_not_train() -> None:
    with pytest.raises(ValidationError, match="mode qat"):
        options(mode="static", epochs=1)


@pytest.mark.parametrize("mode", ["static", "qat"])
def test_data_is_needed_when_calibrated_or_trained(mode: str) -> None:
    assert options(mode=mode).data_needed
    assert not options().data_needed


def test_training_is_expected_in_mode_qat_alone() -> None:
    assert [options(mode=mode).may_train for mode in ("dynamic", "static", "qat")] == [False, False, True]


def test_refusal_names_the_cure_when_qat_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="attach a dataset"):
        take(options(mode="qat"), bert(layers=1), tmp_path, dataset=None)


def test_refusal_when_an_excluded_node_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="no node"):
        take(options(exclude=["nonsense"]), cnn(), tmp_path)


def test_refusal_names_the_cure_when_static_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="attach a dataset"):
        take(options(mode="static"), cnn(), tmp_path, dataset=None)


def test_refusal_when_there_is_no_matrix(tmp_path: Path) -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 3])
    model = net.model(net.add("scale", "Mul", x, net.weight("w", 3)), ["batch", 3])

    with pytest.raises(TechniqueNotApplicable, match="no matrix"):
        take(options(), model, tmp_path, dataset=None)


def half() -> Model:
    net = Network(13)
    x = net.given("x", Kind.FLOAT16, ["batch", 8])
    weight = net.constant("w", np.random.default_rng(0).normal(size=(8, 64)).astype(np.float16))
    model = net.model(net.add("dense", "MatMul", x, weight), ["batch", 64])
    model.graph.outputs[0].type = ir.TensorType(Kind.FLOAT16)
    return model


def test_refusal_names_the_cure_when_float16_is_quantized_dynamically(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="use mode static"):
        take(options(), half(), tmp_path, dataset=None)


def test_float16_loads_when_static(tmp_path: Path) -> None:
    rows = Samples({"x": np.random.default_rng(0).normal(size=(32, 8)).astype(np.float16)}, None)
    dataset = Dataset(rows, rows, rows, task="match")

    quantized = take(options(mode="static"), half(), tmp_path, dataset=dataset).model

    assert "QuantizeLinear" in operators(quantized)
    assert optimized(quantized, tmp_path)


def test_nothing_is_printed_when_calibrated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    take(options(mode="static", calibration="entropy", calibration_rows=16), cnn(), tmp_path)

    assert capfd.readouterr().out == ""


def test_scratch_is_empty_when_done(tmp_path: Path) -> None:
    take(options(), cnn(), tmp_path)

    assert list(tmp_path.iterdir()) == []
