"""Set the weights of least magnitude to zero and keep them there (Zhu & Gupta, 2017)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.prune_weights import PruneWeights
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.dtypes import to_numpy
from workers.compute.autograd.executor import Executor
from workers.compute.graph.constraints import with_zeros
from workers.compute.graph.model import Model
from workers.compute.graph.readers import Reader, input_axis, matrices
from workers.compute.graph.selection import Kept, keep_largest, keep_pattern
from workers.compute.techniques.base import Context, Outcome, planned_epochs, retrain

# The ramp ends after this share of the steps, so that training can recover from its end; it climbs in few stairs,
# since each ranks all weights anew.
_RAMP, _STAIRS = 0.6, 10

Weights = Mapping[str, NDArray[np.floating]]


def apply(model: Model, spec: PruneWeights, context: Context) -> Outcome:
    """Return a copy whose least weights are zero under a constraint, retrained.

    Raises TechniqueNotApplicable when the model has no matrices, kernels or tables.
    """
    pruned = model.clone()
    targets = matrices(pruned)
    if not targets:
        msg = "the model has no matrix, kernel or embedding table to prune"
        raise TechniqueNotApplicable(msg)
    weights = {name: pruned.read_floats(name) for name in targets}
    ramped = spec.pattern is None and spec.threshold is None and spec.schedule == "cubic"
    if ramped and planned_epochs(spec, context) > 0:
        curve = retrain(pruned, spec, context, _Ramp(spec, targets, _zero_share(weights)))
        weights = {name: pruned.read_floats(name) for name in targets}
        # Training that stopped early did not climb the whole ramp.
        _constrain(pruned, weights, masks_for(weights, targets, spec, spec.sparsity))
        return Outcome(pruned, _notes(pruned, model, spec, targets), curve)
    _constrain(pruned, weights, masks_for(weights, targets, spec, spec.sparsity))
    curve = retrain(pruned, spec, context)
    return Outcome(pruned, _notes(pruned, model, spec, targets), curve)


def masks_for(weights: Weights, targets: Mapping[str, Reader], spec: PruneWeights, sparsity: float) -> dict[str, Kept]:
    """Return which weights stay, by tensor."""
    magnitudes = {name: np.abs(values) for name, values in weights.items()}
    if spec.pattern is not None:
        keep, group = (int(number) for number in spec.pattern.split(":"))
        axes = {name: axis for name, reader in targets.items() if (axis := input_axis(reader)) is not None}
        return {name: keep_pattern(magnitudes[name], axis, keep, group) for name, axis in axes.items()}
    if spec.threshold is not None:
        return {name: values >= spec.threshold for name, values in magnitudes.items()}
    if spec.scope == "global":
        return keep_largest(magnitudes, sparsity)
    return {name: keep_largest({name: values}, sparsity)[name] for name, values in magnitudes.items()}


@dataclass(frozen=True)
class _Ramp:
    """Raises the sparsity along s + (start - s)(1 - t)³ while the model trains."""

    spec: PruneWeights
    targets: Mapping[str, Reader]
    start: float

    def __call__(self, step: int, total: int, executor: Executor) -> None:
        """Prune anew at the first step of each stair."""
        end = max(1, int(_RAMP * total))
        every = max(1, end // _STAIRS)
        if step > end or (step % every and step != end):
            return
        left = (1 - min(1.0, step / end)) ** 3
        sparsity = self.spec.sparsity + (self.start - self.spec.sparsity) * left
        names = [name for name in self.targets if name in executor.trained]
        weights = {name: to_numpy(executor.trained[name]()).astype(np.float32) for name in names}
        if sparsity <= self.start or not names:
            return
        for name, kept in masks_for(weights, self.targets, self.spec, sparsity).items():
            constraint = with_zeros(executor.model.constraints.get(name), weights[name], kept)
            executor.set_constraint(name, constraint)


def _constrain(model: Model, weights: Weights, masks: Mapping[str, Kept]) -> None:
    for name, kept in masks.items():
        if kept.all() and name not in model.constraints:
            continue
        constraint = with_zeros(model.constraints.get(name), weights[name], kept)
        model.constraints[name] = constraint
        model.write(name, constraint.project(weights[name]).astype(model.read(name).dtype))


def _zero_share(weights: Weights) -> float:
    zeros = sum(values.size - np.count_nonzero(values) for values in weights.values())
    return zeros / sum(values.size for values in weights.values())


def _notes(pruned: Model, model: Model, spec: PruneWeights, targets: Mapping[str, Reader]) -> tuple[str, ...]:
    share = _zero_share({name: pruned.read_floats(name) for name in targets})
    notes = [f"{share:.1%} of the weights in {len(targets)} tensors are zero"]
    if spec.pattern is not None:
        left = [name for name, reader in targets.items() if input_axis(reader) is None]
        if left:
            notes.append(
                f"{len(left)} tensors have no input dimension for the pattern and were left alone: tables, mostly"
            )
    if all(np.array_equal(pruned.read(name), model.read(name)) for name in targets):
        notes.append("no weight was small enough: nothing changed")
    return tuple(notes)
