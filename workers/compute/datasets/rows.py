"""Turn rows of text fields or JSON values into typed columns. Knows no file format."""

import math
from collections.abc import Sequence

import numpy as np

from app.errors import DatasetMalformed
from workers.compute.datasets.samples import Array
from workers.compute.datasets.table import text_column
from workers.compute.wording import shown

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def column_of_fields(name: str, fields: Sequence[str]) -> Array:
    """Return whole numbers as int64, other numbers as float32, anything else as text.

    Raises DatasetMalformed for numbers that are not finite.
    """
    for kind in (np.int64, np.float64):
        try:
            numbers = np.array(fields, dtype=np.str_).astype(kind) if _look_numeric(fields) else None
        except (ValueError, OverflowError):
            continue
        if numbers is not None:
            return _single(name, numbers)
    return text_column(fields)


def _look_numeric(fields: Sequence[str]) -> bool:
    # A number of over 40 characters is text; the first row settles most columns, before any array is made.
    return all(0 < len(field) <= 40 for field in fields) and not fields[0][-1].isalpha()  # noqa: PLR2004  # see above


def column_of_values(name: str, values: Sequence[Json]) -> Array:
    """Return a column of JSON values: all text, or all numbers or number lists of one shape."""
    if all(isinstance(value, str) for value in values):
        return text_column([str(value) for value in values])
    for row, value in enumerate(values):
        if value is None or isinstance(value, str | dict):
            raise DatasetMalformed(f"Column {shown(name)!r} mixes types or has no value in row {row}.")
    try:
        numbers = np.array(values)
    except (ValueError, OverflowError) as error:
        raise DatasetMalformed(f"Column {shown(name)!r} holds lists of different lengths.") from error
    if numbers.dtype.kind not in "biuf":
        raise DatasetMalformed(f"Column {shown(name)!r} is not of plain numbers or text.")
    return _single(name, numbers)


def _single(name: str, numbers: Array) -> Array:
    """Return floats as float32, the width that models take; refuse what is not finite."""
    if numbers.dtype.kind != "f":
        return numbers
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    finite = np.isfinite(single.reshape(len(single), -1)).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DatasetMalformed(f"Column {shown(name)!r} is not finite in row {row}.")
    return single


def finite_number(text: str) -> float:
    """Parse a JSON number with a fraction or exponent. Raises DatasetMalformed if it overflows."""
    number = float(text)
    if not math.isfinite(number):
        raise DatasetMalformed("The data set holds a number that is too large.")
    return number
