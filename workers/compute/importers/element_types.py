"""Which element types a file's tensors may have, and how many bytes a tensor of each needs."""

import math

from onnx import TensorProto

from app.errors import ModelMalformed, ModelUnsupported
from workers.compute.wording import shown

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
_PLAIN = FLOATS | {
    TensorProto.BOOL,
    TensorProto.STRING,
    *(getattr(TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)),
}
# Bits per element; complex numbers and 8-bit floats are refused before this is asked.
_FLOAT_BITS = {TensorProto.DOUBLE: 64, TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16}
BITS: dict[int, int] = {TensorProto.BOOL: 8, **_FLOAT_BITS} | {
    getattr(TensorProto, f"{sign}INT{bits}"): bits for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)
}


def check(tensor: TensorProto) -> None:
    """Raise ModelMalformed or ModelUnsupported for a type that is unknown or not admitted."""
    if tensor.data_type in _PLAIN:
        return
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise ModelMalformed(f"Tensor {shown(tensor.name)!r} has no known type.")
    kind = TensorProto.DataType.Name(tensor.data_type).lower()
    raise ModelUnsupported(
        f"Tensor {shown(tensor.name)!r} is of type {kind}; float16, bfloat16, float and double are supported."
    )


def size_of(tensor: TensorProto) -> int:
    """Return the number of elements. Raises ModelMalformed for a negative dimension."""
    if any(dim < 0 for dim in tensor.dims):
        raise ModelMalformed(f"Tensor {shown(tensor.name)!r} has a negative dimension.")
    return math.prod(tensor.dims)


def bytes_needed(tensor: TensorProto) -> int:
    """Return the length of the tensor's raw data, which strings do not have. Raises what `size_of` raises."""
    return -(-size_of(tensor) * BITS[tensor.data_type] // 8)
