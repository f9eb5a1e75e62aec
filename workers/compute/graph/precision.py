"""Scales with no more digits than half precision has, so that they can be stored in 2 bytes. Knows no graph."""

import numpy as np
from numpy.typing import NDArray

# float32 keeps 23 bits behind the leading one, float16 keeps 10.
DROPPED_BITS = 13


def short(scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return scales of 0 and more rounded to 10 bits behind the leading one, in the range of float32."""
    bits = np.ascontiguousarray(scale, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS << DROPPED_BITS
    return rounded.astype(np.uint32).view(np.float32)
