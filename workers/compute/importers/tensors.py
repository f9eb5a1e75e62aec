"""What the file's tensors may hold: whole, finite, of types that we train, and at least one weight."""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from app.errors import ModelMalformed, ModelNonfinite, ModelUnsupported, NothingToCompress
from workers.compute.importers import walk
from workers.compute.wording import shown

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
PLAIN = FLOATS | {
    TensorProto.BOOL,
    TensorProto.STRING,
    *(getattr(TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)),
}
# Bits per element; complex numbers and 8-bit floats are refused before this is asked.
_FLOAT_BITS = {TensorProto.DOUBLE: 64, TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16}
_BITS = {TensorProto.BOOL: 8, **_FLOAT_BITS} | {
    getattr(TensorProto, f"{sign}INT{bits}"): bits for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)
}
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def check(model: onnx.ModelProto) -> None:
    """Raise ModelMalformed, ModelUnsupported, ModelNonfinite or NothingToCompress, naming the tensor."""
    if any(graph.sparse_initializer for graph in walk.graphs(model)):
        raise ModelUnsupported(
            "The model holds sparse initializers; save it with dense ones, they are packed again at the end."
        )
    for tensor in walk.tensors(model):
        _type(tensor)
        _whole(tensor)
    weights = 0
    for name, tensor in walk.constants(model.graph):
        if tensor.data_type in FLOATS:
            values = numpy_helper.to_array(tensor)
            _finite(name, values)
            weights += values.size > 1
    if not weights:
        raise NothingToCompress("The model has no floating-point weights.")


def _type(tensor: TensorProto) -> None:
    if tensor.data_type in PLAIN:
        return
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise ModelMalformed(f"Tensor {shown(tensor.name)!r} has no known type.")
    kind = TensorProto.DataType.Name(tensor.data_type).lower()
    raise ModelUnsupported(
        f"Tensor {shown(tensor.name)!r} is of type {kind}; float16, bfloat16, float and double are supported."
    )


def _whole(tensor: TensorProto) -> None:
    """Check that the data are as long as the shape says, so that no library reads beyond them."""
    size = math.prod(tensor.dims)
    if any(dim < 0 for dim in tensor.dims):
        raise ModelMalformed(f"Tensor {shown(tensor.name)!r} has a negative dimension.")
    if tensor.data_type == TensorProto.STRING:
        held, needed = len(tensor.string_data), size
    elif tensor.HasField("raw_data"):
        held, needed = len(tensor.raw_data), -(-size * _BITS[tensor.data_type] // 8)
    else:
        packing = max(1, 8 // _BITS[tensor.data_type])  # types below a byte: several elements to an int32 entry
        held, needed = max(len(getattr(tensor, field)) for field in _FIELDS), -(-size // packing)
    if held != needed:
        raise ModelMalformed(f"Tensor {shown(tensor.name)!r} holds {held:,} units of data; its shape needs {needed:,}.")


def _finite(name: str, values: NDArray[np.generic]) -> None:
    """Refuse NaN and infinity, except where they are meant: scalars, and attention masks of 0 and -inf."""
    with np.errstate(invalid="ignore"):  # a signalling NaN would warn on its way to being refused
        plain: NDArray[np.float64] = values.astype(np.float64)
    if np.isfinite(plain).all():
        return
    unmeant = np.isnan(plain) if values.size == 1 else ~(np.isfinite(plain) | np.isneginf(plain))
    is_mask = values.size == 1 or not np.any(plain[np.isfinite(plain)])
    if unmeant.any() or not is_mask:
        what = "NaN" if np.isnan(plain).any() else "infinite"
        raise ModelNonfinite(f"Tensor {shown(name)!r} holds {what} values.")
