"""A data set as columns: numbers as arrays, text as arrays of str objects. Knows no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.errors import DatasetMalformed, DatasetMismatch, DatasetTooWide
from workers.compute.datasets.samples import Array
from workers.compute.wording import shown

MAX_COLUMNS = 10_000
MAX_ROWS = 50_000_000
MAX_TABLE_BYTES = 8 << 30
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name; the first axis is the row."""

    columns: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> Array:
        """Return a column that the request named. Raises DatasetMismatch if there is none."""
        if name not in self.columns:
            held = ", ".join(shown(known) for known in list(self.columns)[:20])
            raise DatasetMismatch(f"The data set has no column {shown(name)!r}; it has {held}.")
        return self.columns[name]


def make_table(columns: Mapping[str, Array]) -> Table:
    """Check lengths and counts. Raises DatasetMalformed, DatasetTooWide."""
    refuse_wide(len(columns))
    if not columns:
        raise DatasetMalformed("The data set has no columns.")
    scalars = [name for name, column in columns.items() if column.ndim == 0]
    if scalars:
        raise DatasetMalformed(f"Array {shown(scalars[0])!r} has no rows: it is a single value.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{shown(name)} {length:,}" for name, length in list(lengths.items())[:10])
        raise DatasetMalformed(f"Columns have different numbers of rows: {told}.")
    if not next(iter(lengths.values())):
        raise DatasetMalformed("The data set has no rows.")
    return Table(columns)


def refuse_wide(count: int) -> None:
    """Raise DatasetTooWide over 10,000 columns."""
    if count > MAX_COLUMNS:
        raise DatasetTooWide(f"The data set has {count:,} columns; the limit is {MAX_COLUMNS:,}.")


def is_text(column: Array) -> bool:
    """Whether a column holds text."""
    return column.dtype.kind == "O"


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_column(values: Sequence[str]) -> Array:
    """Return text as an array of str objects, which costs what the text costs, whatever the longest row.

    Raises DatasetMalformed for halves of surrogate pairs, which JSON can write and nothing can encode.
    """
    if not all(value.isascii() or _is_whole(value) for value in values):
        raise DatasetMalformed("A text of the data set is not valid Unicode.")
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
