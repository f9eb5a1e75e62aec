"""Shared values: a table of the distinct ones and, for every weight, its row in the table (Deep Compression, 2016)."""

import numpy as np

from workers.compute.encodings import digits
from workers.compute.encodings.base import Contents, Decoder, Encoded

# Digits are split by a product of integers, which MatMul takes since opset 9.
OPSET = 9
MAX_VALUES = 256  # indices fit one byte


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return table and indices, or None for more than 256 distinct values or operators that are too old."""
    table = contents.distinct
    if opset < OPSET or not 1 <= table.size <= MAX_VALUES or contents.values.size == 0:
        return None
    decoder = Decoder(contents, opset)
    values = decoder.constant("codebook", table.view(contents.values.dtype))
    indices = np.searchsorted(table, contents.bits)
    if table.size == 1:
        values, indices = decoder.operator("Concat", values, values, axis=0), np.zeros_like(indices)
    flat = digits.unpack(decoder, "indices", indices, values, max(2, table.size))
    return decoder.finish(decoder.shaped(flat, contents.values.shape))
