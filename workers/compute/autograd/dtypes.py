"""ONNX element types as PyTorch ones, and tensors across that border. Knows no graph."""

from typing import cast

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

# PyTorch computes with no type narrower than a byte, so those values travel in the next wider type.
TORCH_TYPES: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.INT4: torch.int8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.INT2: torch.int8,
    ir.DataType.UINT2: torch.uint8,
    ir.DataType.FLOAT4E2M1: torch.float32,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    ir.DataType.FLOAT8E8M0: torch.float8_e8m0fnu,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
}

# numpy types that PyTorch cannot take, with the plain type of the same width and the PyTorch type of the same bits.
_SAME_BITS: dict[np.dtype[np.generic], tuple[type[np.generic], torch.dtype]] = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float8_e8m0fnu): (np.uint8, torch.float8_e8m0fnu),
}
_WIDER: dict[np.dtype[np.generic], type[np.generic]] = {
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.uint4): np.uint8,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.uint2): np.uint8,
    np.dtype(ml_dtypes.float4_e2m1fn): np.float32,
}


def from_numpy(array: NDArray[np.generic]) -> Tensor:
    """Copy an array, of any ONNX numeric type, into a tensor of the same shape."""
    if array.dtype in _WIDER:
        array = array.astype(_WIDER[array.dtype])
    if array.dtype not in _SAME_BITS:
        return torch.from_numpy(np.array(array, order="C", copy=True).reshape(array.shape))
    plain, kind = _SAME_BITS[array.dtype]
    return torch.from_numpy(np.array(array, order="C", copy=True).view(plain).reshape(array.shape)).view(kind)


def to_numpy(tensor: Tensor) -> NDArray[np.generic]:
    """Copy a tensor into an array of the same shape and type."""
    tensor = tensor.detach().cpu().contiguous()
    for array_type, (plain, kind) in _SAME_BITS.items():
        if tensor.dtype == kind:
            bits = tensor.view(torch.int16 if plain is np.int16 else torch.uint8).numpy()
            return bits.view(array_type).copy()
    return np.array(tensor.numpy(), copy=True)


def to_floats(tensor: Tensor) -> NDArray[np.floating]:
    """Copy a floating-point tensor into an array."""
    return cast("NDArray[np.floating]", to_numpy(tensor))


def widen(kind: torch.dtype, precision: torch.dtype) -> torch.dtype:
    """Return the type to compute in: `precision` for a floating type that is narrower."""
    narrow = kind.is_floating_point and 1 < kind.itemsize < precision.itemsize
    return precision if narrow else kind
