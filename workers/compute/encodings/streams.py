"""A flat run of values in the fewest bytes: digits of a table, or a background and where and what else there is.

The background is the commonest value: zero in a pruned tensor, the zero point in a quantised one. Places are a bit for
every value, or gaps (Deep Compression, 2016); a gap too wide for its digit is bridged by stored background. Knows
nothing of shapes and scales.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.encodings import digits
from workers.compute.encodings.base import Contents, Decoder

# The opsets of what is needed: MatMul of integers; CumSum and ScatterElements.
DIGITS_OPSET, POSITIONS_OPSET = 9, 11
# Above this share of other values the places cost more than they save on any value of 4 bytes or less.
MAX_DENSITY = 0.97
# Largest gap stored in one digit: powers of two and the steps between.
GAP_BASES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

Bits = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Stream:
    """One way to write flat values: the bytes of its constants, and what adds them and the operators."""

    size: int
    write: Callable[[Decoder], ir.Value]


@dataclass(frozen=True)
class _Flat:
    """Flat bit patterns of one type, and the table of distinct ones where values are stored as rows of that."""

    contents: Contents
    table: Bits | None = None

    @cached_property
    def bits(self) -> Bits:
        """All bit patterns."""
        return self.contents.bits

    @cached_property
    def background(self) -> Bits:
        """The commonest bit pattern, shape (1,)."""
        return self.contents.commonest

    @cached_property
    def positions(self) -> NDArray[np.intp]:
        """Where the background is not."""
        return np.flatnonzero(self.bits != self.background)

    def size(self, count: int) -> int:
        """Bytes that `count` stored elements take."""
        if self.table is None:
            return count * self.bits.itemsize
        return self.table.nbytes + digits.best_layout(self.table.size, count).size(count)

    def store(self, decoder: Decoder, stored: Bits) -> ir.Value:
        """Add constants and operators that give the flat stored elements."""
        if self.table is None:
            return decoder.constant("stored", stored.view(self.contents.values.dtype))
        codebook = decoder.constant("codebook", self.table.view(self.contents.values.dtype))
        indices = np.searchsorted(self.table, stored)
        return digits.unpack(decoder, "indices", indices, codebook, self.table.size)


def smallest(contents: Contents, opset: int) -> Stream | None:
    """Return the smallest stream of any kind, or None where values or operators allow none but storing them plainly."""
    choices = [stream for stream in (digits_of(contents, opset), positions_of(contents, opset)) if stream is not None]
    return min(choices, key=lambda stream: stream.size, default=None)


def digits_of(contents: Contents, opset: int) -> Stream | None:
    """Return every value as a row of the table of distinct ones; None for more than 256 of them."""
    table, values = contents.distinct, contents.values
    if opset < DIGITS_OPSET or not 1 <= table.size <= digits.MAX_BASE:
        return None

    def write(decoder: Decoder) -> ir.Value:
        rows = decoder.constant("codebook", table.view(values.dtype))
        indices = np.searchsorted(table, contents.bits)
        if table.size == 1:
            rows, indices = decoder.operator("Concat", rows, rows, axis=0), np.zeros_like(indices)
        return digits.unpack(decoder, "indices", indices, rows, max(2, table.size))

    return Stream(table.nbytes + digits.best_layout(max(2, table.size), values.size).size(values.size), write)


def positions_of(contents: Contents, opset: int) -> Stream | None:
    """Return the smallest of mask or gaps with plain or shared values; None where no value is common."""
    if opset < POSITIONS_OPSET or not 0 < contents.scattered <= MAX_DENSITY * contents.values.size:
        return None
    options = [_Flat(contents)]
    if contents.distinct.size <= digits.MAX_BASE:
        options.append(_Flat(contents, contents.distinct))
    choices = [place(flat) for flat in options for place in (_by_mask, _by_gaps)]
    return min(choices, key=lambda choice: choice.size)


def _by_mask(flat: _Flat) -> Stream:
    """Return a bit per value. The running count of bits is the row in the stored values."""

    def write(decoder: Decoder) -> ir.Value:
        table = decoder.common(np.asarray([0, 1], np.int32))
        bit = digits.unpack(decoder, "mask", (flat.bits != flat.background).astype(np.uint8), table, 2)
        axis = decoder.common(np.asarray(0, np.int64))
        row = decoder.operator("Mul", decoder.operator("CumSum", bit, axis), bit)
        stored = np.concatenate([flat.background, flat.bits[flat.positions]])
        return decoder.operator("Gather", flat.store(decoder, stored), row, axis=0)

    mask = digits.best_layout(2, flat.bits.size).size(flat.bits.size)
    return Stream(mask + flat.size(flat.positions.size + 1), write)


def _by_gaps(flat: _Flat) -> Stream:
    """Return the best base of gap digits. A gap of g is stored as g - 1, from position -1."""
    gaps = np.diff(flat.positions, prepend=-1)

    def size(base: int) -> int:
        entries = int(gaps.size + ((gaps - 1) // base).sum())
        return digits.best_layout(base, entries).size(entries) + flat.size(entries)

    base = min(GAP_BASES, key=size)

    def write(decoder: Decoder) -> ir.Value:
        steps = _bridged(gaps, base)
        where = np.cumsum(steps) - 1
        widths = decoder.common(np.arange(1, base + 1, dtype=np.int32))
        step = digits.unpack(decoder, "gaps", (steps - 1).astype(np.uint8), widths, base)
        end = decoder.operator("CumSum", step, decoder.common(np.asarray(0, np.int64)))
        place = decoder.operator("Sub", end, decoder.common(np.asarray(1, np.int32)))
        stored = flat.store(decoder, flat.bits[where])
        return decoder.operator("ScatterElements", _background(decoder, flat), place, stored, axis=0)

    return Stream(size(base), write)


def _bridged(gaps: NDArray[np.intp], base: int) -> NDArray[np.intp]:
    """Return the gaps with each one over `base` cut into steps of `base` and a rest, all of 1 to `base`."""
    bridges = (gaps - 1) // base
    steps = np.full(gaps.size + int(bridges.sum()), base, np.intp)
    steps[np.cumsum(bridges + 1) - 1] = gaps - bridges * base
    return steps


def _background(decoder: Decoder, flat: _Flat) -> ir.Value:
    """Add a flat tensor of the background value alone."""
    shape = decoder.common(np.asarray([flat.bits.size], np.int64))
    value = ir.tensor(flat.background.view(flat.contents.values.dtype), name="value")
    return decoder.operator("ConstantOfShape", shape, value=value)
