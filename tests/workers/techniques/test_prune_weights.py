from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.share_weights import ShareWeights
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, bert, cnn
from tests.workers.techniques.steps import take
from workers.compute.encodings.packer import pack
from workers.compute.graph.model import Model
from workers.compute.graph.readers import matrices


def share_of_zeros(model: Model) -> float:
    weights = [model.read(name) for name in matrices(model)]
    return float(sum((values == 0).sum() for values in weights) / sum(values.size for values in weights))


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
@pytest.mark.parametrize("epochs", [0, 4])
def test_share_asked_for_is_zero_when_pruned(scope: str, schedule: str, epochs: int, tmp_path: Path) -> None:
    options = {"sparsity": 0.7, "scope": scope, "schedule": schedule, "epochs": epochs, "batch_size": 16}

    outcome = take(PruneWeights.model_validate(options), bert(layers=1), tmp_path)

    assert share_of_zeros(outcome.model) == pytest.approx(0.7, abs=0.002)
    assert all(promise.holds(outcome.model.read_floats(name)) for name, promise in outcome.model.constraints.items())


def test_biases_and_norms_stay_whole_when_pruned(tmp_path: Path) -> None:
    outcome = take(PruneWeights(sparsity=0.9, epochs=0), bert(layers=1), tmp_path)

    assert not any(name.endswith((".b", ".gamma", ".beta")) for name in outcome.model.constraints)
    assert "words.w" in outcome.model.constraints


def test_small_weights_go_when_a_threshold_is_given(tmp_path: Path) -> None:
    model = cnn()

    outcome = take(PruneWeights(threshold=0.1, epochs=0), model, tmp_path)

    for name in matrices(model):
        before, after = model.read(name), outcome.model.read(name)
        np.testing.assert_array_equal(after, np.where(np.abs(before) < 0.1, 0, before))


def test_note_says_so_when_no_weight_is_that_small(tmp_path: Path) -> None:
    outcome = take(PruneWeights(threshold=1e-9, epochs=0), cnn(), tmp_path)

    assert any("nothing changed" in note for note in outcome.notes)


def test_pattern_holds_along_the_input_when_given(tmp_path: Path) -> None:
    outcome = take(PruneWeights(pattern="2:4", epochs=1), bert(layers=1), tmp_path)

    columns = outcome.model.read("layer0.mlp.down.w").T  # (inputs, outputs) in the file
    assert ((columns.reshape(-1, 4) != 0).sum(axis=1) == 2).all()
    assert np.count_nonzero(outcome.model.read("words.w")) == outcome.model.read("words.w").size


def test_pattern_follows_the_channels_when_convolved(tmp_path: Path) -> None:
    outcome = take(PruneWeights(pattern="1:4", epochs=0), cnn(), tmp_path)

    kernels = np.moveaxis(outcome.model.read("block0.a.w"), 1, -1)
    assert ((kernels.reshape(-1, 4) != 0).sum(axis=1) == 1).all()


def test_zeros_of_two_steps_add_up_when_pruned_twice(tmp_path: Path) -> None:
    first = take(PruneWeights(sparsity=0.3, epochs=0), cnn(), tmp_path).model
    second = take(PruneWeights(sparsity=0.6, epochs=1), first, tmp_path).model

    for name in matrices(first):
        assert not second.read(name)[first.read(name) == 0].any()
    assert share_of_zeros(second) == pytest.approx(0.6, abs=0.01)


def test_values_stay_shared_when_pruned_after_sharing(tmp_path: Path) -> None:
    shared = take(ShareWeights(clusters=8, min_size=2, epochs=0), cnn(), tmp_path).model

    pruned = take(PruneWeights(sparsity=0.5, epochs=1), shared, tmp_path).model

    assert {promise.kind for promise in pruned.constraints.values()} == {"shared"}
    assert share_of_zeros(pruned) >= 0.5 - 0.002
    assert all(np.unique(pruned.read(name)).size <= 9 for name in matrices(pruned))


def test_file_is_smaller_when_packed_after_pruning(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.9, epochs=0), cnn(), tmp_path).model

    reports = {report.name: report for report in pack(pruned).tensors}

    assert reports["block0.a.w"].encoding == "sparse"
    assert reports["block0.a.w"].packed_bytes < reports["block0.a.w"].dense_bytes / 3


def test_refusal_when_there_is_no_matrix(tmp_path: Path) -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 3])
    model = net.model(net.add("scale", "Mul", x, net.weight("w", 3)), ["batch", 3])

    with pytest.raises(TechniqueNotApplicable, match="no matrix"):
        take(PruneWeights(), model, tmp_path, dataset=None)
