"""Let weights be whole numbers of 4 bits times a scale per block (Q-BERT's groups, Shen et al., 2020)."""

import math
from collections.abc import Mapping

import numpy as np

from app.contracts.steps.quantize_int4 import QuantizeInt4
from app.errors import TechniqueNotApplicable
from workers.compute.graph.constraints import Grid, Signs, behind, zeros_of
from workers.compute.graph.distances import snr_db
from workers.compute.graph.grids import fit
from workers.compute.graph.model import Model
from workers.compute.graph.readers import Reader, input_axis, output_axis
from workers.compute.graph.targets import targets
from workers.compute.techniques.base import Context, Outcome, retrain

_BITS, _LEAST_BLOCK = 4, 16


def apply(model: Model, spec: QuantizeInt4, context: Context) -> Outcome:
    """Return a copy on 4-bit grids, retrained. Raises TechniqueNotApplicable when no tensor may be on one."""
    gridded = model.clone()
    chosen = targets(gridded, spec)
    free = {name: reader for name, reader in chosen.items() if not isinstance(model.constraints.get(name), Signs)}
    grids = {name: grid for name, reader in free.items() if (grid := _grid(gridded, name, reader, spec)) is not None}
    if not grids and len(free) == len(chosen):
        raise TechniqueNotApplicable(_refusal(spec, odd=len(free)))
    for name, grid in grids.items():
        gridded.constraints[name] = grid
        gridded.write(name, grid.project(model.read_floats(name) if grid.latent is None else grid.latent))
    notes = _notes(grids, len(chosen) - len(free), len(free))
    return Outcome(gridded, notes, retrain(gridded, spec, context) if grids else ())


def _grid(model: Model, name: str, reader: Reader, spec: QuantizeInt4) -> Grid | None:
    """Return the grid that fits a weight best, or None where no group of its weights shares a scale."""
    if model.read(name).dtype != np.float32:
        return None
    value, before = model.read_floats(name), model.constraints.get(name)
    latent, kept = behind(before, value), ~zeros_of(before, value)
    found = _groups(value.shape, reader, spec.block)
    if found is None:
        return None
    view, axes = found
    steps = fit(np.where(kept, latent, np.float32(0)).reshape(view), axes, _BITS, symmetric=spec.symmetric)
    return Grid(view, steps, kept, latent)


def _groups(shape: tuple[int, ...], reader: Reader, block: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shape in which groups are seen and the axes that they span: blocks, else whole output channels."""
    axis = input_axis(reader)
    if axis is None:
        axis = len(shape) - 1  # a table's columns
    while block >= _LEAST_BLOCK:
        if shape[axis] % block == 0 and shape[axis] > block:
            return (*shape[:axis], shape[axis] // block, block, *shape[axis + 1 :]), (axis + 1,)
        block //= 2
    channels = output_axis(reader)
    if channels is None or math.prod(shape) == shape[channels]:
        return None
    return shape, tuple(place for place in range(len(shape)) if place != channels)


def _refusal(spec: QuantizeInt4, odd: int) -> str:
    if odd:
        return "no large tensor is of float32 with rows or blocks that could share a scale; upload the model in float32"
    return f"no matrix, kernel or table that may be quantised has {spec.min_size} weights or more; lower min_size"


def _notes(grids: Mapping[str, Grid], kept: int, free: int) -> tuple[str, ...]:
    pairs = ((grid.latent, grid.project(grid.latent)) for grid in grids.values() if grid.latent is not None)
    blocked = sum(len(grid.view) > grid.kept.ndim for grid in grids.values())
    told = f"{len(grids)} tensors have 4-bit values: {snr_db(pairs):.1f} dB of signal over noise before retraining"
    notes = [told] if grids else []
    if blocked < len(grids):
        notes.append(f"{len(grids) - blocked} of them have no axis that blocks divide: a scale per output channel")
    if kept:
        notes.append(f"{kept} tensors keep the fewer values that an earlier step gave each of their channels")
    if free > len(grids):
        notes.append(f"{free - len(grids)} tensors are not float32, or have no rows that share a scale: left alone")
    return tuple(notes)
