import itertools
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from app.contracts.report import CurvePoint
from app.contracts.steps.base import StepSpec
from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.share_weights import ShareWeights
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, bert, cnn
from tests.workers.techniques.steps import take
from tests.workers.techniques.test_training import unlabelled
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import zeros_of
from workers.compute.graph.model import Model
from workers.compute.graph.readers import matrices
from workers.compute.techniques import prune_weights
from workers.compute.techniques.base import Context

MOVING = PruneWeights(importance="movement", sparsity=0.7, epochs=4, batch_size=16, learning_rate=0.01)


def share_of_zeros(model: Model) -> float:
    weights = [model.read(name) for name in matrices(model)]
    return float(sum((values == 0).sum() for values in weights) / sum(values.size for values in weights))


def zeros(model: Model) -> dict[str, bytes]:
    return {name: (model.read(name) == 0).tobytes() for name in matrices(model)}


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


def test_ramp_is_climbed_and_trained_under_when_nothing_gets_better(tmp_path: Path) -> None:
    # At this rate no validation is better than the one before, so that patience would end each stair.
    spec = PruneWeights(sparsity=0.9, epochs=40, batch_size=16, learning_rate=1e-12, patience=1)

    outcome = take(spec, bert(layers=1), tmp_path)

    assert outcome.curve[-1].epoch > 0.6 * 40
    assert share_of_zeros(outcome.model) == pytest.approx(0.9, abs=0.002)


def test_all_goes_at_the_first_step_when_there_is_but_one(tmp_path: Path) -> None:
    outcome = take(PruneWeights(sparsity=0.6, epochs=1, batch_size=64), cnn(), tmp_path)

    assert share_of_zeros(outcome.model) == pytest.approx(0.6, abs=0.002)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_share_asked_for_is_zero_when_pruned_by_movement(scope: str, tmp_path: Path) -> None:
    outcome = take(MOVING.model_copy(update={"scope": scope}), bert(layers=1), tmp_path)

    assert share_of_zeros(outcome.model) == pytest.approx(0.7, abs=0.002)
    assert all(promise.holds(outcome.model.read_floats(name)) for name, promise in outcome.model.constraints.items())


def test_other_weights_go_when_pruned_by_movement(tmp_path: Path) -> None:
    moved, least = (
        take(MOVING.model_copy(update={"importance": how}), cnn(), tmp_path).model for how in ("movement", "magnitude")
    )

    assert zeros(moved) != zeros(least)


def test_large_weights_go_when_the_loss_wants_them_smaller(tmp_path: Path) -> None:
    """Labels and teacher follow the first two inputs; all that is behind the third is large noise."""
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 3])
    model = net.model(net.add("head", "MatMul", x, net.weight("w", 3, 2)), ["batch", 2])
    model.write("w", np.array([[0.5, -0.5], [-0.5, 0.5], [0, 0]], np.float32))
    teacher = model.clone()
    model.write("w", np.array([[0.5, -0.5], [-0.5, 0.5], [1.0, -1.0]], np.float32))
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(256, 3)).astype(np.float32) for _ in range(3)]
    splits = [Samples({"x": x}, np.where(x[:, 0] > x[:, 1], 0, 1)) for x in rows]
    rows = Dataset(*splits, task="classification")
    moving = MOVING.model_copy(update={"sparsity": 0.33})

    moved, least = (
        take(spec, model, tmp_path, original=teacher, dataset=rows).model.read("w")
        for spec in (moving, PruneWeights(sparsity=0.33, epochs=0))
    )

    assert not moved[2].any()
    assert least[2].all()


def test_same_bits_when_pruned_by_movement_twice(tmp_path: Path) -> None:
    one, two = (take(MOVING, cnn(), tmp_path).model for _ in range(2))

    assert all(one.read(name).tobytes() == two.read(name).tobytes() for name in one.weights())


@pytest.mark.parametrize("first", [PruneWeights(sparsity=0.3, epochs=0), Ternarize(min_size=2, epochs=0)])
def test_earlier_promises_hold_when_pruned_by_movement(first: StepSpec, tmp_path: Path) -> None:
    before = take(first, cnn(), tmp_path).model

    after = take(MOVING, before, tmp_path).model

    for name, promise in before.constraints.items():
        assert after.constraints[name].kind == promise.kind
        assert not after.read(name)[zeros_of(promise, before.read(name))].any()
    assert share_of_zeros(after) >= 0.7 - 0.002


def test_values_stay_shared_when_pruned_by_movement_after_sharing(tmp_path: Path) -> None:
    shared = take(ShareWeights(clusters=8, min_size=2, epochs=0), cnn(), tmp_path).model

    pruned = take(MOVING, shared, tmp_path).model

    assert share_of_zeros(pruned) == pytest.approx(0.7, abs=0.01)
    assert all(np.unique(pruned.read(name)).size <= 9 for name in matrices(pruned))


def test_pruning_by_movement_trains_when_the_next_step_would(tmp_path: Path) -> None:
    outcome = take(PruneWeights(importance="movement", batch_size=16), cnn(), tmp_path, next_trains=True)

    assert outcome.curve


@pytest.mark.parametrize("options", [{"epochs": 0}, {"schedule": "one_shot"}, {"pattern": "2:4"}, {"threshold": 0.1}])
def test_movement_is_refused_when_nothing_is_learned(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="set schedule to cubic"):
        PruneWeights.model_validate({"importance": "movement", **options})


def test_movement_is_refused_without_data(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="attach a dataset"):
        take(PruneWeights(importance="movement"), cnn(), tmp_path, dataset=None)


def test_movement_is_refused_when_there_is_one_step(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="smaller batch_size"):
        take(MOVING.model_copy(update={"epochs": 1, "batch_size": 64}), cnn(), tmp_path)


@pytest.mark.filterwarnings("ignore:overflow")
def test_ramp_is_finished_when_training_diverged(tmp_path: Path) -> None:
    spec = MOVING.model_copy(update={"importance": "magnitude", "learning_rate": 1e30, "epochs": 20})

    outcome = take(spec, cnn(), tmp_path)

    assert len(outcome.curve) < 4
    assert share_of_zeros(outcome.model) == pytest.approx(0.7, abs=0.002)


@pytest.mark.filterwarnings("ignore:overflow")
def test_movement_is_refused_when_training_diverged(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="smaller"):
        take(MOVING.model_copy(update={"learning_rate": 1e30, "epochs": 20}), cnn(), tmp_path)


def iterative(**changes: object) -> PruneWeights:
    return PruneWeights.model_validate({"schedule": "iterative", "sparsity": 0.7, "batch_size": 16, **changes})


@pytest.mark.parametrize("rewind", ["none", "learning_rate", "weights"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_share_asked_for_is_zero_when_pruned_in_rounds(scope: str, rewind: str, tmp_path: Path) -> None:
    outcome = take(iterative(scope=scope, rewind=rewind, epochs=3), bert(layers=1), tmp_path)

    assert share_of_zeros(outcome.model) == pytest.approx(0.7, abs=0.002)
    assert all(promise.holds(outcome.model.read_floats(name)) for name, promise in outcome.model.constraints.items())
    assert outcome.curve[-1].epoch == pytest.approx(3)
    assert all(one.step <= two.step for one, two in itertools.pairwise(outcome.curve))


def test_each_round_takes_the_same_share_of_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares, trained = [], prune_weights.retrain

    def noted(model: Model, spec: PruneWeights, context: Context) -> tuple[CurvePoint, ...]:
        shares.append(share_of_zeros(model))
        assert spec.epochs == pytest.approx(0.5)
        return trained(model, spec, context)

    before = take(PruneWeights(sparsity=0.2, epochs=0), cnn(), tmp_path).model
    monkeypatch.setattr(prune_weights, "retrain", noted)
    take(iterative(rounds=2, sparsity=0.8, epochs=1), before, tmp_path)

    assert shares == pytest.approx([1 - 0.8 * 0.5, 0.8], abs=0.01)


@pytest.mark.parametrize("rewind", ["learning_rate", "weights"])
def test_weights_are_put_back_when_that_is_asked_for(
    rewind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, trained, model = [], prune_weights.retrain, cnn()

    def noted(model: Model, spec: PruneWeights, context: Context) -> tuple[CurvePoint, ...]:
        begun.append({name: model.read(name).copy() for name in model.weights()})
        return trained(model, spec, context)

    teacher = model.clone()
    teacher.write("head.w", -teacher.read("head.w"))
    monkeypatch.setattr(prune_weights, "retrain", noted)
    spec = iterative(rewind=rewind, epochs=12, learning_rate=0.02)
    take(spec, model, tmp_path, original=teacher, dataset=unlabelled(model))

    last, at_once = begun[-1], take(PruneWeights(sparsity=0.7, epochs=0), model, tmp_path).model
    same = [np.array_equal(model.read(name)[last[name] != 0], last[name][last[name] != 0]) for name in last]
    assert all(same) if rewind == "weights" else not any(same)
    # The rounds before have learnt which weights stay.
    assert any(not np.array_equal(last[name] == 0, at_once.read(name) == 0) for name in matrices(model))


def test_progress_only_grows_when_pruned_in_rounds(tmp_path: Path) -> None:
    shares: list[float] = []

    take(iterative(epochs=3), cnn(), tmp_path, progress=lambda share, _point: shares.append(share))

    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"pattern": "2:4"}, {"threshold": 0.1}])
def test_rounds_are_refused_when_nothing_is_retrained(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="set schedule to one_shot"):
        iterative(**options)


def test_rounds_are_refused_without_data(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="attach a dataset"):
        take(iterative(), cnn(), tmp_path, dataset=None)
