"""Mostly zeros: where the non-zeros are, and their values, dense or shared.

Positions are a bit for every weight, or the gaps between non-zeros (Deep Compression, 2016), whichever is smaller. A
gap too wide for its digit is bridged by stored zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.encodings import digits
from workers.compute.encodings.base import Array, Contents, Decoder, Encoded
from workers.compute.encodings.codebook import MAX_VALUES

# CumSum and ScatterElements came with opset 11.
OPSET = 11
# Above this share of non-zeros the positions cost more than they save on any value of 4 bytes or less.
MAX_DENSITY = 0.97
# Largest gap stored in one digit: powers of two and the steps between.
GAP_BASES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True)
class _Values:
    """The tensor's stored elements: bit patterns, and the table of distinct ones where that is smaller."""

    contents: Contents
    table: NDArray[np.unsignedinteger] | None = None

    def size(self, count: int) -> int:
        """Bytes that `count` stored elements take."""
        if self.table is None:
            return count * self.contents.bits.itemsize
        return self.table.nbytes + digits.best_layout(self.table.size, count).size(count)

    def write(self, decoder: Decoder, stored: NDArray[np.unsignedinteger]) -> ir.Value:
        """Add constants and operators that give the flat stored elements."""
        dtype = self.contents.values.dtype
        if self.table is None:
            return decoder.constant("nonzeros", stored.view(dtype))
        codebook = decoder.constant("codebook", self.table.view(dtype))
        indices = np.searchsorted(self.table, stored)
        return digits.unpack(decoder, "indices", indices, codebook, self.table.size)


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return positions and values, or None where there are hardly any zeros or operators are too old."""
    count = contents.values.size
    if opset < OPSET or count == 0 or not 0 < contents.nonzeros <= MAX_DENSITY * count:
        return None
    options = [_Values(contents)]
    if contents.distinct.size <= MAX_VALUES:
        options.append(_Values(contents, contents.distinct))
    positions = np.flatnonzero(contents.bits)
    decoder = Decoder(contents, opset)
    choices = [place(values, positions) for values in options for place in (_by_mask, _by_gaps)]
    _, write = min(choices, key=lambda choice: choice[0])
    return decoder.finish(decoder.shaped(write(decoder), contents.values.shape))


Choice = tuple[int, Callable[[Decoder], ir.Value]]


def _by_mask(values: _Values, positions: NDArray[np.intp]) -> Choice:
    """Return bytes and writer for a bit per weight. The running count of bits is the row in the stored values."""
    count = values.contents.values.size

    def write(decoder: Decoder) -> ir.Value:
        table = decoder.common(np.asarray([0, 1], np.int32))
        bit = digits.unpack(decoder, "mask", (values.contents.bits != 0).astype(np.uint8), table, 2)
        axis = decoder.common(np.asarray(0, np.int64))
        row = decoder.operator("Mul", decoder.operator("CumSum", bit, axis), bit)
        stored = np.concatenate([np.zeros(1, values.contents.bits.dtype), values.contents.bits[positions]])
        return decoder.operator("Gather", values.write(decoder, stored), row, axis=0)

    return digits.best_layout(2, count).size(count) + values.size(positions.size + 1), write


def _by_gaps(values: _Values, positions: NDArray[np.intp]) -> Choice:
    """Return bytes and writer for the best base of gap digits. A gap of g is stored as g - 1, from position -1."""
    gaps = np.diff(positions, prepend=-1)

    def size(base: int) -> int:
        entries = int(gaps.size + ((gaps - 1) // base).sum())
        return digits.best_layout(base, entries).size(entries) + values.size(entries)

    bases = GAP_BASES if values.table is None or values.table[0] == 0 else ()
    base = min(bases, key=size, default=0)

    def write(decoder: Decoder) -> ir.Value:
        steps = _bridged(gaps, base)
        where = np.cumsum(steps) - 1
        widths = decoder.common(np.arange(1, base + 1, dtype=np.int32))
        step = digits.unpack(decoder, "gaps", (steps - 1).astype(np.uint8), widths, base)
        end = decoder.operator("CumSum", step, decoder.common(np.asarray(0, np.int64)))
        place = decoder.operator("Sub", end, decoder.common(np.asarray(1, np.int32)))
        stored = values.write(decoder, values.contents.bits[where])
        zeros = _zeros(decoder, values.contents.values)
        return decoder.operator("ScatterElements", zeros, place, stored, axis=0)

    return size(base) if base else np.iinfo(np.int64).max, write


def _bridged(gaps: NDArray[np.intp], base: int) -> NDArray[np.intp]:
    """Return the gaps with each one over `base` cut into steps of `base` and a rest, all of 1 to `base`."""
    bridges = (gaps - 1) // base
    steps = np.full(gaps.size + int(bridges.sum()), base, np.intp)
    steps[np.cumsum(bridges + 1) - 1] = gaps - bridges * base
    return steps


def _zeros(decoder: Decoder, values: Array) -> ir.Value:
    """Add a flat tensor of zeros."""
    shape = decoder.common(np.asarray([values.size], np.int64))
    zero = ir.tensor(np.zeros(1, values.dtype), name="zero")
    return decoder.operator("ConstantOfShape", shape, value=zero)
