"""What a timed model is fed: real rows where there are any, else made-up valid ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.contracts.model import TensorSpec
from app.errors import ModelUnsupported
from workers.compute.datasets.samples import Samples
from workers.compute.signature import Signature

FEEDS = 8
# Lengths of free axes other than the batch: tokens of a text, and the sides and channels of an image.
TOKENS, SIDE, CHANNELS = 64, 224, 3
_IMAGE = 4
_FLOATS = {"float": np.float32, "double": np.float64, "float16": np.float16}
_INTEGERS = {
    name: np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}

Feed = dict[str, NDArray[np.generic]]


def feeds_for(signature: Signature, batch_size: int, samples: Samples | None, seed: int = 0) -> list[Feed]:
    """Return a few batches to cycle through; a fixed batch axis overrides `batch_size`.

    Made-up rows: floats are standard normal, masks are 1, other integers 0 or 1 (valid in every embedding). A free axis
    is 64 long, in images 3 channels of 224 x 224. Raises ModelUnsupported for inputs of other types.
    """
    size = signature.fixed_batch or batch_size
    if samples is not None:
        rows = np.arange(size * FEEDS) % len(samples)
        return [dict(samples.take(part).inputs) for part in np.split(rows, FEEDS)]
    generator = np.random.default_rng(seed)
    return [{spec.name: _made_up(spec, size, generator) for spec in signature.inputs} for _ in range(FEEDS)]


def free_sizes(inputs: Sequence[TensorSpec], samples: Samples | None) -> dict[str, int]:
    """Return the length of each free axis but the batch, by name or `input.place`: as in the data, else made up."""
    sizes: dict[str, int] = {}
    for spec in inputs:
        shape = None if samples is None else samples.inputs[spec.name].shape
        for place, axis in enumerate(spec.shape):
            if place and not isinstance(axis, int):
                sizes[axis or f"{spec.name}.{place}"] = _length(spec, place, 1) if shape is None else shape[place]
    return sizes


def _made_up(spec: TensorSpec, size: int, generator: np.random.Generator) -> NDArray[np.generic]:
    shape = tuple(
        axis if isinstance(axis, int) else _length(spec, place, size) for place, axis in enumerate(spec.shape)
    )
    if spec.dtype in _FLOATS:
        return generator.standard_normal(shape).astype(_FLOATS[spec.dtype])
    if spec.dtype == "bool":
        return np.ones(shape, np.bool_)
    if spec.dtype not in _INTEGERS:
        raise ModelUnsupported(f"Inputs of type {spec.dtype} cannot be made up; time the model with a data set.")
    if "mask" in spec.name:
        return np.ones(shape, _INTEGERS[spec.dtype])
    return generator.integers(0, 2, shape).astype(_INTEGERS[spec.dtype])


def _length(spec: TensorSpec, place: int, size: int) -> int:
    if place == 0:
        return size
    if len(spec.shape) == _IMAGE:
        return CHANNELS if place == 1 else SIDE
    return TOKENS
