"""A reshape as cuts and joints of axes. Arithmetic on sizes; knows no operator and no labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul


@dataclass(frozen=True)
class Block:
    """Neighbouring axes that are regrouped: `before` and `after` are axis numbers, `parts` the sizes both consist of.

    `inside[i]` and `outside[j]` are the slices of `parts` that make up axis `before[i]` and `after[j]`.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    parts: tuple[int, ...]
    inside: tuple[slice, ...]
    outside: tuple[slice, ...]


def reflow(before: Sequence[int], after: Sequence[int]) -> tuple[Block, ...] | None:
    """Return how a reshape regroups its axes, the smallest blocks first to last; None where sizes do not divide.

    Axes of size 1 belong to no block.
    """
    old, new = ([axis for axis, size in enumerate(shape) if size != 1] for shape in (before, after))
    if math.prod(before) != math.prod(after) or 0 in before:
        return None
    blocks: list[Block] = []
    while old or new:
        left, right = _smallest([before[axis] for axis in old], [after[axis] for axis in new])
        block = _block(before, after, tuple(old[:left]), tuple(new[:right]))
        if block is None:
            return None
        blocks.append(block)
        old, new = old[left:], new[right:]
    return tuple(blocks)


def _smallest(old: Sequence[int], new: Sequence[int]) -> tuple[int, int]:
    """Return how many leading sizes of each have the same product."""
    left = right = 1
    while (one := math.prod(old[:left])) != (other := math.prod(new[:right])):
        left, right = (left + 1, right) if one < other else (left, right + 1)
    return left, right


def _block(before: Sequence[int], after: Sequence[int], old: tuple[int, ...], new: tuple[int, ...]) -> Block | None:
    ends_old = list(accumulate((before[axis] for axis in reversed(old)), mul))
    ends_new = list(accumulate((after[axis] for axis in reversed(new)), mul))
    ends = sorted({1, *ends_old, *ends_new})
    if any(large % small for small, large in pairwise(ends)):
        return None
    parts = tuple(large // small for small, large in pairwise(ends))[::-1]
    return Block(old, new, parts, _slices(ends, ends_old), _slices(ends, ends_new))


def _slices(ends: Sequence[int], own: Sequence[int]) -> tuple[slice, ...]:
    """Return which parts lie between one axis's end and the next: ends count from the last, parts from the first."""
    last = len(ends) - 1
    places = [0, *(ends.index(end) for end in own)]
    return tuple(slice(last - high, last - low) for low, high in pairwise(places))[::-1]
