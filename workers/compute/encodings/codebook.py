"""Shared values: a table of the distinct ones and, for every weight, its row in the table (Deep Compression, 2016)."""

import numpy as np

from workers.compute.encodings import digits
from workers.compute.encodings.base import Contents, Decoder, Encoded

MAX_VALUES = 256  # indices fit one byte


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return table and indices, or None for more than 256 distinct values."""
    table = contents.distinct
    if not 1 <= table.size <= MAX_VALUES or contents.values.size == 0:
        return None
    decoder = Decoder(contents, opset)
    values = decoder.constant("codebook", table.view(contents.values.dtype))
    indices = np.searchsorted(table, contents.bits)
    flat = digits.unpack(decoder, "indices", indices, max(2, table.size))
    shaped = decoder.shaped(flat, contents.values.shape)
    return decoder.finish(decoder.operator("Gather", values, shaped, axis=0))
