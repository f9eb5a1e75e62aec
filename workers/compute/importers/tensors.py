"""What the file's tensors may hold: whole, finite, of types that we train, and at least one weight."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from app.errors import ModelMalformed, ModelNonfinite, ModelUnsupported, NothingToCompress
from workers.compute.importers import element_types, external_data, walk
from workers.compute.importers.element_types import BITS, FLOATS
from workers.compute.wording import shown

_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_PIECE = 1 << 22  # elements looked at together: a copy of a large tensor would double what the model takes


def check(model: onnx.ModelProto, folder: Path | None = None) -> None:
    """Raise ModelMalformed, ModelUnsupported, ModelNonfinite or NothingToCompress, naming the tensor.

    `folder` holds the files that tensors refer to; the references have been checked.
    """
    if any(graph.sparse_initializer for graph in walk.graphs(model)):
        raise ModelUnsupported(
            "The model holds sparse initializers; save it with dense ones, they are packed again at the end."
        )
    for tensor in walk.tensors(model):
        element_types.check(tensor)
        if not external_data.is_outside(tensor):  # what is outside has been measured with its reference
            _whole(tensor)
    weights = 0
    for name, tensor in walk.constants(model.graph):
        if tensor.data_type in FLOATS:
            size = element_types.size_of(tensor)
            _finite(name, size, _pieces(tensor, folder))
            weights += size > 1
    if not weights:
        raise NothingToCompress("The model has no floating-point weights.")


def _whole(tensor: TensorProto) -> None:
    """Check that the data are as long as the shape says, so that no library reads beyond them."""
    size = element_types.size_of(tensor)
    if tensor.data_type == TensorProto.STRING:
        held, needed = len(tensor.string_data), size
    elif tensor.HasField("raw_data"):
        held, needed = len(tensor.raw_data), element_types.bytes_needed(tensor)
    else:
        packing = max(1, 8 // BITS[tensor.data_type])  # types below a byte: several elements to an int32 entry
        held, needed = max(len(getattr(tensor, field)) for field in _FIELDS), -(-size // packing)
    if held != needed:
        raise ModelMalformed(f"Tensor {shown(tensor.name)!r} holds {held:,} units of data; its shape needs {needed:,}.")


def _pieces(tensor: TensorProto, folder: Path | None) -> Iterator[NDArray[np.generic]]:
    if folder is not None and external_data.is_outside(tensor):
        yield from external_data.pieces(tensor, folder, _PIECE)
        return
    values = numpy_helper.to_array(tensor).reshape(-1)
    for start in range(0, values.size, _PIECE):
        yield values[start : start + _PIECE]


def _finite(name: str, size: int, pieces: Iterable[NDArray[np.generic]]) -> None:
    """Refuse NaN and infinity, except where they are meant: scalars, and attention masks of 0 and -inf."""
    nan = above = below = plain = False
    for piece in pieces:
        with np.errstate(invalid="ignore"):  # a signalling NaN would warn on its way to being refused
            values: NDArray[np.floating] = piece.astype(np.result_type(piece.dtype, np.float32), copy=False)
        finite = np.isfinite(values)
        plain = plain or bool(np.any(values, where=finite))
        if not finite.all():
            nan = nan or bool(np.isnan(values).any())
            above = above or bool(np.isposinf(values).any())
            below = below or bool(np.isneginf(values).any())
    meant = size == 1 or not (above or (below and plain))
    if nan or not meant:
        what = "NaN" if nan else "infinite"
        raise ModelNonfinite(f"Tensor {shown(name)!r} holds {what} values.")
