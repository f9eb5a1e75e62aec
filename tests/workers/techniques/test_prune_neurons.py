from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.prune_neurons import PruneNeurons
from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.share_weights import ShareWeights
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, bert, cnn, rows_for
from tests.workers.techniques.steps import take
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.costs import cost
from workers.compute.graph.dimensions import couple
from workers.compute.graph.model import Model

FFN = "layer0.mlp.up.w.1"


def units(model: Model) -> dict[str, int]:
    return {group.name: group.units for group in couple(model).groups}


def scaled(model: Model, name: str, axis: int, places: slice, factor: float) -> None:
    values = np.array(model.read(name))
    np.moveaxis(values, axis, 0)[places] *= np.float32(factor)
    model.write(name, values)


def unimportant(model: Model, importance: str) -> None:
    """Make the first half of the FFN's 48 neurons matter least by one measure, and most by no other."""
    half = slice(0, 24)
    alive = np.array(model.read("layer0.mlp.up.b"))
    alive[24:] = 3  # a rectifier that never opens matters to nothing
    model.write("layer0.mlp.up.b", alive)
    if importance == "magnitude":
        for name, axis in (("layer0.mlp.up.w", 1), ("layer0.mlp.up.b", 0), ("layer0.mlp.down.w", 0)):
            scaled(model, name, axis, half, 1e-3)
    elif importance == "activation_variance":
        scaled(model, "layer0.mlp.up.w", 1, half, 1e-4)
    else:
        for name, axis in (("layer0.mlp.up.w", 1), ("layer0.mlp.up.b", 0), ("layer0.mlp.down.w", 0)):
            scaled(model, name, axis, half, 1e-5)


@pytest.mark.parametrize("importance", ["magnitude", "activation_variance", "gradient_norm", "taylor"])
def test_units_that_matter_least_go_first(importance: str, tmp_path: Path) -> None:
    model = bert(layers=1)
    unimportant(model, importance)
    kept = model.read("layer0.mlp.up.w")[:, 24:]

    spec = PruneNeurons.model_validate({"importance": importance, "epochs": 0, "kinds": ["neurons"]})
    outcome = take(spec, model, tmp_path)

    np.testing.assert_array_equal(outcome.model.read("layer0.mlp.up.w"), kept)
    assert "removed 32 of 64 neurons in 2 groups" in outcome.notes


def test_heads_go_whole(tmp_path: Path) -> None:
    outcome = take(PruneNeurons(kinds=["heads"], epochs=0), bert(layers=2), tmp_path)

    assert units(outcome.model)["layer0.mlp.up.w.1"] == 48
    assert outcome.model.read("layer0.attention.q.w").shape == (16, 8)
    assert outcome.model.read("layer0.attention.out.w").shape == (8, 16)


def test_width_goes_only_when_asked_for(tmp_path: Path) -> None:
    narrow = take(PruneNeurons(kinds=["neurons"], width=True, epochs=0), bert(layers=1), tmp_path)
    same = take(PruneNeurons(kinds=["neurons"], epochs=0), bert(layers=1), tmp_path)

    assert narrow.model.read("words.w").shape[1] == 8
    assert same.model.read("words.w").shape[1] == 16


def test_one_ranking_takes_more_from_what_matters_less(tmp_path: Path) -> None:
    model = bert(layers=2)
    scaled(model, "layer0.mlp.down.w", 0, slice(None), 1e-4)
    for layer in range(2):
        model.write(f"layer{layer}.mlp.up.b", np.full(48, 3, np.float32))

    spec = PruneNeurons(kinds=["neurons"], scope="global", importance="taylor", ratio=0.4, epochs=0)
    left = units(take(spec, model, tmp_path).model)

    assert left["layer0.mlp.up.w.1"] == 5  # a tenth always stays
    assert left["layer1.mlp.up.w.1"] > 30


def test_rounds_end_at_the_same_share_and_train_in_each(tmp_path: Path) -> None:
    outcome = take(PruneNeurons(kinds=["neurons"], rounds=3, epochs=3), bert(layers=1), tmp_path)

    assert units(outcome.model)[FFN] == 24
    steps = [point.step for point in outcome.curve]
    assert steps == sorted(steps)
    assert sum(point.validation_loss is not None and point.loss is None for point in outcome.curve) == 3


def test_rest_is_a_multiple(tmp_path: Path) -> None:
    outcome = take(PruneNeurons(kinds=["neurons"], ratio=0.6, multiple_of=16, epochs=0), bert(layers=1), tmp_path)

    assert units(outcome.model)[FFN] == 32


def test_report_says_what_it_saved(tmp_path: Path) -> None:
    model = cnn()
    outcome = take(PruneNeurons(epochs=0), model, tmp_path)

    before, after = cost(model).parameters, cost(outcome.model).parameters
    assert any(note.startswith(f"parameters from {before:,} to {after:,}, multiply-acc") for note in outcome.notes)


def test_weights_decide_and_it_is_said_when_there_is_no_data(tmp_path: Path) -> None:
    outcome = take(PruneNeurons(), cnn(), tmp_path, dataset=None)

    assert any("no data" in note for note in outcome.notes)


def test_labels_are_not_needed(tmp_path: Path) -> None:
    model = bert(layers=1)
    unimportant(model, "taylor")
    rows = rows_for(model, 32)
    bare = type(rows)(rows.inputs, None)
    dataset = Dataset(bare, bare, bare, task="match", classes=())
    kept = model.read("layer0.mlp.up.w")[:, 24:]

    outcome = take(PruneNeurons(kinds=["neurons"], epochs=0), model, tmp_path, dataset=dataset)

    np.testing.assert_array_equal(outcome.model.read("layer0.mlp.up.w"), kept)


def test_promises_of_earlier_steps_are_kept(tmp_path: Path) -> None:
    shared = take(ShareWeights(clusters=8, min_size=16, epochs=0), bert(layers=1), tmp_path).model
    sparse = take(PruneWeights(sparsity=0.5, epochs=0), shared, tmp_path).model

    outcome = take(PruneNeurons(epochs=1), sparse, tmp_path)

    for name, constraint in outcome.model.constraints.items():
        assert constraint.holds(outcome.model.read_floats(name))
    assert outcome.model.constraints["layer0.mlp.up.w"].kind == sparse.constraints["layer0.mlp.up.w"].kind


def barred() -> Model:
    """Return a network whose hidden units run into an operator without a rule."""
    net = Network(13)
    x = net.given("image", Kind.FLOAT, ["rows", 4])
    x = net.add("up", "MatMul", x, net.weight("up.w", 4, 8))
    x = net.add("barrier", "Trilu", x)
    return net.model(net.add("down", "MatMul", x, net.weight("down.w", 8, 3)), ["rows", 3])


def test_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match=r"barrier \(Trilu\)"):
        take(PruneNeurons(), barred(), tmp_path, dataset=None)
