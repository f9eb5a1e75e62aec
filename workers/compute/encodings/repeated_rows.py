"""Rows that occur more than once: the distinct ones and, for every row, which of them it is."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.encodings import digits
from workers.compute.encodings.base import Contents, Decoder, Encoded

OPSET = 9  # what splits digits
_RANK = 2
_UINT16_VALUES = 65_536


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return distinct rows along the first axis and the index of each, or None where no row repeats."""
    values = contents.values
    if opset < OPSET or values.ndim < _RANK or values.size == 0 or values.shape[0] < _RANK:
        return None
    rows = contents.bits.reshape(values.shape[0], -1)
    _, first, places = np.unique(_keys(rows), return_index=True, return_inverse=True)
    if first.size == values.shape[0]:
        return None
    decoder = Decoder(contents, opset)
    distinct = decoder.constant("rows", values[first])
    return decoder.finish(decoder.operator("Gather", distinct, _indices(decoder, places, first.size), axis=0))


def _keys(rows: NDArray[np.unsignedinteger]) -> NDArray[np.void]:
    """Return each row as one opaque item, to be compared byte by byte."""
    wide = np.ascontiguousarray(rows)
    return wide.view(np.dtype((np.void, wide.dtype.itemsize * wide.shape[1]))).reshape(-1)


def _indices(decoder: Decoder, places: NDArray[np.intp], count: int) -> ir.Value:
    if count <= digits.MAX_BASE:
        base = max(2, count)
        return digits.unpack(decoder, "places", places, decoder.common(np.arange(base, dtype=np.int32)), base)
    if count > _UINT16_VALUES:
        return decoder.constant("places", places.astype(np.int32))
    return decoder.operator("Cast", decoder.constant("places", places.astype(np.uint16)), to=int(ir.DataType.INT32))
