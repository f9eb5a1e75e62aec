"""Values that a shorter floating type holds exactly: half precision, bfloat16, and float32 inside float64."""

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import onnx_ir as ir

from workers.compute.encodings.base import Array, Contents, Decoder, Encoded

# Cast names its target by number since opset 6; it knows bfloat16 since 13.
OPSET, BFLOAT16_OPSET = 6, 13


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return the shorter values and a cast, or None where one of them would lose a bit."""
    if opset < OPSET or contents.values.dtype not in (np.float32, np.float64) or contents.values.size == 0:
        return None
    shorter = next((short for short in _shorter(contents.values, opset) if _same(short, contents)), None)
    if shorter is None:
        return None
    decoder = Decoder(contents, opset)
    target = ir.DataType.from_numpy(contents.values.dtype)
    return decoder.finish(decoder.operator("Cast", decoder.constant("short", shorter), to=int(target)))


def _shorter(values: Array, opset: int) -> Iterator[Array]:
    with np.errstate(over="ignore"):
        yield values.astype(np.float16)
        if opset >= BFLOAT16_OPSET:
            yield values.astype(ml_dtypes.bfloat16)
        if values.dtype == np.float64:
            yield values.astype(np.float32)


def _same(shorter: Array, contents: Contents) -> bool:
    return np.array_equal(Contents("", shorter.astype(contents.values.dtype)).bits, contents.bits)
