from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.retrain import Retrain
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import answers, bert, cnn, dataset_for, dense, rows_for
from tests.workers.techniques.steps import take
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Signs
from workers.compute.graph.model import Model
from workers.compute.graph.targets import targets
from workers.compute.signing import constrain, finish, promises


def options(**changes: object) -> Ternarize:
    return Ternarize.model_validate(changes)


def taught(folder: Path) -> Model:
    """Return a CNN that knows its rows."""
    model = cnn()
    spec = Retrain(epochs=5, learning_rate=0.01, batch_size=16)
    return take(spec, model, folder, dataset=dataset_for(model, 256)).model


def accuracy(model: Model) -> float:
    rows = rows_for(model, 256, seed=9)
    return float((answers(model, rows).argmax(-1) == rows.labels).mean())


def promise(model: Model, name: str) -> Signs:
    found = model.constraints[name]
    assert isinstance(found, Signs)
    return found


@pytest.mark.parametrize("scale", ["mean", "learned"])
@pytest.mark.parametrize("gradual", [False, True])
@pytest.mark.parametrize("epochs", [0, 4])
def test_each_channel_has_three_values_when_ternary(scale: str, epochs: int, tmp_path: Path, *, gradual: bool) -> None:
    outcome = take(options(scale=scale, gradual=gradual, epochs=epochs, batch_size=16), cnn(), tmp_path)

    assert set(outcome.model.constraints) == {f"block{block}.{half}.w" for block in (0, 1) for half in "ab"}
    for name in outcome.model.constraints:
        for channel in outcome.model.read_floats(name):
            assert np.unique(np.abs(channel)).size == 2
            assert not np.signbit(channel[channel == 0]).any()
    assert "ternary" in outcome.notes[0]


def test_zeros_and_magnitudes_follow_the_paper_when_ternary(tmp_path: Path) -> None:
    model = bert(layers=1)

    ternary = take(options(epochs=0), model, tmp_path).model

    before, after = model.read_floats("layer0.mlp.up.w"), ternary.read_floats("layer0.mlp.up.w")
    sizes = np.abs(before)
    shown = sizes > 0.7 * sizes.mean(axis=0)  # (inputs, outputs) in the file
    expected = np.sign(before) * shown * (sizes * shown).sum(axis=0) / shown.sum(axis=0)
    np.testing.assert_allclose(after, expected, rtol=1e-3)


def test_each_row_has_its_own_magnitude_when_a_table_is_ternary(tmp_path: Path) -> None:
    table = take(options(epochs=0), bert(layers=1), tmp_path).model.read_floats("words.w")

    assert all(np.unique(np.abs(row[row != 0])).size == 1 for row in table)
    assert np.unique(np.abs(table[table != 0])).size > 100


def test_accuracy_recovers_when_retrained(tmp_path: Path) -> None:
    model = taught(tmp_path)

    plain, trained = (
        take(options(epochs=epochs, batch_size=16), model, tmp_path, dataset=dataset_for(model, 256)).model
        for epochs in (0, 5)
    )

    assert accuracy(model) > 0.95
    assert accuracy(plain) < 0.93
    assert accuracy(trained) > 0.95


def test_signs_change_when_retrained_straight_through(tmp_path: Path) -> None:
    plain, trained = (
        take(options(epochs=epochs, learning_rate=0.005), cnn(), tmp_path).model.read("block0.a.w") for epochs in (0, 6)
    )

    assert 0 < (np.sign(plain) != np.sign(trained)).mean() < 0.5


def test_magnitudes_leave_the_mean_when_learned(tmp_path: Path) -> None:
    model = take(options(scale="learned", epochs=4, learning_rate=0.01), cnn(), tmp_path).model

    found = promise(model, "block0.a.w")
    assert found.latent is not None
    mean = np.abs(Signs(0, found.kept, found.threshold).project(found.latent)).max(axis=(1, 2, 3))
    assert np.abs(np.abs(model.read_floats("block0.a.w")).max(axis=(1, 2, 3)) - mean).max() > 1e-3


def test_pruned_weights_stay_zero_when_ternary_and_retrained(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.8, epochs=0), cnn(), tmp_path).model

    ternary = take(options(epochs=3, learning_rate=0.01), pruned, tmp_path).model
    later = take(Retrain(epochs=2, learning_rate=0.01), ternary, tmp_path).model

    for model in (ternary, later):
        assert not model.read("block1.b.w")[pruned.read("block1.b.w") == 0].any()
        assert promise(model, "block1.b.w").holds(model.read_floats("block1.b.w"))


def test_channels_stay_ternary_when_pruned_later(tmp_path: Path) -> None:
    ternary = take(options(epochs=0), cnn(), tmp_path).model

    pruned = take(PruneWeights(sparsity=0.7, epochs=2), ternary, tmp_path).model

    assert all(np.unique(np.abs(channel)).size <= 2 for channel in pruned.read_floats("block0.a.w"))
    assert promise(pruned, "block0.a.w").kind == "ternary"


def test_training_goes_on_from_the_weights_behind_when_the_next_step_trains(tmp_path: Path) -> None:
    model = cnn()

    ternary = take(options(), model, tmp_path, next_trains=True).model

    behind = promise(ternary, "block0.a.w").behind(ternary.read_floats("block0.a.w"))
    assert np.array_equal(behind, model.read("block0.a.w"))


def test_weights_behind_move_on_when_a_later_step_trains(tmp_path: Path) -> None:
    ternary = take(options(epochs=0), cnn(), tmp_path).model

    later = take(Retrain(epochs=1, learning_rate=0.01), ternary, tmp_path).model

    before, after = promise(ternary, "block0.a.w").latent, promise(later, "block0.a.w").latent
    assert before is not None
    assert after is not None
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(promise(later, "block0.a.w").project(after), later.read("block0.a.w"))


def test_first_and_last_and_tables_stay_when_asked(tmp_path: Path) -> None:
    kept = {"keep_first_last": True, "embeddings": False, "min_size": 2, "epochs": 0}

    text, image = (take(options(**kept), model, tmp_path).model for model in (bert(layers=1), cnn()))

    assert {"words.w", "layer0.q.w", "head.w"}.isdisjoint(text.constraints)
    assert {"layer0.attention.q.w", "layer0.attention.k.w"} & set(text.constraints)
    assert set(image.constraints) == {f"block{block}.{half}.w" for block in (0, 1) for half in "ab"}


def test_every_tensor_is_ternary_when_training_ended_before_the_last_stair() -> None:
    model = cnn()
    given = promises(model, targets(model, options()), 0.7, learned=False)
    constrain(model, {"block0.a.w": given["block0.a.w"]})
    trained = model.read("block0.a.w")

    finish(model, given)

    assert model.constraints.keys() == given.keys()
    assert all(each.holds(model.read_floats(name)) for name, each in model.constraints.items())
    assert model.read("block0.a.w") is trained


def test_file_has_little_more_than_its_digits_when_packed(tmp_path: Path) -> None:
    model = take(options(epochs=0), dense(256, 512), tmp_path, dataset=None).model

    (report,) = pack(model).tensors
    assert report.encoding == "row_scales"
    assert report.bits_per_weight < 1.75


def test_refusal_names_the_cure_when_every_tensor_is_small(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="min_size"):
        take(options(min_size=10**6), cnn(), tmp_path)


def test_all_tensors_are_trained_when_gradual_and_nothing_gets_better(tmp_path: Path) -> None:
    spec = options(gradual=True, min_size=2, epochs=40, batch_size=16, learning_rate=1e-12, patience=1)

    outcome = take(spec, cnn(), tmp_path)

    assert outcome.curve[-1].epoch > 0.6 * 40
