"""Small non-negative integers as digits of larger words: k values take about log2(k) bits each, for any k.

A word of W bytes holds the d digits of base k with k^d <= 256^W. k = 2, 4, 16 are plain bit packing; k = 3 puts five
ternary digits into one byte. Knows nothing of what the integers mean.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.encodings.base import Decoder

Integers = NDArray[np.integer]

# Words up to 3 bytes are decoded in int32, up to 7 bytes in int64, both without touching the sign bit.
_INT32_BYTES = 3
_MAX_BYTES = 7
_BYTE = 256
# From this many values on, looking up whole bytes, or several digits at once, saves more time than it costs room.
_LOOKED_UP = 65_536
# Rows of the table of several digits: it is made at load and should stay in a processor's cache.
_MOST_ROWS = 16_384

MOD, RANGE = 10, 11  # the opsets that brought these operators
MAX_BASE = 256  # digits fit one byte


@dataclass(frozen=True)
class Layout:
    """`digits` values of base `base` in every word of `width` bytes."""

    base: int
    width: int
    digits: int

    def size(self, count: int) -> int:
        """Bytes that `count` values take."""
        return -(-count // self.digits) * self.width


def best_layout(base: int, count: int) -> Layout:
    """Return the smallest layout for `count` values below `base` (2 to 256); of equals the narrowest word."""
    layouts = (Layout(base, width, _digits_in(width, base)) for width in range(1, _MAX_BYTES + 1))
    return min(layouts, key=lambda layout: layout.size(count))


def _digits_in(width: int, base: int) -> int:
    room, digits = _BYTE**width // base, 0
    while room:
        room, digits = room // base, digits + 1
    return digits


def pack(values: Integers, layout: Layout) -> NDArray[np.uint8]:
    """Return flat `values` as bytes of shape (words, width), least significant digit and byte first."""
    words = -(-values.size // layout.digits)
    padded = np.zeros(words * layout.digits, np.uint8)
    padded[: values.size] = values
    if layout.digits == 1:
        return padded.reshape(-1, 1)
    total = np.zeros(words, np.int64)
    for column in padded.reshape(words, layout.digits).T[::-1]:
        total *= layout.base
        total += column
    return total.astype("<i8").view(np.uint8).reshape(words, 8)[:, : layout.width]


def unpack(decoder: Decoder, label: str, values: Integers, table: ir.Value, base: int) -> ir.Value:
    """Store flat `values` below `base`; add the operators that restore `table[values]`, flat. `table`: (base,)."""
    layout = best_layout(base, values.size)
    packed = pack(values, layout)
    if layout.width == 1 and (layout.digits == 1 or values.size >= _LOOKED_UP):
        rows = _rows_of_bytes(decoder, table, layout) if layout.digits > 1 else table
        places = decoder.operator("Cast", decoder.constant(label, packed.reshape(-1)), to=int(ir.DataType.INT32))
        found = decoder.operator("Gather", rows, places, axis=0)
    else:
        word = _word(decoder, decoder.constant(label, packed), layout)
        together = _together(layout) if decoder.opset >= RANGE and values.size >= _LOOKED_UP else 1
        grouped = Layout(base**together, layout.width, layout.digits // together)
        rows = _rows(decoder, table, Layout(base, layout.width, together)) if together > 1 else table
        found = decoder.operator("Gather", rows, _split(decoder, word, grouped), axis=0)
    if layout.digits > 1:
        found = decoder.operator("Reshape", found, decoder.common(np.asarray([-1], np.int64)))
    return decoder.first(found, values.size) if -values.size % layout.digits else found


def _rows_of_bytes(decoder: Decoder, table: ir.Value, layout: Layout) -> ir.Value:
    """Add what each byte stands for, (bytes, digits): to look up whole bytes is faster than to divide every one."""
    every = decoder.common(np.arange(layout.base**layout.digits, dtype=np.uint8).reshape(-1, 1))
    word = decoder.operator("Cast", every, to=int(ir.DataType.INT32))
    return decoder.operator("Gather", table, _split(decoder, word, layout), axis=0)


def _together(layout: Layout) -> int:
    """Return how many digits to look up at once, a divisor of those in a word."""
    fitting = (count for count in range(1, layout.digits + 1) if layout.digits % count == 0)
    return max(count for count in fitting if count == 1 or layout.base**count <= _MOST_ROWS)


def _rows(decoder: Decoder, table: ir.Value, layout: Layout) -> ir.Value:
    """Add what every combination of the layout's digits stands for, (combinations, digits)."""
    edges = (decoder.common(np.asarray(edge, _wide(layout))) for edge in (0, layout.base**layout.digits, 1))
    column = decoder.common(np.asarray([-1, 1], np.int64))
    every = decoder.operator("Reshape", decoder.operator("Range", *edges), column)
    return decoder.operator("Gather", table, _split(decoder, every, layout), axis=0)


def _wide(layout: Layout) -> type[np.int32 | np.int64]:
    return np.int32 if layout.width <= _INT32_BYTES else np.int64


def _word(decoder: Decoder, packed: ir.Value, layout: Layout) -> ir.Value:
    """Add (words, width) bytes → (words, 1) numbers."""
    wide = _wide(layout)
    word = decoder.operator("Cast", packed, to=int(ir.DataType.from_numpy(np.dtype(wide))))
    places = np.asarray([[_BYTE**place] for place in range(layout.width)], wide)
    return word if layout.width == 1 else decoder.operator("MatMul", word, decoder.common(places))


def _split(decoder: Decoder, word: ir.Value, layout: Layout) -> ir.Value:
    """Add (words, 1) → (words, digits): divide by the powers of the base, then take the remainder."""
    wide = _wide(layout)
    powers = np.asarray([layout.base**place for place in range(layout.digits)], wide)
    base = decoder.common(np.asarray(layout.base, wide))
    quotient = decoder.operator("Div", word, decoder.common(powers))
    if decoder.opset >= MOD:
        return decoder.operator("Mod", quotient, base)
    whole = decoder.operator("Mul", decoder.operator("Div", quotient, base), base)
    return decoder.operator("Sub", quotient, whole)
