"""MACs of Fourier transforms as the standard defines them: one complex product for each input and frequency.

A fast transform takes fewer; which one runs is the runtime's choice.
"""

import math
from collections.abc import Mapping

from workers.compute.graph.macs.operands import Operands, Rule

_AXIS = 2  # where the axis is among the inputs, from opset 20 on
_REAL = 1  # size of the last axis of real numbers; complex ones have 2


def _products(width: int) -> int:
    """Return the real MACs of a product with a complex factor."""
    return 2 if width == _REAL else 4


def _dft(of: Operands) -> int:
    """Each result's bin, a pair of numbers, sums over the whole transformed axis."""
    data = of.shape(0)
    axis = of.number(_AXIS) if of.has(_AXIS) else of.integer("axis", -2)
    return math.prod(of.result()[:-1]) * data[axis] * _products(data[-1])


def _stft(of: Operands) -> int:
    """Each frame's bins sum over the frame; the window, input 2, multiplies element by element."""
    data, (rows, frames) = of.shape(0), of.result()[:2]
    width = data[-1] if len(data) > 2 else _REAL  # noqa: PLR2004 - (rows, length, 1 or 2)
    length = of.shape(2)[0] if of.has(2) else of.number(3)
    bins = length // 2 + 1 if of.integer("onesided", 1) else length
    return rows * frames * bins * length * _products(width)


STANDARD: Mapping[str, Rule] = {"DFT": _dft, "STFT": _stft}
