from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.quantize_fp16 import QuantizeFp16
from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.contracts.steps.retrain import Retrain
from app.contracts.steps.share_weights import ShareWeights
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, answers, bert, cnn, rows_for
from tests.workers.techniques.steps import take
from workers.compute.autograd.dtypes import to_floats
from workers.compute.autograd.parametrization import parametrize
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Half, shrink
from workers.compute.graph.model import Model, save


def options(**changes: object) -> QuantizeFp16:
    return QuantizeFp16.model_validate(changes)


def wide() -> Model:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 64])
    return net.model(net.add("dense", "MatMul", x, net.weight("w", 64, 128)), ["batch", 128])


def has_half_values(model: Model, name: str) -> bool:
    values = model.read(name)
    return np.array_equal(values, values.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("build", [cnn, bert])
def test_weights_are_half_and_answers_almost_the_same(build: type[Model], tmp_path: Path) -> None:
    model = build()

    outcome = take(options(), model, tmp_path, dataset=None)

    rows = rows_for(model, 16)
    assert all(has_half_values(outcome.model, name) for name in outcome.model.constraints)
    assert {"half"} == {promise.kind for promise in outcome.model.constraints.values()}
    np.testing.assert_allclose(answers(outcome.model, rows), answers(model, rows), atol=0.01)
    assert "dB" in outcome.notes[0]


def test_file_is_half_and_no_cast_runs_when_packed(tmp_path: Path) -> None:
    packed = pack(take(options(), wide(), tmp_path, dataset=None).model)

    save(packed.model, tmp_path / "packed.onnx")
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "packed.onnx", settings, providers=["CPUExecutionProvider"])
    assert packed.tensors[0].bits_per_weight < 16.5
    assert [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node] == ["MatMul"]


def test_weights_stay_half_when_a_later_step_trains(tmp_path: Path) -> None:
    half = take(options(), cnn(), tmp_path).model

    trained = take(Retrain(epochs=2, learning_rate=0.01), half, tmp_path).model

    assert has_half_values(trained, "block0.a.w")
    assert not np.array_equal(trained.read("block0.a.w"), half.read("block0.a.w"))


def test_zeros_stay_zero_before_and_after(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.5, epochs=0), cnn(), tmp_path).model

    half = take(options(), pruned, tmp_path).model
    again = take(PruneWeights(sparsity=0.7, epochs=1), half, tmp_path).model

    assert not again.read("block0.a.w")[pruned.read("block0.a.w") == 0].any()
    assert (again.read("block0.a.w") == 0).mean() > 0.6
    assert has_half_values(again, "block0.a.w")


def test_fewer_values_stay_and_a_note_says_so(tmp_path: Path) -> None:
    ternary = take(Ternarize(epochs=0, min_size=1000), bert(layers=1), tmp_path).model
    shared = take(ShareWeights(epochs=0, min_size=700), ternary, tmp_path).model

    outcome = take(options(min_size=200), shared, tmp_path)

    kinds = {name: promise.kind for name, promise in outcome.model.constraints.items()}
    assert (kinds["words.w"], kinds["layer0.mlp.up.w"], kinds["pool.w"]) == ("ternary", "shared", "half")
    assert any("fewer values" in note for note in outcome.notes)


@pytest.mark.parametrize(("kind", "left"), [("float16", 1), ("bfloat16", 0)])
def test_tensor_stays_when_a_number_is_out_of_range(kind: str, left: int, tmp_path: Path) -> None:
    model = wide()
    values = model.read_floats("w").copy()
    values[0, 0] = 1e6
    model.write("w", values)

    outcome = take(options(format=kind), model, tmp_path, dataset=None)

    assert len(outcome.model.constraints) == 1 - left
    assert any("beyond the range" in note for note in outcome.notes) == bool(left)


def test_tables_stay_when_asked(tmp_path: Path) -> None:
    outcome = take(options(embeddings=False), bert(layers=1), tmp_path)

    assert "words.w" not in outcome.model.constraints
    assert "layer0.mlp.up.w" in outcome.model.constraints


def test_promise_holds_when_positions_are_cut() -> None:
    promise = Half(np.asarray([[True, False, True]]), "float16")

    cut = shrink(promise, [None, np.asarray([1, 2])])

    assert cut.holds(np.asarray([[0.0, 0.5]], np.float32))
    assert not cut.holds(np.asarray([[0.5, 0.5]], np.float32))
    assert not cut.holds(np.asarray([[0.0, 0.1]], np.float32))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_training_shows_the_rounded_weights(kind: Literal["float16", "bfloat16"]) -> None:
    values = np.asarray([[1e9, -0.1, 0.3], [1e-9, 2.0, -1 / 3]], np.float32)
    promise = Half(np.asarray([[True, True, False], [True, True, True]]), kind)
    weight = parametrize(promise, torch.nn.Parameter(torch.from_numpy(values)))

    shown = weight()
    torch.autograd.backward(shown.sum())

    np.testing.assert_array_equal(to_floats(shown), promise.project(values))
    (parameter,) = weight.parameters()
    assert parameter.grad is not None
    np.testing.assert_array_equal(parameter.grad.numpy(), promise.kept)


def test_products_are_integer_when_int8_comes_after(tmp_path: Path) -> None:
    half = take(options(), bert(layers=1), tmp_path).model

    quantized = take(QuantizeInt8(), half, tmp_path).model

    assert "MatMulInteger" in {node.op_type for node in quantized.graph}
    assert "layer0.mlp.up.w" not in quantized.constraints


def test_refusal_names_the_cure_when_every_tensor_is_small(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="min_size"):
        take(options(min_size=10**6), cnn(), tmp_path)


def test_refusal_says_so_when_the_weights_are_in_half_precision(tmp_path: Path) -> None:
    model = wide()
    model.write("w", model.read("w").astype(np.float16))

    with pytest.raises(TechniqueNotApplicable, match="in float16, not float32"):
        take(options(), model, tmp_path, dataset=None)
