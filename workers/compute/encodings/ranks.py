"""Integers that number some of their places from 0 on, all others being one value: maps from ids to rows, positions.

A bit per place says which are numbered; the running count of bits is the number.
"""

import numpy as np
from numpy.typing import NDArray

from workers.compute.encodings import digits
from workers.compute.encodings.base import Contents, Decoder, Encoded

OPSET = 11  # CumSum


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return the bits, or None where the integers do not number their places or operators are too old."""
    values = contents.values
    if opset < OPSET or values.dtype not in (np.int32, np.int64) or values.size == 0:
        return None
    rest = int(contents.commonest.view(values.dtype)[0])
    numbered = _numbered(values.reshape(-1).astype(np.int64), rest)
    if numbered is None or rest + 1 >= 1 << 8 * values.itemsize - 1:
        return None
    decoder = Decoder(contents, opset)
    bits = decoder.common(np.asarray([0, 1], values.dtype))
    bit = digits.unpack(decoder, "numbered", numbered.astype(np.uint8), bits, 2)
    count = decoder.operator("CumSum", bit, decoder.common(np.asarray(0, np.int64)))
    above = decoder.operator("Sub", count, decoder.common(np.asarray(rest + 1, values.dtype)))
    found = decoder.operator("Add", decoder.operator("Mul", above, bit), decoder.common(np.asarray(rest, values.dtype)))
    return decoder.finish(decoder.shaped(found, values.shape))


def _numbered(flat: NDArray[np.int64], rest: int) -> NDArray[np.bool_] | None:
    """Return which places are numbered; `rest` is the value of the others, and maybe one of the numbers too."""
    numbered: NDArray[np.bool_] = flat != rest
    numbers, places = flat[numbered], np.flatnonzero(numbered)
    if np.array_equal(numbers, np.arange(numbers.size)):
        return numbered
    steps = np.arange(numbers.size)
    if not 0 <= rest < numbers.size or not np.array_equal(numbers, steps + (steps >= rest)):
        return None
    after = places[rest - 1] if rest else -1
    own = after + 1 + int(np.argmax(flat[after + 1 :] == rest))
    if flat[own] != rest or own > places[rest]:
        return None
    numbered[own] = True
    return numbered
