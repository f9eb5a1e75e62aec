"""A codebook for each block of rows, columns or channels, of single values or of sub-vectors of 2, 4 or 8.

Rows are those of any axis, all others being flattened behind it: what product quantisation of a matrix leaves is found
whichever way the matrix is written (Gong et al., 2014).
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
_BLOCKS = (256, 128, 64, 32, 16)  # rows
_WIDTHS = (8, 4, 2, 1)  # values in a sub-vector
_PROBED = 4096  # sub-vectors that are looked at first: most tensors have too many kinds among them


@dataclass(frozen=True)
class _Codebooks:
    """`table` (blocks, entries, width) and, for each sub-vector of the rows in order, its entry in its block's table.

    The rows are those of `axis`; the last block may have fewer than `block` sub-vectors.
    """

    axis: int
    block: int
    table: Array
    entries: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Bytes of tables and of entries as digits."""
        digit = digits.best_layout(max(2, self.table.shape[1]), self.entries.size)
        return self.table.nbytes + 4 * len(self.table) + digit.size(self.entries.size)


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return the smallest tables and entries, or None where blocks have more than 256 kinds of sub-vectors."""
    if opset < OPSET or contents.values.ndim < _RANK or contents.values.size == 0:
        return None
    found = min(_found(contents), key=lambda option: option.size, default=None)
    numbers = None if found is None else streams.smallest(Contents("", found.entries), opset)
    return None if found is None or numbers is None else _written(contents, opset, found, numbers)


def _found(contents: Contents) -> Iterator[_Codebooks]:
    """Yield codebooks of blocks of every size that has fewer entries in each than the size before."""
    values = contents.values
    for axis in range(values.ndim):
        rows = np.ascontiguousarray(np.moveaxis(values, axis, 0)).reshape(values.shape[axis], -1)
        for width in (width for width in _WIDTHS if rows.shape[1] % width == 0):
            whole = [len(rows)] if width > 1 else []  # one table of single values is a codebook
            most = min(contents.distinct.size, digits.MAX_BASE + 1) if width == 1 else digits.MAX_BASE + 1
            for block in (*whole, *(block for block in _BLOCKS if block < len(rows))):
                found = _blocked(rows, block, width)
                if found is None:
                    continue
                if found[0].shape[1] >= most:
                    break
                most = found[0].shape[1]
                yield _Codebooks(axis, block * (rows.shape[1] // width), *found)


def _blocked(rows: Array, block: int, width: int) -> tuple[Array, NDArray[np.uint8]] | None:
    """Return the tables of blocks of so many rows and the entries, or None if one has more kinds than a byte has."""
    keys = _keys(rows, width)
    count = block * (rows.shape[1] // width)
    if np.unique(keys[: min(count, _PROBED)]).size > digits.MAX_BASE:
        return None
    tables, entries = list[Array](), list[NDArray[np.uint8]]()
    for start in range(0, len(keys), count):
        kinds, places = np.unique(keys[start : start + count], return_inverse=True)
        if kinds.size > digits.MAX_BASE:
            return None
        tables.append(kinds.view(rows.dtype).reshape(-1, width))
        entries.append(places.reshape(-1).astype(np.uint8))
    largest = max(map(len, tables))
    filled = [np.pad(table, ((0, largest - len(table)), (0, 0))) for table in tables]
    return np.stack(filled), np.concatenate(entries)


def _keys(rows: Array, width: int) -> Array:
    """Return each sub-vector as one opaque item, to be compared bit by bit; zeros come first where they are sorted."""
    flat = rows.reshape(-1)
    if width == 1:
        return flat.view(f"u{rows.dtype.itemsize}")
    return flat.view(np.dtype((np.void, rows.dtype.itemsize * width)))


def _written(contents: Contents, opset: int, found: _Codebooks, numbers: streams.Stream) -> Encoded:
    decoder, values = Decoder(contents, opset), contents.values
    blocks, kinds, width = found.table.shape
    place = decoder.operator("Cast", numbers.write(decoder), to=int(ir.DataType.INT32))
    if blocks > 1:
        if missing := blocks * found.block - found.entries.size:
            shape, zero = (
                decoder.common(np.asarray([missing], np.int64)),
                ir.tensor(np.zeros(1, np.int32), name="value"),
            )
            place = decoder.operator("Concat", place, decoder.operator("ConstantOfShape", shape, value=zero), axis=0)
        first = decoder.constant("first", np.arange(0, blocks * kinds, kinds, dtype=np.int32).reshape(-1, 1))
        place = decoder.operator("Add", decoder.shaped(place, (blocks, -1)), first)
    table = decoder.constant("codebooks", found.table.reshape((-1, width) if width > 1 else -1))
    flat = decoder.operator("Gather", table, place, axis=0)
    if blocks * found.block > found.entries.size:
        flat = decoder.first(decoder.shaped(flat, (-1,)), values.size)
    order = [found.axis, *(axis for axis in range(values.ndim) if axis != found.axis)]
    turned = decoder.shaped(flat, [values.shape[axis] for axis in order])
    if found.axis:
        turned = decoder.operator("Transpose", turned, perm=np.argsort(order).tolist())
    return decoder.finish(turned)
