"""Rows ready for a model: arrays by input name, labels, splits. Knows no file format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "multilabel", "regression", "match"]
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Samples:
    """Rows of one split: `inputs` by the model's input name, first axis = rows; `labels` (rows, ...) or None.

    `places` are the rows' numbers in the data set's file, from 0; None for rows that come from no file.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None
    places: NDArray[np.integer] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.inputs.values())))

    def take(self, rows: NDArray[np.integer] | slice) -> "Samples":
        """Return the given rows, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        places = None if self.places is None else self.places[rows]
        return Samples({name: array[rows] for name, array in self.inputs.items()}, labels, places)

    def batches(self, size: int) -> Iterator["Samples"]:
        """Yield consecutive batches of at most `size` rows."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits. Test rows are touched once, for the report."""

    train: Samples
    validation: Samples
    test: Samples
    task: Task = "match"
    classes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether rows carry labels."""
        return self.train.labels is not None
