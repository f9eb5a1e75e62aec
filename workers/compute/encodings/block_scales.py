"""One scale for every block of 16 to 128 weights along an axis, and small whole numbers, as int4 and int8 formats have.

It is decoded by a plain product. ONNX Runtime 1.32 does not fold DequantizeLinear: before a MatMul it makes
MatMulNBits of it, whose answers differ in the last bits, and before a Gather it would run in every call.
"""

from collections.abc import Iterator

from workers.compute.encodings import scales
from workers.compute.encodings.base import Contents, Encoded

_BLOCKS = (128, 64, 32, 16)


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return scales of the best blocks and the numbers, or None where the values are on no such grid."""
    values = contents.values
    if contents.entropy_bits == 0:
        return None
    plans = [plan for axis in range(values.ndim) if (plan := _along(contents, axis, opset)) is not None]
    best = min(plans, key=lambda plan: plan.size, default=None)
    return None if best is None else scales.write(contents, opset, best)


def _along(contents: Contents, axis: int, opset: int) -> scales.Plan | None:
    """Return the plan with the widest blocks that fit along this axis: wider ones have fewer scales."""
    for shape in _views(contents.values.shape, axis):
        factors = scales.factored(contents.values.reshape(shape), [axis + 1])
        if factors is not None:
            return scales.plan(factors, opset)
    return None


def _views(shape: tuple[int, ...], axis: int) -> Iterator[tuple[int, ...]]:
    length = shape[axis]
    for block in _BLOCKS:
        if length > block and length % block == 0:
            yield (*shape[:axis], length // block, block, *shape[axis + 1 :])
