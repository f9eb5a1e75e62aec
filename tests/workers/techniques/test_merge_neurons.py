from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.merge_neurons import MergeNeurons
from app.contracts.steps.share_weights import ShareWeights
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, answers, bert, cnn, rows_for
from tests.workers.techniques.steps import take
from workers.compute.graph.dimensions import couple
from workers.compute.graph.model import Model


def doubled(model: Model) -> Model:
    """Let every neuron of a second half be a copy of one in the first half, with its own outgoing weights."""
    model.write("layer0.mlp.up.b", np.linspace(3, 4, 48, dtype=np.float32))  # no rectifier is shut
    for name, axis in (("layer0.mlp.up.w", 1), ("layer0.mlp.up.b", 0), ("pool.w", 1), ("pool.b", 0)):
        values = np.array(model.read(name))
        rows = np.moveaxis(values, axis, 0)
        rows[len(rows) // 2 :] = rows[: len(rows) // 2]
        model.write(name, values)
    return model


@pytest.mark.parametrize("similarity", ["activations", "weights"])
@pytest.mark.parametrize("clustering", ["agglomerative", "kmeans"])
def test_copies_merge_without_any_loss(similarity: str, clustering: str, tmp_path: Path) -> None:
    model = doubled(bert(layers=1))
    options = {"similarity": similarity, "clustering": clustering, "kinds": ["neurons"], "epochs": 0}
    rows = rows_for(model, 8)

    outcome = take(MergeNeurons.model_validate(options), model, tmp_path)

    assert outcome.model.read("layer0.mlp.up.w").shape == (16, 24)
    np.testing.assert_allclose(answers(outcome.model, rows), answers(model, rows), atol=1e-4)
    assert "merged 64 neurons in 2 groups into 32" in outcome.notes


def test_channels_merge_through_normalization_and_residuals(tmp_path: Path) -> None:
    outcome = take(MergeNeurons(ratio=0.25, epochs=0), cnn(), tmp_path)

    assert [group.units for group in couple(outcome.model).groups] == [12, 12, 12]
    assert np.isfinite(answers(outcome.model, rows_for(outcome.model, 2))).all()


def test_codebooks_of_earlier_steps_are_kept(tmp_path: Path) -> None:
    shared = take(ShareWeights(clusters=4, min_size=16, epochs=0), bert(layers=1), tmp_path).model

    outcome = take(MergeNeurons(epochs=1), shared, tmp_path)

    for name, constraint in outcome.model.constraints.items():
        assert constraint.holds(outcome.model.read_floats(name))


def test_weights_decide_and_it_is_said_when_there_is_no_data(tmp_path: Path) -> None:
    outcome = take(MergeNeurons(), cnn(), tmp_path, dataset=None)

    assert any("no data" in note for note in outcome.notes)


def test_refusal_names_the_cure(tmp_path: Path) -> None:
    net = Network(13)
    x = net.add("head", "MatMul", net.given("image", Kind.FLOAT, ["rows", 4]), net.weight("w", 4, 3))
    with pytest.raises(TechniqueNotApplicable, match="prune_weights"):
        take(MergeNeurons(), net.model(x, ["rows", 3]), tmp_path, dataset=None)
