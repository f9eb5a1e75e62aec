"""Rows as batches of tensors: order, trimming of padded text, device. Knows no model beyond its input shapes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.compute.datasets.samples import Array, Samples
from workers.compute.graph.model import Model

MASK = "attention_mask"
_MATRIX = 2


def sequence_inputs(model: Model) -> tuple[str, ...]:
    """Return the inputs that share the attention mask's dynamic sequence axis; none when there is no such axis."""
    inputs = {value.name or "": value for value in model.graph.inputs}
    mask = inputs.get(MASK)
    if mask is None or mask.shape is None or len(mask.shape) != _MATRIX or isinstance(mask.shape[1], int):
        return ()
    axis = mask.shape[1]
    if any(_is_unclear(value, axis) for value in inputs.values()):
        return ()
    return tuple(name for name, value in inputs.items() if value.shape is not None and axis in tuple(value.shape)[1:2])


def _is_unclear(value: ir.Value, axis: ir.SymbolicDim | int) -> bool:
    """Whether an input may hold the sequence elsewhere than on its second axis, or under another name there."""
    if value.shape is None:
        return True
    first, second, rest = value.shape[:1], tuple(value.shape)[1:2], tuple(value.shape)[2:]
    return axis in rest or axis in tuple(first) or any(not isinstance(size, int) and size != axis for size in second)


def trimmed(inputs: Mapping[str, Array], names: tuple[str, ...]) -> dict[str, Array]:
    """Cut the inputs `names` to the longest row of a right-padded batch; other batches stay as they are."""
    if not names:
        return dict(inputs)
    mask = inputs[MASK] != 0
    if np.any(mask[:, 1:] & ~mask[:, :-1]):
        return dict(inputs)
    longest = max(int(mask.sum(axis=1).max(initial=0)), 1)
    return {name: array[:, :longest] if name in names else array for name, array in inputs.items()}


def tensors(inputs: Mapping[str, Array]) -> dict[str, Tensor]:
    """Return the arrays as tensors on the host."""
    return {name: torch.from_numpy(np.array(array, order="C", copy=True)) for name, array in inputs.items()}


@dataclass(frozen=True)
class Blend:
    """What the rows of a batch were mixed with: the others' labels, and the share of its own in each mixture."""

    labels: Tensor | None
    share: float


@dataclass(frozen=True)
class Batch:
    """Rows of a split in some order: `rows` are their positions there; with a `blend`, `inputs` are mixtures."""

    rows: NDArray[np.integer]
    inputs: dict[str, Tensor]
    labels: Tensor | None
    blend: Blend | None = None


def batch_of(samples: Samples, rows: NDArray[np.integer], names: tuple[str, ...] = ()) -> Batch:
    """Return the given rows as a batch, trimmed over the inputs `names`."""
    chosen = samples.take(rows)
    labels = None if chosen.labels is None else torch.from_numpy(np.array(chosen.labels, copy=True))
    if labels is not None and not labels.is_floating_point():
        labels = labels.long()
    return Batch(rows, tensors(trimmed(chosen.inputs, names)), labels)


def in_order(samples: Samples, size: int, names: tuple[str, ...] = ()) -> Iterator[Batch]:
    """Yield consecutive batches."""
    for start in range(0, len(samples), size):
        yield batch_of(samples, np.arange(start, min(start + size, len(samples))), names)


def epoch_rows(count: int, size: int, seed: int, epoch: int) -> list[NDArray[np.integer]]:
    """Return the row numbers of each batch of one epoch, shuffled by the seed and the epoch.

    A last batch of one row is left out where there are others: it has no batch statistics.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    batches: list[NDArray[np.integer]] = [order[start : start + size] for start in range(0, count, size)]
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches
