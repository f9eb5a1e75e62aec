import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.contracts.report import CurvePoint
from app.errors import DatasetMismatch, TechniqueNotApplicable
from tests.workers.autograd import graphs
from workers.compute.autograd import teaching
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.training import Fit, fit, predict
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph.constraints import Codebook, Mask
from workers.compute.graph.model import Model

QUICK = Fit(epochs=4, learning_rate=1e-2, batch_size=16, patience=None, threads=1)


def silent(_share: float, _point: CurvePoint | None) -> None:
    """Hear nothing."""


def pictures(rows: int, seed: int, *, labelled: bool = True) -> Samples:
    """Return noise whose class is its contrast."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    images = rng.normal(size=(rows, 1, 16, 16)).astype(np.float32)
    images *= 2.0 ** labels[:, None, None, None].astype(np.float32)
    return Samples({"image": images}, labels if labelled else None)


def picture_set(**kind: bool) -> Dataset:
    task = "classification" if kind.get("labelled", True) else "match"
    return Dataset(pictures(96, 0, **kind), pictures(48, 1, **kind), pictures(48, 2, **kind), task)


def texts(rows: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    mask = (np.arange(12) < rng.integers(3, 10, (rows, 1))).astype(np.int64)
    ids = rng.integers(1, 50, (rows, 12)) * mask
    return Samples({"input_ids": ids, "attention_mask": mask}, (ids[:, 0] % 3).astype(np.int64))


def cnn(seed: int = 0) -> Model:
    return graphs.model(graphs.cnn(seed=seed))


def weights(model: Model) -> dict[str, bytes]:
    return {name: model.read(name).tobytes() for name in model.weights()}


def test_fit_learns_and_keeps_the_best_state() -> None:
    model = cnn()
    curve = fit(model, picture_set(), QUICK, progress=silent)
    scores = [point.validation_score for point in curve if point.validation_score is not None]
    rows = pictures(48, 1)
    accuracy = float((predict(model, rows, threads=1)["scores"].argmax(1) == rows.labels).mean())
    assert max(scores) > scores[0] + 0.2
    assert accuracy >= max(scores) - 0.05  # one standard error on 48 rows


def test_last_state_is_not_kept_when_an_earlier_one_was_better() -> None:
    model = cnn()

    def spoil(step: int, total: int, executor: Executor) -> bool:
        if step == total - 1:
            with torch.no_grad():
                next(executor.trained["conv2.weight"].parameters()).mul_(100)
        return False

    fit(model, picture_set(), QUICK, progress=silent, on_step=spoil)
    assert np.abs(model.read("conv2.weight")).max() < 5


def test_fit_twice_gives_the_same_bits() -> None:
    found = []
    for _ in range(2):
        model = graphs.model(graphs.encoder(13))
        fit(model, Dataset(texts(48, 0), texts(24, 1), texts(8, 2), "classification"), QUICK, progress=silent)
        found.append(weights(model))
    assert found[0] == found[1]


def test_another_seed_gives_other_bits() -> None:
    found = []
    for seed in (0, 1):
        model = cnn()
        fit(model, picture_set(), replace(QUICK, seed=seed), progress=silent)
        found.append(weights(model))
    assert found[0] != found[1]


def test_constraints_hold_after_training() -> None:
    model, rng = cnn(), np.random.default_rng(0)
    model.constraints["conv2.weight"] = Mask(rng.random((8, 8, 3, 3)) > 0.5)
    model.constraints["head.weight"] = Codebook(rng.integers(0, 5, (4, 8)).astype(np.uint8), 5, zero=2)
    for name, constraint in model.constraints.items():
        model.write(name, constraint.project(model.read(name)))
    before = weights(model)
    fit(model, picture_set(), QUICK, progress=silent)
    assert all(constraint.holds(model.read(name)) for name, constraint in model.constraints.items())
    assert all(before[name] != after for name, after in weights(model).items())


def test_distillation_without_labels_lowers_the_divergence() -> None:
    teacher = cnn()
    fit(teacher, picture_set(), QUICK, progress=silent)
    student = cnn(seed=7)
    curve = fit(student, picture_set(labelled=False), QUICK, teacher=teacher, progress=silent)
    losses = [point.validation_loss for point in curve if point.validation_loss is not None]
    assert min(losses) < 0.7 * losses[0]


def test_rows_unlike_the_original_ones_are_learnt_through_the_running_statistics() -> None:
    teacher = cnn()
    fit(teacher, picture_set(), QUICK, progress=silent)
    student = teacher.clone()
    student.write("head.weight", student.read("head.weight") * np.float32(0.7))
    shifted = [Samples({"image": pictures(96, seed).inputs["image"] * 8 + 3}) for seed in range(3)]

    curve = fit(student, Dataset(*shifted, "match"), replace(QUICK, learning_rate=1e-3), teacher=teacher)

    losses = [point.validation_loss or 0 for point in curve if point.validation_loss is not None]
    assert losses[-1] < losses[0] / 2
    before, after = weights(teacher), weights(student)
    assert all(before[name] == after[name] for name in before if name.endswith((".mean", ".var")))


def test_stale_running_statistics_are_learnt_anew() -> None:
    teacher = cnn()
    fit(teacher, picture_set(), QUICK, progress=silent)
    student = teacher.clone()
    for name in [name for name in weights(student) if name.endswith((".mean", ".var"))]:
        student.write(name, student.read(name) * 25 + 3)

    curve = fit(student, picture_set(), replace(QUICK, learning_rate=1e-5, epochs=8), teacher=teacher)

    assert (curve[0].validation_score or 1) < 0.5
    assert (curve[-1].validation_score or 0) > 0.9


def test_teacher_that_does_not_fit_into_memory_teaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (teaching.CACHE_BYTES, 0):
        monkeypatch.setattr(teaching, "CACHE_BYTES", limit)
        student = cnn(seed=7)
        fit(student, picture_set(labelled=False), replace(QUICK, epochs=1), teacher=cnn(), progress=silent)
        found.append(student.read("head.weight"))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_masks_that_grow_during_training_hold_at_the_end() -> None:
    model = cnn()

    def prune(step: int, total: int, executor: Executor) -> bool:
        if step in {1, total // 2}:
            value = executor.trained["conv2.weight"]().detach().abs().numpy()
            limit = np.quantile(value, 0.4 * (1 + (step > 1)))
            executor.set_constraint("conv2.weight", Mask(value > limit))
        return step < total // 2

    fit(model, picture_set(), QUICK, progress=silent, on_step=prune)
    assert model.constraints["conv2.weight"].holds(model.read("conv2.weight"))
    assert (model.read("conv2.weight") == 0).mean() == pytest.approx(0.8, abs=0.01)


def test_sharing_in_mid_training_holds_at_the_end() -> None:
    model = cnn()
    constraint = Codebook((np.arange(32) % 4).reshape(4, 8).astype(np.uint8), 4)

    def share(step: int, _total: int, executor: Executor) -> bool:
        if step == 2:
            executor.set_constraint("head.weight", constraint)
        return step < 2

    fit(model, picture_set(), QUICK, progress=silent, on_step=share)
    assert constraint.holds(model.read("head.weight"))


@pytest.mark.filterwarnings("ignore:overflow")
def test_divergence_goes_back_to_the_start() -> None:
    model = cnn()
    before = weights(model)
    fit(model, picture_set(), replace(QUICK, learning_rate=1e30, warmup=0.0), progress=silent)
    assert all(np.isfinite(model.read(name)).all() for name in model.weights())
    assert set(before) == set(weights(model))


def test_divergence_without_a_state_to_go_back_to_names_the_learning_rate() -> None:
    rows = picture_set()
    empty = rows.validation.take(slice(0, 0))
    with pytest.raises(TechniqueNotApplicable, match=r"1e\+30"):
        fit(cnn(), replace(rows, validation=empty), replace(QUICK, learning_rate=1e30, warmup=0.0), progress=silent)


def test_training_without_labels_and_teacher_is_refused() -> None:
    with pytest.raises(TechniqueNotApplicable, match="labels or a teacher"):
        fit(cnn(), picture_set(labelled=False), QUICK, progress=silent)


def test_label_out_of_range_is_named() -> None:
    rows = picture_set()
    assert rows.train.labels is not None
    rows.train.labels[5] = 4
    with pytest.raises(DatasetMismatch, match="label 4 in row 5"):
        fit(cnn(), rows, QUICK, progress=silent)


def test_progress_only_grows_and_ends_at_one() -> None:
    shares: list[float] = []
    fit(
        cnn(seed=7),
        picture_set(),
        replace(QUICK, alpha=0.5),
        teacher=cnn(),
        progress=lambda share, _: shares.append(share),
    )
    assert all(a <= b for a, b in itertools.pairwise(shares))
    assert shares[-1] == pytest.approx(1.0)


def test_fraction_of_an_epoch_takes_that_many_steps() -> None:
    curve = fit(cnn(), picture_set(), replace(QUICK, epochs=0.5), progress=silent)
    assert curve[-1].step == 3


def test_patience_ends_training_early() -> None:
    settings = replace(QUICK, epochs=50, learning_rate=1e-9, patience=2)
    curve = fit(cnn(), picture_set(), settings, progress=silent)
    assert curve[-1].epoch < 10


def test_patience_does_not_count_while_constraints_are_still_to_change() -> None:
    settings = replace(QUICK, epochs=50, learning_rate=1e-9, patience=2)
    curve = fit(cnn(), picture_set(), settings, progress=silent, on_step=lambda step, total, _: step < total // 2)
    assert 25 < curve[-1].epoch < 35


def test_process_settings_are_put_back() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fit(cnn(), picture_set(), replace(QUICK, epochs=0.2), progress=silent)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks_lower_their_loss(task: str) -> None:
    rng = np.random.default_rng(0)
    sketch = graphs.Sketch(13)
    hidden = sketch.op("Relu", sketch.op("Gemm", "x", sketch.weight("w1", 6, 16), sketch.weight("b1", 16)))
    out = sketch.op("Gemm", hidden, sketch.weight("w2", 16, 2), sketch.weight("b2", 2))
    sketch.op("Sigmoid" if task == "multilabel" else "Identity", out, out="y")
    model = graphs.model(sketch.proto({"x": (1, ["N", 6])}, {"y": (1, ["N", 2])}))

    def rows(count: int) -> Samples:
        x = rng.normal(size=(count, 6)).astype(np.float32)
        y = x[:, :2] * 2 + 1
        return Samples({"x": x}, (y > 0).astype(np.float32) if task == "multilabel" else y)

    dataset = Dataset(rows(200), rows(50), rows(50), "multilabel" if task == "multilabel" else "regression")
    curve = fit(model, dataset, replace(QUICK, epochs=15), progress=silent)
    losses = [point.validation_loss for point in curve if point.validation_loss is not None]
    assert losses[-1] < 0.5 * losses[0]
    assert curve[-1].validation_score is not None
    assert curve[-1].validation_score > 0.8
