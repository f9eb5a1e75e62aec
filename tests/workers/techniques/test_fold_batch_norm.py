from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from app.contracts.steps.binarize import Binarize
from app.contracts.steps.fold_batch_norm import FoldBatchNorm
from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.retrain import Retrain
from app.contracts.steps.share_weights import ShareWeights
from app.contracts.steps.ternarize import Ternarize
from tests.workers.graph.networks import Network, answers, cnn, rows_for
from tests.workers.techniques.steps import take
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model

BLOCKS = 2


def shaken() -> Model:
    """Return the residual network with statistics that no training left at 0 and 1; one factor is negative."""
    model, random = cnn(BLOCKS), np.random.default_rng(2)
    for name in model.weights():
        values = model.read(name)
        if name.endswith((".mean", ".shift")):
            model.write(name, random.normal(size=values.shape).astype(np.float32))
        elif name.endswith((".var", ".scale")):
            model.write(name, random.uniform(0.3, 2, values.shape).astype(np.float32))
    scale = model.read("block0.a.scale").copy()
    scale[3] *= -1
    model.write("block0.a.scale", scale)
    return model


def norms(model: Model) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph)


def test_answers_stay_when_normalizations_are_folded(tmp_path: Path) -> None:
    model = shaken()
    rows = rows_for(model, 8)

    outcome = take(FoldBatchNorm(), model, tmp_path)

    assert norms(outcome.model) == 0 < norms(model)
    np.testing.assert_allclose(answers(outcome.model, rows), answers(model, rows), rtol=1e-4, atol=1e-4)
    assert [value.name for value in outcome.model.graph.outputs] == ["logits"]


@pytest.mark.parametrize(
    "spec", [Ternarize(epochs=0, min_size=32), Binarize(epochs=0, min_size=32), PruneWeights(epochs=0)]
)
def test_promises_outlive_a_factor_per_channel(spec: Ternarize | Binarize | PruneWeights, tmp_path: Path) -> None:
    model = take(spec, shaken(), tmp_path).model

    folded = take(FoldBatchNorm(), model, tmp_path).model

    assert norms(folded) == 0
    assert folded.constraints.keys() == model.constraints.keys()
    assert all(constraint.holds(folded.read(name)) for name, constraint in folded.constraints.items())
    trained = take(Retrain(epochs=1), folded, tmp_path).model
    assert all(constraint.holds(trained.read(name)) for name, constraint in trained.constraints.items())


def test_a_codebook_for_the_whole_tensor_stays_whole(tmp_path: Path) -> None:
    model = take(ShareWeights(epochs=0, clusters=8, min_size=1000), shaken(), tmp_path).model

    outcome = take(FoldBatchNorm(), model, tmp_path)

    shared = [name for name, constraint in model.constraints.items() if constraint.kind == "shared"]
    assert norms(outcome.model) == len(shared) > 0
    assert f"{len(shared)} stay" in outcome.notes[1]


def test_a_dead_channel_keeps_its_normalization_where_weights_are_binary(tmp_path: Path) -> None:
    model = shaken()
    model.write("block0.a.scale", np.zeros_like(model.read("block0.a.scale")))
    model = take(Binarize(epochs=0, min_size=32), model, tmp_path).model

    assert norms(take(FoldBatchNorm(), model, tmp_path).model) == 1


@pytest.mark.parametrize("turned", [True, False])
def test_a_gemm_takes_its_normalization_in(turned: bool, tmp_path: Path) -> None:
    net = Network(13)
    x = net.given("x", ir.DataType.FLOAT, ["batch", 6])
    weight = net.weight("w", *((4, 6) if turned else (6, 4)))
    x = net.add("dense", "Gemm", x, weight, net.weight("b", 4), transB=int(turned))
    statistics = [net.constant(name, np.linspace(0.5, 2, 4, dtype=np.float32)) for name in ("g", "s", "m", "v")]
    model = net.model(net.add("norm", "BatchNormalization", x, *statistics, epsilon=1e-3), ["batch", 4])
    rows = Samples({"x": np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)}, None)

    folded = take(FoldBatchNorm(), model, tmp_path, dataset=None).model

    assert [node.op_type for node in folded.graph] == ["Gemm"]
    np.testing.assert_allclose(answers(folded, rows), answers(model, rows), rtol=1e-5, atol=1e-5)


def test_what_others_read_too_is_left_alone(tmp_path: Path) -> None:
    net = Network(13)
    x = net.given("image", ir.DataType.FLOAT, ["batch", 3, 5, 5])
    y = net.add("conv", "Conv", x, net.weight("w", 3, 3, 1, 1), kernel_shape=[1, 1])
    statistics = [net.constant(name, np.ones(3, np.float32)) for name in ("g", "s", "m", "v")]
    model = net.model(
        net.add("add", "Add", net.add("norm", "BatchNormalization", y, *statistics), y), ["batch", 3, 5, 5]
    )

    outcome = take(FoldBatchNorm(), model, tmp_path, dataset=None)

    assert norms(outcome.model) == 1
    assert "nothing changed" in outcome.notes[0]
