"""One scale for every row, column or channel, and small whole numbers: ternary, binary and integer grids.

A ternary row is 1.6 bits a weight however many rows there are, where a codebook would need two values for each.
"""

from workers.compute.encodings import scales
from workers.compute.encodings.base import Contents, Encoded

_RANK = 2


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return scales along the best axis and the numbers, or None where the values are on no such grid."""
    values = contents.values
    if values.ndim < _RANK or contents.entropy_bits == 0:
        return None
    axes = [axis for axis, size in enumerate(values.shape) if 1 < size < values.size]
    found = (scales.factored(values, [other for other in range(values.ndim) if other != axis]) for axis in axes)
    plans = [plan for factors in found if factors is not None and (plan := scales.plan(factors, opset)) is not None]
    best = min(plans, key=lambda plan: plan.size, default=None)
    return None if best is None else scales.write(contents, opset, best)
