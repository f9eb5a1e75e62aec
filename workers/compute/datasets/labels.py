"""Turn a label column into what a task needs: class numbers, 0/1 rows, or numbers."""

from dataclasses import dataclass

import numpy as np

from app.errors import DatasetMismatch
from workers.compute.datasets.samples import Array, Task
from workers.compute.datasets.table import is_text
from workers.compute.wording import shown

MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Labels:
    """Labels by row and, for classification, the classes' names where they are known."""

    values: Array
    classes: tuple[str, ...] = ()


def read_labels(column: Array, task: Task, classes: tuple[str, ...], width: int | None) -> Labels:
    """Fit labels to a model with `width` scores per row (None: unknown) and `classes` (may be empty).

    classification: int64 (rows,); multilabel: float32 (rows, width) of 0 and 1; regression: float32 (rows, width).
    Raises DatasetMismatch, naming the row and the value.
    """
    if task == "regression":
        return Labels(_numbers(column, width))
    if task == "multilabel":
        return Labels(_flags(column, width), classes)
    if is_text(column):
        return _named(column, classes, width)
    return Labels(_numbered(column, _class_count(width, classes)), classes)


def _class_count(width: int | None, classes: tuple[str, ...]) -> int:
    if width == 1:
        return 2  # one score for two classes
    return width or len(classes) or MAX_CLASSES


def _named(column: Array, classes: tuple[str, ...], width: int | None) -> Labels:
    found = sorted(set(column.tolist()))
    if classes and set(found) <= set(classes):
        order = classes
    elif all(name.lstrip("-").isdigit() and len(name) < 10 for name in found):  # noqa: PLR2004  # fits int64 by far
        return Labels(_numbered(column.astype(np.int64), _class_count(width, classes)), classes)
    elif classes and not _generic(classes):
        row = next(row for row, name in enumerate(column) if name not in classes)
        raise DatasetMismatch(f"Row {row} has the label {shown(column[row])!r}, which is not a class of the model.")
    else:
        order = tuple(found)
    if len(order) > _class_count(width, ()):
        raise DatasetMismatch(f"The data set has {len(order):,} labels; the model has {width} classes.")
    numbers = {name: number for number, name in enumerate(order)}
    return Labels(np.array([numbers[name] for name in column], np.int64), tuple(order))


def _generic(classes: tuple[str, ...]) -> bool:
    """Whether the names are those that exporters make up (LABEL_0, LABEL_1), which mean sorted order."""
    return all(name.upper().removeprefix("LABEL_") == str(number) for number, name in enumerate(classes))


def _numbered(column: Array, count: int) -> Array:
    if column.ndim == 2 and column.shape[1] == 1:  # noqa: PLR2004  # a column vector
        column = column[:, 0]
    if column.ndim != 1:
        shape = tuple(column.shape[1:])
        raise DatasetMismatch(f"Labels have shape {shape} per row; classification needs one class number per row.")
    numbers = column.astype(np.int64)
    if column.dtype.kind == "f" and not np.array_equal(numbers, column):
        row = int(np.argmax(numbers != column))
        raise DatasetMismatch(f"Row {row} has the label {column[row]}; classes are whole numbers (task: regression?).")
    outside = (numbers < 0) | (numbers >= count)
    if outside.any():
        row = int(np.argmax(outside))
        raise DatasetMismatch(f"Row {row} has the label {numbers[row]}; the model's classes are 0 to {count - 1}.")
    return numbers


def _flags(column: Array, width: int | None) -> Array:
    if is_text(column) or column.ndim != 2 or (width or column.shape[1]) != column.shape[1]:  # noqa: PLR2004  # rows and labels
        raise DatasetMismatch(f"Multilabel data need a row of {width or 'n'} zeros and ones per sample.")
    wrong = ((column != 0) & (column != 1)).any(axis=1)
    if wrong.any():
        raise DatasetMismatch(f"Row {int(np.argmax(wrong))} has a label other than 0 and 1.")
    return column.astype(np.float32)


def _numbers(column: Array, width: int | None) -> Array:
    if is_text(column):
        raise DatasetMismatch("Labels are text; regression needs numbers.")
    values = column.astype(np.float32).reshape(len(column), -1)
    if width is not None and values.shape[1] != width:
        raise DatasetMismatch(f"Labels have {values.shape[1]} values per row; the model predicts {width}.")
    return values
