"""Rows, or parts of rows, that occur more than once: the distinct ones and, for each, which of them it is.

Parts are what product quantisation leaves: sub-vectors of few kinds, of however many values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.encodings import digits, streams
from workers.compute.encodings.base import Array, Contents, Decoder, Encoded

OPSET = 9  # what splits digits
_RANK = 2
_UINT16_VALUES = 65_536
_PARTS = (2, 4, 8, 16)  # values in a sub-vector
# A tensor is given up when so many of the first rows or parts are nearly all distinct.
_PROBED, _MOST_DISTINCT = 4096, 0.9


@dataclass(frozen=True)
class _Rows:
    """The distinct rows, (kinds, width), and which of them stands at each place."""

    distinct: Array
    places: NDArray[np.intp]

    @property
    def size(self) -> int:
        """Bytes of both, stored plainly."""
        kinds = len(self.distinct)
        if kinds <= digits.MAX_BASE:
            return self.distinct.nbytes + digits.best_layout(max(2, kinds), self.places.size).size(self.places.size)
        return self.distinct.nbytes + self.places.size * (2 if kinds <= _UINT16_VALUES else 4)


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return the smallest split into distinct rows and places, or None where none repeats."""
    if opset < OPSET or contents.values.ndim < _RANK or contents.values.size == 0:
        return None
    found = (_found(contents.values.reshape(-1, width)) for width in _widths(contents))
    rows = min((rows for rows in found if rows is not None), key=lambda rows: rows.size, default=None)
    if rows is None:
        return None
    decoder = Decoder(contents, opset)
    gathered = decoder.operator("Gather", _distinct(decoder, rows), _indices(decoder, rows), axis=0)
    return decoder.finish(decoder.shaped(gathered, contents.values.shape))


def _widths(contents: Contents) -> Iterator[int]:
    """Yield the values in a whole row, then those of parts; a codebook of single values is as good as one of parts."""
    yield contents.values.size // contents.values.shape[0]
    if contents.distinct.size > digits.MAX_BASE:
        yield from (width for width in _PARTS if contents.values.shape[-1] % width == 0)


def _found(rows: Array) -> _Rows | None:
    """Return the distinct rows in the order of their bytes, or None where hardly any repeats."""
    keys = _keys(rows)
    if len(keys) > _PROBED and np.unique(keys[:_PROBED]).size > _MOST_DISTINCT * _PROBED and rows.shape[1] in _PARTS:
        return None
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    return None if first.size == len(keys) else _Rows(rows[first], places.reshape(-1))


def _keys(rows: Array) -> NDArray[np.void]:
    """Return each row as one opaque item, to be compared byte by byte."""
    wide = np.ascontiguousarray(rows)
    return wide.view(np.dtype((np.void, wide.dtype.itemsize * wide.shape[1]))).reshape(-1)


def _distinct(decoder: Decoder, rows: _Rows) -> ir.Value:
    """Add the distinct rows, in digits or places of their own where that is smaller."""
    stream = streams.smallest(Contents("", rows.distinct), decoder.opset)
    if stream is None or stream.size >= rows.distinct.nbytes:
        return decoder.constant("rows", rows.distinct)
    return decoder.shaped(stream.write(decoder), rows.distinct.shape)


def _indices(decoder: Decoder, rows: _Rows) -> ir.Value:
    count, places = len(rows.distinct), rows.places
    if count <= digits.MAX_BASE:
        base = max(2, count)
        return digits.unpack(decoder, "places", places, decoder.common(np.arange(base, dtype=np.int32)), base)
    if count > _UINT16_VALUES:
        return decoder.constant("places", places.astype(np.int32))
    return decoder.operator("Cast", decoder.constant("places", places.astype(np.uint16)), to=int(ir.DataType.INT32))
