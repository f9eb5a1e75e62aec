"""Figures against scikit-learn, and the verdicts that they lead to."""

import numpy as np
import pytest
from sklearn import metrics

from app.errors import DatasetMismatch
from workers.compute.scoring import Judge

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
ORIGINAL = (np.eye(4)[LABELS] * 1.5 + RNG.normal(size=(300, 4))).astype(np.float32)
CHANGED = (ORIGINAL + RNG.normal(0, 0.7, (300, 4))).astype(np.float32)
JUDGE = Judge("test", "classification", LABELS, ORIGINAL, ("a", "b", "c", "d"))


def test_classification_figures_equal_scikit_learns() -> None:
    quality = JUDGE.quality(CHANGED)
    decided = CHANGED.argmax(axis=1)
    assert quality.scores["accuracy"].value == pytest.approx(metrics.accuracy_score(LABELS, decided))
    assert quality.scores["macro_recall"].value == pytest.approx(metrics.recall_score(LABELS, decided, average="macro"))
    assert quality.scores["macro_f1"].value == pytest.approx(metrics.f1_score(LABELS, decided, average="macro"))
    assert quality.scores["agreement"].value == pytest.approx((decided == ORIGINAL.argmax(axis=1)).mean())
    recalls = metrics.recall_score(LABELS, decided, average=None)
    assert [quality.recall_per_class[name].value for name in "abcd"] == pytest.approx(recalls)
    assert all(score.low <= score.value <= score.high for score in quality.scores.values())


def test_differences_equal_the_scores_difference() -> None:
    before, after, found = JUDGE.quality(ORIGINAL), JUDGE.quality(CHANGED), JUDGE.differences(CHANGED)
    for name in ("accuracy", "macro_recall", "macro_f1"):
        expected = after.scores[name].value - before.scores[name].value
        assert found[name].value == pytest.approx(expected)
        assert found[name].low < expected < found[name].high


def test_regression_figures_equal_scikit_learns() -> None:
    truth = RNG.normal(size=(200, 2)).astype(np.float32)
    original, changed = truth + 0.1, truth + RNG.normal(0, 0.3, truth.shape)
    judge = Judge("test", "regression", truth, original.astype(np.float32))
    quality = judge.quality(changed.astype(np.float32))
    assert quality.scores["mae"].value == pytest.approx(metrics.mean_absolute_error(truth, changed), rel=1e-5)
    assert quality.scores["rmse"].value == pytest.approx(metrics.mean_squared_error(truth, changed) ** 0.5, rel=1e-5)
    assert quality.scores["r2"].value == pytest.approx(
        metrics.r2_score(truth, changed, multioutput="variance_weighted"), abs=1e-3
    )
    assert judge.differences(changed.astype(np.float32))["mae"].low > 0


def test_multilabel_figures_equal_scikit_learns() -> None:
    labels = (RNG.random((200, 3)) < 0.4).astype(np.float32)
    scores = (labels * 2 - 1 + RNG.normal(size=labels.shape)).astype(np.float32)
    quality = Judge("test", "multilabel", labels, scores).quality(scores)
    flags = scores > 0
    assert quality.scores["accuracy"].value == pytest.approx(metrics.accuracy_score(labels, flags))
    for kind in ("macro", "micro"):
        assert quality.scores[f"{kind}_f1"].value == pytest.approx(metrics.f1_score(labels, flags, average=kind))


def test_probabilities_of_one_column_are_cut_at_a_half() -> None:
    scores = np.array([[0.2], [0.7], [0.4], [0.9]], np.float32)
    quality = Judge("test", "classification", np.array([0, 1, 0, 1]), scores).quality(scores)
    assert quality.scores["accuracy"].value == 1.0


def test_agreement_is_cosine_similarity_when_rows_have_several_axes() -> None:
    states = RNG.normal(size=(10, 4, 6)).astype(np.float32)
    quality = Judge("test", "match", None, states).quality(2 * states)
    assert quality.scores["agreement"].value == pytest.approx(1.0, abs=1e-6)


def test_scores_of_several_axes_are_refused_when_the_task_is_classification() -> None:
    states = RNG.normal(size=(300, 4, 6)).astype(np.float32)
    with pytest.raises(DatasetMismatch, match="task match"):
        Judge("test", "classification", LABELS, states).quality(states)


def test_one_number_agrees_by_its_size_when_there_are_no_labels() -> None:
    original = RNG.normal(5, 1, (200, 1)).astype(np.float32)
    judge = Judge("test", "match", None, original)
    assert judge.quality(original).scores["agreement"].value == pytest.approx(1)
    assert judge.quality(np.full_like(original, 5)).scores["agreement"].value < 0.1
