"""Which row belongs to which split: as the data say, or by shares, evenly over the classes. Deterministic."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from app.contracts.dataset import Splits
from app.errors import DatasetMismatch
from workers.compute.datasets.samples import Array
from workers.compute.datasets.table import is_text
from workers.compute.wording import shown

NAMES = ("train", "validation", "test")
_ALIASES = {"train": 0, "training": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2, "testing": 2}
_CODES = (0, 1, 2)
_FEWEST_ROWS = 3

Rows = NDArray[np.intp]


def split_rows(given: Array | None, labels: Array | None, shares: Splits, rows: int) -> Mapping[str, Rows]:
    """Return the row numbers of train, validation and test, each ascending and none empty.

    `labels` are class numbers to spread evenly, or None. A given split without validation or test rows gets them from
    train. Raises DatasetMismatch when there are too few rows.
    """
    if rows < _FEWEST_ROWS:
        raise DatasetMismatch(f"The data set has {rows} rows; train, validation and test need one each.")
    codes = np.zeros(rows, np.int8) if given is None else _codes(given)
    found = np.bincount(codes, minlength=3)
    wanted = {
        "test": 0.0 if found[2] else shares.test,
        "validation": 0.0 if found[1] else shares.validation,
    }
    train = np.flatnonzero(codes == 0)
    if len(train) <= sum(share > 0 for share in wanted.values()):
        raise DatasetMismatch("The split leaves no rows to train on.")
    order = spread(None if labels is None else labels[train], len(train), shares.seed)
    start = 0
    for name, share in wanted.items():
        count = max(1, round(share * len(train))) if share else 0
        codes[train[order[start : start + count]]] = NAMES.index(name)
        start += count
    if start >= len(train):
        raise DatasetMismatch("The shares of validation and test leave no rows to train on.")
    return {name: np.flatnonzero(codes == code) for code, name in enumerate(NAMES)}


def named(given: Array) -> set[str]:
    """Return the names of the splits that a split column has rows of. Raises DatasetMismatch for others."""
    return {NAMES[code] for code in np.unique(_codes(given))}


def _codes(given: Array) -> NDArray[np.int8]:
    if is_text(given):
        names, inverse = np.unique([str(name).lower() for name in given], return_inverse=True)
        unknown = [name for name in names if name not in _ALIASES]
        if unknown:
            raise DatasetMismatch(f"The split column holds {shown(unknown[0])!r}; use train, validation and test.")
        return np.array([_ALIASES[name] for name in names], np.int8)[inverse]
    if given.ndim != 1 or given.dtype.kind not in "iu" or not np.isin(given, _CODES).all():
        raise DatasetMismatch("The split column must hold train, validation, test, or 0, 1, 2.")
    return given.astype(np.int8)


def spread(labels: Array | None, rows: int, seed: int) -> Rows:
    """Return the numbers of all rows in a shuffled order whose every prefix holds each class by its share."""
    shuffled = np.random.default_rng(seed).permutation(rows)
    classes = np.zeros(rows, np.int64) if labels is None else labels
    places = np.empty(rows)
    for label in np.unique(classes):
        members = shuffled[classes[shuffled] == label]
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(places, kind="stable")
