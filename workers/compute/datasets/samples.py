"""Rows ready for a model: arrays by input name, labels, splits. Knows no file format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "multilabel", "regression", "match"]
Array = NDArray[np.generic]
Kind = TypeVar("Kind", bound=np.generic)


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

    def joined(self, other: "Samples") -> "Samples":
        """Return these rows, then the other's."""
        inputs = {name: np.concatenate([array, other.inputs[name]]) for name, array in self.inputs.items()}
        return Samples(inputs, _joined(self.labels, other.labels), _joined(self.places, other.places))

    def batches(self, size: int) -> Iterator["Samples"]:
        """Yield consecutive batches of at most `size` rows."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


def _joined(one: NDArray[Kind] | None, other: NDArray[Kind] | None) -> NDArray[Kind] | None:
    return None if one is None or other is None else np.concatenate([one, other])


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits. Test rows are touched once, for the report.

    `drawn`: test rows were given and validation rows were not, so that these come from the rows to train on.
    """

    train: Samples
    validation: Samples
    test: Samples
    task: Task = "match"
    classes: tuple[str, ...] = ()
    drawn: bool = False

    @property
    def labelled(self) -> bool:
        """Whether rows carry labels."""
        return self.train.labels is not None
