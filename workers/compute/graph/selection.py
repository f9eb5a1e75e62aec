"""Which weights are least: by rank, by threshold, by N:M pattern. Arrays in, masks out; knows no graph."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Magnitudes = NDArray[np.floating]
Kept = NDArray[np.bool_]


def keep_largest(magnitudes: Mapping[str, Magnitudes], sparsity: float) -> dict[str, Kept]:
    """Return masks that keep all but the round(sparsity · weights) least of all tensors together; ties in order."""
    sizes = [array.size for array in magnitudes.values()]
    flat = np.concatenate([array.reshape(-1) for array in magnitudes.values()])
    kept = np.ones(flat.size, np.bool_)
    kept[_least(flat, round(sparsity * flat.size))] = False
    parts = np.split(kept, np.cumsum(sizes)[:-1])
    return {name: part.reshape(magnitudes[name].shape) for name, part in zip(magnitudes, parts, strict=True)}


def _least(flat: Magnitudes, count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` least; of equals the first, so that the choice is repeatable."""
    if count == 0:
        return np.empty(0, np.intp)
    limit = np.partition(flat, count - 1)[count - 1]
    below = np.flatnonzero(flat < limit)
    return np.concatenate([below, np.flatnonzero(flat == limit)[: count - below.size]])


def keep_pattern(magnitudes: Magnitudes, axis: int, keep: int, group: int) -> Kept:
    """Return a mask that keeps the `keep` largest of every `group` along `axis`; a short rest stays whole."""
    moved = np.moveaxis(magnitudes, axis, -1)
    whole = moved.shape[-1] // group * group
    groups = moved[..., :whole].reshape(*moved.shape[:-1], -1, group)
    order = np.argsort(-groups, axis=-1, kind="stable")
    chosen = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(chosen, order[..., :keep], values=True, axis=-1)
    kept = np.ones(moved.shape, np.bool_)
    kept[..., :whole] = chosen.reshape(*moved.shape[:-1], whole)
    return np.ascontiguousarray(np.moveaxis(kept, -1, axis))
