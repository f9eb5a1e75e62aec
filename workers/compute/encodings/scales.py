"""Groups of floating values that are one scale times small whole numbers: found by their bits, written apart.

The product is taken in float32 (float64 for such tensors), as a runtime does, and must give back the very same bits.
Knows no quantiser: the values alone tell the grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.encodings import digits, streams
from workers.compute.encodings.base import Array, Contents, Decoder, Encoded

Float = NDArray[np.floating]

_LARGEST = 255  # whole number in a group: 8 bits, signed or not
# A tensor of other values is given up after this many groups.
_PROBED = 64
# A group of more values is judged by this many, then checked in full.
_SAMPLED = 512


@dataclass(frozen=True)
class Factors:
    """`numbers` (whole, rank of the view) times `scale` (the view's rank, 1 along the group) are the values."""

    numbers: Float
    scale: Float


@dataclass(frozen=True)
class Plan:
    """How factors are stored: the numbers less `low` (whole, shaped like the scale; None: as they are).

    `bytes_only` says that the stream is of bytes, which decode in less time than floats.
    """

    factors: Factors
    low: Float | None
    numbers: streams.Stream
    bytes_only: bool
    size: int


def factored(view: Array, axes: Sequence[int]) -> Factors | None:
    """Return the factors of `view`, whose groups span `axes`, or None where one group is not on a grid."""
    if view.size == 0 or not np.issubdtype(view.dtype, np.floating):
        return None
    floats = cast("Float", view)
    few = _few(floats, axes)
    if few.size < floats.size and (not np.isfinite(few).all() or _numbers(_groups(few, axes)) is None):
        return None
    found = _split(_groups(floats, axes)) if np.isfinite(floats).all() else None
    if found is None:
        return None
    numbers, scale = found
    order = _order(view, axes)
    turned = tuple(view.shape[axis] for axis in order)
    kept_shape = tuple(1 if axis in axes else size for axis, size in enumerate(view.shape))
    return Factors(numbers.reshape(turned).transpose(np.argsort(order)), scale.reshape(kept_shape))


def _few(view: Float, axes: Sequence[int]) -> Float:
    """Return some 64 of the groups: most tensors are on no grid, and to turn a large one around takes long."""
    left, cuts = _PROBED, []
    for axis, size in enumerate(view.shape):
        taken = size if axis in axes else min(size, left)
        cuts.append(slice(taken))
        left = left if axis in axes else max(1, left // taken)
    return view[tuple(cuts)]


def _order(view: Array, axes: Sequence[int]) -> tuple[int, ...]:
    return (*(axis for axis in range(view.ndim) if axis not in axes), *axes)


def _groups(view: Float, axes: Sequence[int]) -> Float:
    """Return the groups as rows."""
    return view.transpose(_order(view, axes)).reshape(-1, int(np.prod([view.shape[axis] for axis in axes])))


def plan(factors: Factors, opset: int) -> Plan | None:
    """Return the smaller of signed numbers and numbers above each group's least; None where neither fits a byte."""
    return min(_plans(factors, opset), key=lambda option: option.size, default=None)


def write(contents: Contents, opset: int, chosen: Plan) -> Encoded:
    """Return scales, numbers and the operators that multiply them."""
    decoder, scale = Decoder(contents, opset), chosen.factors.scale
    found = decoder.shaped(chosen.numbers.write(decoder), chosen.factors.numbers.shape)
    if chosen.bytes_only:
        found = decoder.operator("Cast", found, to=int(ir.DataType.from_numpy(scale.dtype)))
    if chosen.low is not None:
        table, places = np.unique(chosen.low, return_inverse=True)
        rows = decoder.constant("lows", np.resize(table, max(2, table.size)))
        low = digits.unpack(decoder, "low", places.reshape(-1), rows, max(2, table.size))
        found = decoder.operator("Add", found, decoder.shaped(low, scale.shape))
    found = decoder.operator("Mul", found, _scale(decoder, scale))
    if contents.values.dtype != scale.dtype:
        found = decoder.operator("Cast", found, to=int(ir.DataType.from_numpy(contents.values.dtype)))
    if chosen.factors.numbers.shape != contents.values.shape:
        found = decoder.shaped(found, contents.values.shape)
    return decoder.finish(found)


def _plans(factors: Factors, opset: int) -> Iterator[Plan]:
    whole = _as_bytes(factors.numbers)
    signed = streams.smallest(Contents("", whole), opset)
    scales = _scale_bytes(factors.scale)
    if signed is not None:
        yield Plan(factors, None, signed, whole.itemsize == 1, signed.size + scales)
    if np.signbit(factors.numbers[factors.numbers == 0]).any():
        return  # adding would turn -0.0 into 0.0
    axes = tuple(axis for axis, size in enumerate(factors.scale.shape) if size != factors.numbers.shape[axis])
    low = factors.numbers.min(axis=axes, keepdims=True)
    table = np.unique(low)
    above = _as_bytes(factors.numbers - low)
    raised = streams.digits_of(Contents("", above), opset)
    if raised is not None and table.size <= digits.MAX_BASE:
        lows = digits.best_layout(max(2, table.size), low.size).size(low.size) + table.nbytes
        yield Plan(factors, low, raised, above.itemsize == 1, raised.size + scales + lows)


def _as_bytes(numbers: Float) -> Array:
    """Return whole numbers as signed or unsigned bytes, or as they are where those would lose one or a sign of zero."""
    if np.signbit(numbers[numbers == 0]).any():
        return numbers
    least, most = float(numbers.min()), float(numbers.max())
    if np.iinfo(np.int8).min <= least and most <= np.iinfo(np.int8).max:
        return numbers.astype(np.int8)
    return numbers.astype(np.uint8) if least >= 0 and most <= np.iinfo(np.uint8).max else numbers


def _half(scale: Float) -> NDArray[np.float16] | None:
    """Return the scales in half precision if they lose nothing by it."""
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    return half if np.array_equal(half.astype(scale.dtype), scale) else None


def _scale_bytes(scale: Float) -> int:
    half = _half(scale)
    return scale.nbytes if half is None else half.nbytes


def _scale(decoder: Decoder, scale: Float) -> ir.Value:
    half = _half(scale)
    if half is None:
        return decoder.constant("scale", scale)
    return decoder.operator("Cast", decoder.constant("scale", half), to=int(ir.DataType.from_numpy(scale.dtype)))


def _split(groups: Float) -> tuple[Float, Float] | None:
    """Return whole numbers like `groups`, (groups, values), and scales (groups, 1), or None."""
    numbers = _numbers(groups)
    return None if numbers is None else _scaled(groups, numbers)


def _numbers(groups: Float) -> Float | None:
    """Return the least whole numbers in proportion to each group's values, or None."""
    sizes = np.abs(groups.astype(np.float64))
    largest = sizes.max(axis=1, keepdims=True)
    shares = np.divide(sizes, largest, out=np.zeros_like(sizes), where=largest > 0)
    precision = 2 * float(np.finfo(groups.dtype).eps)  # of both values, and of the share in float64
    step = -(-groups.shape[1] // _SAMPLED)
    tops = _tops(shares[:, ::step], precision)
    if tops.all() and not (exact := _whole(shares, tops, precision)).all():
        tops[~exact] = _tops(shares[~exact], precision)
    if not tops.all():
        return None
    wide = np.float64 if groups.dtype == np.float64 else np.float32
    numbers: Float = np.copysign(np.rint(shares * tops), groups).astype(wide)
    return numbers


def _tops(shares: NDArray[np.float64], precision: float) -> NDArray[np.float64]:
    """Return the whole number of each group's largest value, (groups, 1), or 0 where none up to 255 will do.

    All gaps between shares k / top are multiples of 1 / top, so the top is a multiple of 1 / the smallest gap.
    """
    gaps = np.diff(np.sort(shares, axis=1), axis=1, prepend=0.0)
    gap = np.where(gaps > 0, gaps, 1.0).min(axis=1, keepdims=True)
    tops, left = np.zeros_like(gap), np.flatnonzero(gap * (_LARGEST + 0.5) > 1)
    for multiple in range(1, _LARGEST + 1):
        tried = np.rint(multiple / gap[left])
        found = _whole(shares[left], tried, precision)
        tops[left[found]] = tried[found]
        left = left[~found & (tried[:, 0] < _LARGEST)]
        if not left.size:
            break
    return np.where(tops <= _LARGEST, tops, 0)


def _whole(shares: NDArray[np.float64], tops: NDArray[np.float64], precision: float) -> NDArray[np.bool_]:
    """Return which groups are whole numbers when their largest is `tops`, to within rounding."""
    numbers = shares * tops
    whole: NDArray[np.bool_] = np.all(np.abs(numbers - np.rint(numbers)) <= tops * precision, axis=1)
    return whole


def _scaled(groups: Float, numbers: Float) -> tuple[Float, Float] | None:
    """Return the numbers with scales whose products have the very bits of `groups`, or None."""
    middle = _between(groups, numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        half: Float = middle.astype(np.float16).astype(numbers.dtype)
        if not (half <= 0).any() and not _missed(groups, numbers, half).any():
            return numbers, half
        nearest: Float = middle.astype(numbers.dtype)
        scale = nearest.copy()
        missed = _missed(groups, numbers, scale)
        for edge in (0, np.inf):
            scale[missed] = np.nextafter(nearest, nearest.dtype.type(edge))[missed]
            missed = _missed(groups, numbers, scale)
    return None if missed.any() else (numbers, scale)


def _between(groups: Float, numbers: Float) -> NDArray[np.float64]:
    """Return the middle of the scales that each group allows, (groups, 1); 1 for a group of zeros.

    A value allows those whose product with its number lies nearer to it than to its neighbours.
    """
    sizes, whole, alive = np.abs(groups), np.abs(numbers.astype(np.float64)), numbers != 0
    with np.errstate(over="ignore"):  # above the largest number is infinity, and no scale is found
        below, above = (
            (sizes + np.nextafter(sizes, sizes.dtype.type(edge)).astype(np.float64)) / 2 for edge in (0, np.inf)
        )
    least = np.divide(below, whole, out=np.zeros_like(below), where=alive).max(axis=1, keepdims=True)
    most = np.divide(above, whole, out=np.full_like(above, np.inf), where=alive).min(axis=1, keepdims=True)
    middle: NDArray[np.float64] = np.where(np.isfinite(most), (least + most) / 2, 1.0)
    return middle


def _missed(groups: Float, numbers: Float, scale: Float) -> NDArray[np.bool_]:
    """Return which groups the products differ from in a bit."""
    product = (numbers * scale).astype(groups.dtype)
    differ = Contents("", product).bits != Contents("", groups).bits
    missed: NDArray[np.bool_] = np.any(differ.reshape(groups.shape), axis=1)
    return missed
