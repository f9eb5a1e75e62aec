"""Figures of merit as plain functions of arrays. Know no interval, no task, no model."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Float = NDArray[np.float64]
# (labels of cells, decisions of cells, counts (replicates, cells)) -> one value per replicate
CellFigure = Callable[[Array, Array, Float], Float]
# (truth, prediction), both rows first -> one value
RowFigure = Callable[[Float, Float], float]


def _one_hot(members: Array, classes: Array) -> Float:
    return np.asarray(members[:, None] == classes[None], np.float64)


def macro_f1(labels: Array, decided: Array, counts: Float) -> Float:
    """Return the mean F1 of the classes that occur as label or decision."""
    classes = np.union1d(labels, decided)
    total = counts @ (_one_hot(labels, classes) + _one_hot(decided, classes))
    both = (counts * (labels == decided)) @ _one_hot(labels, classes)
    f1 = np.divide(2 * both, total, out=np.zeros_like(both), where=total > 0)
    return np.asarray(f1.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1))


def macro_recall(labels: Array, decided: Array, counts: Float) -> Float:
    """Return the mean recall of the classes that have rows."""
    classes = np.unique(labels)
    support = counts @ _one_hot(labels, classes)
    both = (counts * (labels == decided)) @ _one_hot(labels, classes)
    recall = np.divide(both, support, out=np.zeros_like(both), where=support > 0)
    return np.asarray(recall.sum(axis=1) / np.maximum((support > 0).sum(axis=1), 1))


def flags_macro_f1(labels: Float, flags: Float) -> float:
    """Return the mean F1 over the labels of 0/1 rows; a label that never occurs counts as 0."""
    both, total = (labels * flags).sum(axis=0), labels.sum(axis=0) + flags.sum(axis=0)
    return float(np.divide(2 * both, total, out=np.zeros(len(total)), where=total > 0).mean())


def flags_micro_f1(labels: Float, flags: Float) -> float:
    """Return the F1 over all 0/1 decisions together."""
    return float(2 * (labels * flags).sum() / max(1.0, float(labels.sum() + flags.sum())))


def mae(truth: Float, predicted: Float) -> float:
    """Return the mean absolute error."""
    return float(np.abs(truth - predicted).mean())


def rmse(truth: Float, predicted: Float) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(((truth - predicted) ** 2).mean()))


def r2(truth: Float, predicted: Float) -> float:
    """Return the share of the truth's variance that is explained; 0 where the truth is constant and missed."""
    spread = float(((truth - truth.mean(axis=0)) ** 2).sum())
    error = float(((truth - predicted) ** 2).sum())
    if not spread:
        return 1.0 if not error else 0.0
    return 1 - error / spread


def cosines(one: Float, other: Float) -> Float:
    """Return the cosine similarity per row of two arrays (rows, features); two zero rows are alike."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = (one * other).sum(axis=1)
    same = (one == other).all(axis=1).astype(np.float64)
    return np.asarray(np.divide(products, norms, out=same, where=norms > 0))


CELL_FIGURES: Mapping[str, CellFigure] = {"macro_recall": macro_recall, "macro_f1": macro_f1}
FLAG_FIGURES: Mapping[str, RowFigure] = {"macro_f1": flags_macro_f1, "micro_f1": flags_micro_f1}
NUMBER_FIGURES: Mapping[str, RowFigure] = {"mae": mae, "rmse": rmse, "r2": r2}
LOWER_IS_BETTER = frozenset({"mae", "rmse", "loss"})
