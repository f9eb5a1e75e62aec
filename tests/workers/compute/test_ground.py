"""Nothing is held to a score that the original has only on rows that it has learned by heart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.contracts.tasks import LOGITS, Done
from tests.workers.compute.orders import ZERO, digits, tell
from workers.compute.autograd.logits import Logits
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph.model import load
from workers.compute.ground import Ground
from workers.compute.measuring import open_original

KNOWN, DRAWN, TEST = 600, 60, 300
_WRONG = 0.2  # of the labels: nobody can know these of rows that were not seen
CUT = {"technique": "prune_neurons", "ratio": 0.75, "epochs": 0}


def noisy() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = digits()
    generator = np.random.default_rng(0)
    images, labels = images[: KNOWN + TEST], labels[: KNOWN + TEST].astype(np.int64)
    wrong = generator.random(len(labels)) < _WRONG
    return images, np.where(wrong, (labels + generator.integers(1, 10, len(labels))) % 10, labels)


def by_heart(path: Path, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> Path:
    """A network that answers with the label of the nearest of the rows that it was made of."""
    tensors = {
        "rows": 200 * rows.T,
        "lengths": -100 * (rows**2).sum(1),
        "labels": np.eye(10, dtype=np.float32)[labels],
    }
    nodes = [
        helper.make_node("Gemm", ["image", "rows", "lengths"], ["near"]),
        helper.make_node("Softmax", ["near"], ["nearest"]),
        helper.make_node("MatMul", ["nearest", "labels"], ["scores"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in (("image", 64), ("scores", 10))
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "by heart", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def ground(file: Path, dataset: Dataset) -> Ground:
    return Ground(open_original(file, 1), Logits(load(file)), 0, dataset)


@pytest.fixture
def drawn() -> Dataset:
    """The rows of `noisy`: those to validate on were drawn from those to train on."""
    images, labels = noisy()

    def rows(first: int, last: int) -> Samples:
        return Samples({"image": images[first:last]}, labels[first:last], np.arange(first, last))

    parts = rows(0, KNOWN - DRAWN), rows(KNOWN - DRAWN, KNOWN), rows(KNOWN, KNOWN + TEST)
    return Dataset(*parts, "classification", tuple("0123456789"), drawn=True)


def places(samples: Samples) -> list[int]:
    assert samples.places is not None
    return samples.places.tolist()


def test_rows_that_the_original_knows_by_heart_are_trained_on_and_test_rows_take_their_place(
    tmp_path: Path, drawn: Dataset
) -> None:
    images, labels = noisy()
    before = ground(by_heart(tmp_path / "model.onnx", images[:KNOWN], labels[:KNOWN]), drawn)
    fair = before.fair(0)
    assert "accuracy 1.0000, on test rows 0." in fair.finding
    assert (len(fair.dataset.validation), len(fair.dataset.test)) == (TEST // 3, TEST - TEST // 3)
    assert places(fair.dataset.train) == list(range(KNOWN))
    shared_out = [*places(fair.dataset.validation), *places(fair.dataset.test)]
    assert sorted(shared_out) == list(range(KNOWN, KNOWN + TEST))
    scores = [each.quality(each.original).scores["accuracy"].value for each in (fair.judge(), fair.test_judge())]
    assert scores == pytest.approx([0.65, 0.65], abs=0.1)
    again = before.fair(0).dataset
    assert places(again.validation) == places(fair.dataset.validation)
    # Every class is in both by its share.
    counts = [np.bincount(part.labels) / len(part) for part in (fair.dataset.validation, fair.dataset.test)]
    np.testing.assert_allclose(*counts, atol=0.03)


def test_rows_that_it_has_not_seen_stay_what_they_are(tmp_path: Path, drawn: Dataset) -> None:
    images, labels = noisy()
    seen = KNOWN - DRAWN
    fair = ground(by_heart(tmp_path / "model.onnx", images[:seen], labels[:seen]), drawn).fair(0)
    assert (fair.finding, fair.dataset) == ("", drawn)


def test_validation_rows_that_somebody_chose_are_kept(tmp_path: Path, drawn: Dataset) -> None:
    images, labels = noisy()
    chosen = replace(drawn, drawn=False)
    fair = ground(by_heart(tmp_path / "model.onnx", images[:KNOWN], labels[:KNOWN]), chosen).fair(0)
    assert (fair.finding, fair.dataset) == ("", chosen)


def test_no_more_test_rows_are_taken_than_there_were_drawn_or_tell_enough(
    tmp_path: Path, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = noisy()
    monkeypatch.setattr("workers.compute.ground._ENOUGH", 40)
    fair = ground(by_heart(tmp_path / "model.onnx", images[:KNOWN], labels[:KNOWN]), drawn).fair(0)
    assert len(fair.dataset.validation) == DRAWN


def order(scratch: Path, **changes: object) -> dict[str, object]:
    images, labels = noisy()
    (scratch / "in").mkdir(parents=True, exist_ok=True)
    by_heart(scratch / "in/model.onnx", images[:KNOWN], labels[:KNOWN])
    split = np.array(["train"] * KNOWN + ["test"] * TEST)
    with (scratch / "in/digits.npz").open("wb") as stream:
        np.savez(stream, x=images, y=labels, split=split)
    return {
        "model": {"path": "in/model.onnx", "sha256": ZERO},
        "dataset": {"path": "in/digits.npz", "sha256": ZERO, "format": "npz"},
        "task": "classification",
        "seed": 0,
        "threads": 1,
        **changes,
    }


def told(scratch: Path, **changes: object) -> Done:
    last = tell(scratch, order(scratch, **changes)).last
    assert isinstance(last, Done)
    return last


def test_a_guard_is_met_that_only_learned_rows_would_have_broken(tmp_path: Path) -> None:
    asked = {"goal": {}, "low": {"steps": [{"technique": "quantize_fp16"}]}, "narrow": {"steps": [CUT]}}
    survey = told(tmp_path / "survey", kind="survey", **asked).survey
    assert survey is not None
    assert survey.rows == KNOWN
    assert survey.quality is not None
    assert (survey.quality.samples, survey.quality.scores["accuracy"].value < 0.8) == (TEST // 3, True)

    (tmp_path / "job/in").mkdir(parents=True)
    (tmp_path / "survey/out" / LOGITS).rename(tmp_path / "job/in" / LOGITS)
    recipe = {"steps": [{"technique": "prune_weights", "sparsity": 0.1, "epochs": 0}]}
    guard = {"metric": "accuracy", "max_drop": 0.05}
    common = {"kind": "compress", "recipe": recipe, "guard": guard, "device": "cpu"}
    for knowing in (f"in/{LOGITS}", None):
        report = told(tmp_path / "job", **common, logits=knowing).report
        assert report is not None
        assert any("by heart" in note for note in report.notes)
        assert report.before.quality is not None
        assert report.before.quality.samples == TEST - TEST // 3
        assert report.steps[0].measurement.quality is not None
        assert report.steps[0].measurement.quality.samples == TEST // 3
