from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from pydantic import ValidationError

from app.contracts.recipe import Recipe
from app.contracts.steps.factorize import Factorize
from app.contracts.steps.prune_weights import PruneWeights
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Network, answers, bert, dataset_for, rows_for
from tests.workers.techniques.steps import take
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import Model
from workers.compute.techniques.factorize import factors

RANDOM = np.random.default_rng(3)


def low_rank(rows: int, columns: int, rank: int) -> np.ndarray:
    product = RANDOM.normal(size=(rows, rank)) @ RANDOM.normal(size=(rank, columns))
    return (product / np.sqrt(rows * rank)).astype(np.float32)


def pointwise(opset: int = 12) -> Model:
    """A 1×1 convolution with stride and bias, a Gemm with a transposed weight, a matrix from the left: rank 3 each."""
    net = Network(opset)
    x = net.given("image", ir.DataType.FLOAT, ["batch", 1, 8, 8])
    x = net.add("stem", "Conv", x, net.weight("stem.w", 24, 1, 3, 3), kernel_shape=[3, 3])
    kernel = net.constant("point.w", low_rank(32, 24, 3).reshape(32, 24, 1, 1))
    bias = net.weight("point.b", 32)
    x = net.add("point", "Conv", x, kernel, bias, kernel_shape=[1, 1], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.add("pool", "GlobalAveragePool", net.add("relu", "Relu", x))
    x = net.add("flat", "Flatten", x)
    x = net.add("gemm", "Gemm", x, net.constant("gemm.w", low_rank(40, 32, 3)), net.weight("gemm.b", 40), transB=1)
    x = net.add("turn", "Transpose", x, perm=[1, 0])
    x = net.add("left", "MatMul", net.constant("left.w", low_rank(30, 40, 3)), x)
    x = net.add("back", "Transpose", x, perm=[1, 0])
    return net.model(net.add("head", "MatMul", x, net.weight("head.w", 30, 3)), ["batch", 3])


def uneven() -> Model:
    """A matrix of full rank of whose 64 inputs four are active."""
    net = Network(12)
    x = net.add("flat", "Flatten", net.given("image", ir.DataType.FLOAT, ["batch", 1, 8, 8]))
    strength = np.where(np.arange(64) % 16 == 0, 1.0, 0.001).astype(np.float32)
    x = net.add("dimmed", "Mul", x, net.constant("strength", strength))
    x = net.add("wide", "MatMul", x, net.weight("wide.w", 64, 48))
    return net.model(net.add("head", "MatMul", x, net.weight("head.w", 48, 3)), ["batch", 3])


@pytest.mark.parametrize("opset", [9, 12, 21])
@pytest.mark.parametrize("data_aware", [True, False])
def test_answers_stay_when_matrices_have_low_rank(data_aware: bool, opset: int, tmp_path: Path) -> None:
    model = pointwise(opset)
    rows = rows_for(model, 8)
    spec = Factorize(energy=0.999999, epochs=0, min_size=700, data_aware=data_aware)

    outcome = take(spec, model, tmp_path)

    assert outcome.notes == ("3 matrices were split, into ranks of 3 to 3",)
    assert outcome.model.read("point.w.first").shape == (3, 24, 1, 1)
    assert outcome.model.read("gemm.w.second").shape == (40, 3)
    assert outcome.model.read("left.w.first").shape == (3, 40)
    assert not {"point.w", "gemm.w", "left.w"} & set(outcome.model.graph.initializers)
    np.testing.assert_allclose(answers(outcome.model, rows), answers(model, rows), atol=2e-5)


def test_fewer_weights_are_left_when_the_rank_is_given(tmp_path: Path) -> None:
    model = bert(layers=2)

    outcome = take(Factorize(rank=0.25, min_size=512, epochs=1), model, tmp_path)

    assert sum(outcome.model.read(name).size for name in outcome.model.weights()) < sum(
        model.read(name).size for name in model.weights()
    )
    assert outcome.model.read("layer0.mlp.up.w.first").shape == (16, 4)
    assert outcome.curve


def test_active_inputs_are_kept_when_data_tells_them() -> None:
    matrix = RANDOM.normal(size=(20, 30))
    importance = np.where(np.arange(20) < 5, 100.0, 1.0)

    first, second = factors(matrix, importance, Factorize(rank=0.3))

    error = np.linalg.norm(first @ second - matrix, axis=1)
    plain = np.linalg.norm(np.subtract(np.matmul(*factors(matrix, None, Factorize(rank=0.3))), matrix), axis=1)
    assert error[:5].max() < 0.1 * plain[:5].min()


def test_answers_are_nearer_when_data_tells_what_matters(tmp_path: Path) -> None:
    model = uneven()
    data = dataset_for(model)
    errors = {}
    for aware in (True, False):
        spec = Factorize(rank=0.3, min_size=512, epochs=0, data_aware=aware)
        changed = take(spec, model, tmp_path, dataset=data).model
        rows: Samples = data.validation
        errors[aware] = float(np.square(answers(changed, rows) - answers(model, rows)).mean())

    assert errors[True] < 0.2 * errors[False]


@pytest.mark.parametrize("data_aware", [True, False])
def test_rows_are_looked_up_short_when_a_table_is_split(data_aware: bool, tmp_path: Path) -> None:
    model = bert()
    table = low_rank(*model.read("words.w").shape, rank=3)
    model.write("words.w", table)
    spec = Factorize(kinds=["embeddings"], energy=0.999999, epochs=0, min_size=100, data_aware=data_aware)
    rows = rows_for(model, 8)

    outcome = take(spec, model, tmp_path)

    weights = {name: value.shape for name, value in outcome.model.weights().items() if name.startswith("words.w")}
    assert {name: tuple(shape) for name, shape in weights.items()} == {
        "words.w.first": (len(table), 3),
        "words.w.second": (3, table.shape[1]),
    }
    np.testing.assert_allclose(answers(outcome.model, rows), answers(model, rows), rtol=1e-4, atol=1e-4)


def test_frequent_ids_keep_their_rows_best(tmp_path: Path) -> None:
    model = bert()
    data = dataset_for(model)
    counts = np.bincount(data.train.inputs["input_ids"].reshape(-1), minlength=len(model.read("words.w")))
    assert counts.min() == 0
    spec = Factorize(kinds=["embeddings"], rank=0.5, epochs=0, min_size=100)

    small = take(spec, model, tmp_path, dataset=data).model

    kept = small.read("words.w.first") @ small.read("words.w.second")
    errors = np.square(kept - model.read("words.w")).sum(axis=1)
    assert errors[counts > 0].mean() < errors[counts == 0].mean()


def test_matrix_stays_whole_and_is_named_when_splitting_does_not_pay(tmp_path: Path) -> None:
    model = bert(layers=1)

    outcome = take(Factorize(energy=0.999, min_size=512), model, tmp_path)

    assert outcome.notes[0].startswith("left whole, since two factors would be larger")
    assert "layer0.mlp.up.w" in outcome.notes[0]
    assert outcome.curve == ()


def test_factorize_refuses_when_earlier_steps_promised_all_values(tmp_path: Path) -> None:
    pruned = take(PruneWeights(epochs=0), bert(layers=1), tmp_path).model

    with pytest.raises(TechniqueNotApplicable, match="put factorize first"):
        take(Factorize(min_size=512), pruned, tmp_path)


def test_nothing_is_split_when_no_matrix_is_large_enough(tmp_path: Path) -> None:
    outcome = take(Factorize(min_size=100_000), bert(layers=1), tmp_path)

    assert "lower min_size" in outcome.notes[0]
    assert outcome.curve == ()


@pytest.mark.parametrize("earlier", ["prune_weights", "share_weights", "ternarize", "quantize_int4"])
def test_order_is_refused_at_submit_when_values_are_promised_already(earlier: str) -> None:
    with pytest.raises(ValidationError, match="put factorize before it"):
        Recipe.model_validate({"steps": [{"technique": earlier}, {"technique": "factorize"}]})

    assert len(Recipe.model_validate({"steps": [{"technique": "factorize"}, {"technique": earlier}]}).steps) == 2
