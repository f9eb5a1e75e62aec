"""Judge scores against labels and against the original's scores, each figure with its 95 % interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.contracts.report import Estimate, Quality
from app.errors import DatasetMismatch
from workers.compute.datasets.samples import Array, Task
from workers.compute.intervals import (
    bootstrap_cells,
    bootstrap_rows,
    mean,
    mean_of_proportions,
    paired_difference,
    wilson,
)
from workers.compute.metrics import CELL_FIGURES, FLAG_FIGURES, NUMBER_FIGURES, CellFigure, RowFigure, cosines, r2

Scores = NDArray[np.float32]
Float = NDArray[np.float64]
Rows = NDArray[np.intp]
Figures = tuple[dict[str, Estimate], dict[str, Estimate]]
MAX_NAMED_CLASSES = 1000
_MATRIX = 2


@dataclass(frozen=True)
class Judge:
    """One split's rows: labels (None for task match), the original's scores on them, the classes' names."""

    split: Literal["validation", "test"]
    task: Task
    labels: Array | None
    original: Scores
    classes: tuple[str, ...] = ()
    seed: int = 0

    def quality(self, scores: Scores) -> Quality:
        """Return every figure of the task. Raises DatasetMismatch when scores and task do not go together."""
        judged = {
            "classification": _classification,
            "multilabel": _multilabel,
            "regression": _regression,
            "match": _match,
        }[self.task](self, scores)
        return Quality(split=self.split, samples=len(scores), scores=judged[0], recall_per_class=judged[1])

    def differences(self, scores: Scores, against: Scores | None = None) -> Mapping[str, Estimate]:
        """Return after - before, paired by row, for the figures that go by labels; by default against the original."""
        old = self.original if against is None else against
        if self.task == "match":
            return {}
        if self.task == "regression":
            return _paired(NUMBER_FIGURES, self.truth, _flat(old), _flat(scores), self.seed)
        decided_before, decided_after = self.decided(old), self.decided(scores)
        right = paired_difference(self.right(decided_before), self.right(decided_after))
        if self.task == "multilabel":
            flags = _paired(FLAG_FIGURES, self.truth, _flat(decided_before), _flat(decided_after), self.seed)
            return {"accuracy": right, **flags}
        cells, counts = np.unique(np.stack([self.truth, decided_before, decided_after]), axis=1, return_counts=True)
        return {"accuracy": right} | {
            name: bootstrap_cells(counts, partial(_cell_difference, figure, cells), self.seed)
            for name, figure in CELL_FIGURES.items()
        }

    @property
    def truth(self) -> NDArray[np.float64]:
        """The labels. Raises DatasetMismatch when there are none."""
        if self.labels is None:
            raise DatasetMismatch(f"Task {self.task} needs labels.")
        return self.labels.astype(np.float64)

    @property
    def threshold(self) -> float:
        """Where a single score says yes: 0.5 for probabilities, 0 for logits; the original decides which they are."""
        return 0.5 if self.original.min() >= 0 and self.original.max() <= 1 else 0.0

    def decided(self, scores: Scores) -> NDArray[np.int64]:
        """Return class numbers (rows,) for classification, 0/1 (rows, labels) for multilabel."""
        flat = scores.reshape(len(scores), -1) if scores.size == len(scores) else scores
        if flat.ndim != _MATRIX:
            raise DatasetMismatch(f"The model gives scores of shape {scores.shape[1:]} per row; use task match.")
        if self.task == "multilabel":
            return (flat > self.threshold).astype(np.int64)
        if flat.shape[1] == 1:
            return (flat[:, 0] > self.threshold).astype(np.int64)
        return np.asarray(flat.argmax(axis=1), np.int64)

    def right(self, decided: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each row was decided as its labels say, all of them for multilabel."""
        return np.asarray((decided == self.truth).reshape(len(decided), -1).all(axis=1))


def _cell_difference(figure: CellFigure, cells: Array, counts: Float) -> Float:
    return figure(cells[0], cells[2], counts) - figure(cells[0], cells[1], counts)


def _paired(
    figures: Mapping[str, RowFigure], truth: Float, before: Float, after: Float, seed: int
) -> dict[str, Estimate]:
    def difference(figure: RowFigure, rows: Rows) -> float:
        return figure(truth[rows], after[rows]) - figure(truth[rows], before[rows])

    return {name: bootstrap_rows(len(truth), partial(difference, figure), seed) for name, figure in figures.items()}


def _figures(figures: Mapping[str, RowFigure], truth: Float, found: Float, seed: int) -> dict[str, Estimate]:
    def value(figure: RowFigure, rows: Rows) -> float:
        return figure(truth[rows], found[rows])

    return {name: bootstrap_rows(len(truth), partial(value, figure), seed) for name, figure in figures.items()}


def _classification(judge: Judge, scores: Scores) -> Figures:
    labels, decided = judge.truth.astype(np.int64), judge.decided(scores)
    hits, agreed = decided == labels, decided == judge.decided(judge.original)
    recalls = {
        _name(judge.classes, int(label)): wilson(int(hits[labels == label].sum()), int((labels == label).sum()))
        for label in np.unique(labels)
    }
    cells, counts = np.unique(np.stack([labels, decided]), axis=1, return_counts=True)
    return {
        "accuracy": wilson(int(hits.sum()), len(hits)),
        "macro_recall": mean_of_proportions(list(recalls.values())),
        "macro_f1": bootstrap_cells(counts, partial(CELL_FIGURES["macro_f1"], cells[0], cells[1]), judge.seed),
        "agreement": wilson(int(agreed.sum()), len(agreed)),
    }, dict(list(recalls.items())[:MAX_NAMED_CLASSES])


def _multilabel(judge: Judge, scores: Scores) -> Figures:
    labels, flags = judge.truth, judge.decided(scores)
    right = judge.right(flags)
    agreed = (flags == judge.decided(judge.original)).all(axis=1)
    recalls = {
        _name(judge.classes, label): wilson(int(flags[labels[:, label] == 1, label].sum()), int(labels[:, label].sum()))
        for label in range(min(labels.shape[1], MAX_NAMED_CLASSES))
        if labels[:, label].any()
    }
    proportions = {
        "accuracy": wilson(int(right.sum()), len(right)),
        "agreement": wilson(int(agreed.sum()), len(agreed)),
    }
    if recalls:
        proportions["macro_recall"] = mean_of_proportions(list(recalls.values()))
    return proportions | _figures(FLAG_FIGURES, labels, _flat(flags), judge.seed), recalls


def _regression(judge: Judge, scores: Scores) -> Figures:
    found = _flat(scores)
    agreement = _figures({"agreement": r2}, _flat(judge.original), found, judge.seed)
    return _figures(NUMBER_FIGURES, judge.truth, found, judge.seed) | agreement, {}


def _match(judge: Judge, scores: Scores) -> Figures:
    """Agreement is the share of equal decisions for rows of two or more scores, R2 for rows of one number.

    Other rows agree by their mean cosine similarity, which for one number would only compare signs.
    """
    found, original = _flat(scores), _flat(judge.original)
    if found.shape[1] == 1:
        return _figures({"agreement": r2}, original, found, judge.seed), {}
    alike = mean(cosines(found, original))
    if scores.ndim != _MATRIX:
        return {"agreement": alike, "cosine": alike}, {}
    agreed = scores.argmax(axis=1) == judge.original.argmax(axis=1)
    return {"agreement": wilson(int(agreed.sum()), len(agreed)), "cosine": alike}, {}


def _name(classes: tuple[str, ...], label: int) -> str:
    return classes[label] if label < len(classes) else str(label)


def _flat(scores: NDArray[np.generic]) -> Float:
    return scores.reshape(len(scores), -1).astype(np.float64)
