from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.binarize import Binarize
from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.retrain import Retrain
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import answers, bert, cnn, dataset_for, dense, rows_for
from tests.workers.techniques.steps import take
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Signs
from workers.compute.graph.model import Model


def options(**changes: object) -> Binarize:
    return Binarize.model_validate(changes)


def accuracy(model: Model) -> float:
    rows = rows_for(model, 256, seed=9)
    return float((answers(model, rows).argmax(-1) == rows.labels).mean())


@pytest.mark.parametrize("two_step", [False, True])
@pytest.mark.parametrize("epochs", [0, 4])
def test_each_channel_has_two_values_when_binary(epochs: int, tmp_path: Path, *, two_step: bool) -> None:
    outcome = take(options(two_step=two_step, epochs=epochs, batch_size=16), cnn(), tmp_path)

    assert {promise.kind for promise in outcome.model.constraints.values()} == {"binary"}
    for name in outcome.model.constraints:
        assert all(np.unique(np.abs(channel)).size == 1 for channel in outcome.model.read_floats(name))
    assert len(outcome.notes) == 1


def test_magnitude_is_the_mean_when_binary(tmp_path: Path) -> None:
    model = bert(layers=1)

    binary = take(options(epochs=0), model, tmp_path).model

    before, after = model.read_floats("words.w"), binary.read_floats("words.w")
    np.testing.assert_allclose(after, np.sign(before) * np.abs(before).mean(axis=1, keepdims=True), rtol=1e-3)


def test_curve_is_one_when_trained_in_two_steps(tmp_path: Path) -> None:
    told: list[float] = []

    outcome = take(
        options(epochs=4, batch_size=16, patience=99),
        cnn(),
        tmp_path,
        progress=lambda share, _point: told.append(share),
    )

    steps = [point.step for point in outcome.curve]
    assert steps == sorted(steps)
    assert steps[-1] == 16
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("two_step", [False, True])
def test_accuracy_recovers_when_retrained(tmp_path: Path, *, two_step: bool) -> None:
    start = cnn()
    rows = dataset_for(start, 256)
    model = take(Retrain(epochs=5, learning_rate=0.01, batch_size=16), start, tmp_path, dataset=rows).model

    plain, trained = (
        take(options(two_step=two_step, epochs=epochs, batch_size=16), model, tmp_path, dataset=rows).model
        for epochs in (0, 6)
    )

    assert accuracy(model) > 0.95
    assert accuracy(plain) < 0.8
    assert accuracy(trained) > 0.93


def test_pruned_weights_stay_zero_when_binary_and_retrained(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.8, epochs=0), cnn(), tmp_path).model

    outcome = take(options(epochs=3, learning_rate=0.01), pruned, tmp_path)
    later = take(Retrain(epochs=2, learning_rate=0.01), outcome.model, tmp_path).model

    for model in (outcome.model, later):
        zeros = pruned.read("block1.b.w") == 0
        np.testing.assert_array_equal(model.read("block1.b.w") == 0, zeros)
        assert model.constraints["block1.b.w"].holds(model.read_floats("block1.b.w"))
    assert any("a third value" in note for note in outcome.notes)


def test_signs_come_from_the_weights_behind_when_they_were_ternary(tmp_path: Path) -> None:
    model = cnn()
    ternary = take(Ternarize(epochs=0), model, tmp_path).model

    binary = take(options(epochs=0), ternary, tmp_path).model

    promise = binary.constraints["block0.a.w"]
    assert isinstance(promise, Signs)
    np.testing.assert_array_equal(np.sign(binary.read("block0.a.w")), np.sign(model.read("block0.a.w")))


def test_file_has_little_more_than_its_digits_when_packed(tmp_path: Path) -> None:
    model = take(options(epochs=0), dense(256, 512), tmp_path, dataset=None).model

    (report,) = pack(model).tensors
    assert report.encoding == "row_scales"
    assert report.bits_per_weight < 1.15


def test_refusal_names_the_cure_when_every_tensor_is_small(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="min_size"):
        take(options(min_size=10**6), cnn(), tmp_path)
