"""Set the weights that matter least to zero and keep them there.

By magnitude at once, along a ramp (Zhu & Gupta, 2017) or in rounds with rewinding (Frankle et al., 2020; Renda et al.,
2020), or by movement while training (Sanh et al., 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from app.contracts.steps.prune_weights import PruneWeights
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.movement import Movement
from workers.compute.graph.model import Model
from workers.compute.graph.readers import Reader, input_axis, matrices
from workers.compute.graph.selection import Kept, keep_largest, keep_pattern
from workers.compute.pruning import Ramp, Rounds, Weights, constrain, largest, zero_share
from workers.compute.rounds import Curve, joined, part
from workers.compute.techniques.base import Context, Outcome, dataset_of, planned_epochs, retrain


def apply(model: Model, spec: PruneWeights, context: Context) -> Outcome:
    """Return a copy whose least weights are zero under a constraint, retrained.

    Raises TechniqueNotApplicable when the model has no matrices, kernels or tables, and when there is no training to
    learn movement from.
    """
    pruned = model.clone()
    targets = matrices(pruned)
    if not targets:
        msg = "the model has no matrix, kernel or embedding table to prune"
        raise TechniqueNotApplicable(msg)
    choice = _Choice(spec, targets)
    if spec.chooses_by_training:
        dataset_of(context, f"pruning by {'movement' if spec.importance == 'movement' else 'rounds'}")
        context = replace(
            context, next_trains=False
        )  # what goes is found by training, which the next step comes too late for
    if spec.schedule == "iterative":
        pruned, curve = _in_rounds(model, choice, context)
    elif spec.ramped and planned_epochs(spec, context) > 0:
        curve = _ramped(pruned, choice, context)
    else:
        constrain(pruned, largest(pruned, targets, choice, spec.sparsity))
        curve = retrain(pruned, spec, context)
    return Outcome(pruned, _notes(pruned, model, spec, targets), curve)


@dataclass(frozen=True)
class _Choice:
    """Which weights stay, by the options."""

    spec: PruneWeights
    targets: Mapping[str, Reader]

    def __call__(self, matters: Weights, sparsity: float) -> dict[str, Kept]:
        """Return which weights stay, by tensor, from how much each matters."""
        if self.spec.pattern is not None:
            keep, group = (int(number) for number in self.spec.pattern.split(":"))
            axes = {name: axis for name in matters if (axis := input_axis(self.targets[name])) is not None}
            return {name: keep_pattern(matters[name], axis, keep, group) for name, axis in axes.items()}
        if self.spec.threshold is not None:
            return {name: values >= self.spec.threshold for name, values in matters.items()}
        if self.spec.scope == "global":
            return keep_largest(matters, sparsity)
        return {name: keep_largest({name: values}, sparsity)[name] for name, values in matters.items()}


def _ramped(pruned: Model, choice: _Choice, context: Context) -> Curve:
    spec, targets = choice.spec, choice.targets
    movement = Movement() if spec.importance == "movement" else None
    ramp = Ramp(targets, choice, zero_share(pruned, targets), spec.sparsity, movement)
    curve = retrain(pruned, spec, context, ramp)
    ramp.finish(pruned)
    return curve


def _in_rounds(model: Model, choice: _Choice, context: Context) -> tuple[Model, Curve]:
    """Return a copy pruned and retrained in rounds, each of which takes the same share of what is left."""
    spec, targets = choice.spec, choice.targets
    levels, pruned, curve = _levels(zero_share(model, targets), spec), model.clone(), Curve()
    if spec.rewind == "none":
        return pruned, retrain(pruned, spec, context, Rounds(targets, choice, levels))
    each = spec.model_copy(update={"epochs": planned_epochs(spec, context) / spec.rounds})
    for index, sparsity in enumerate(levels):
        masks = largest(pruned, targets, choice, sparsity)
        pruned = model.clone() if spec.rewind == "weights" else pruned
        constrain(pruned, masks)
        surroundings = replace(context, progress=part(context.progress, index, spec.rounds))
        curve = joined(curve, retrain(pruned, each, surroundings))
    return pruned, curve


def _levels(start: float, spec: PruneWeights) -> list[float]:
    """Return the sparsity of each round."""
    left = (1 - spec.sparsity) / (1 - start) if start < 1 else 1.0
    return [1 - (1 - start) * left ** (number / spec.rounds) for number in range(1, spec.rounds + 1)]


def _notes(pruned: Model, model: Model, spec: PruneWeights, targets: Mapping[str, Reader]) -> tuple[str, ...]:
    notes = [f"{zero_share(pruned, targets):.1%} of the weights in {len(targets)} tensors are zero"]
    if spec.pattern is not None:
        left = [name for name, reader in targets.items() if input_axis(reader) is None]
        if left:
            notes.append(
                f"{len(left)} tensors have no input dimension for the pattern and were left alone: tables, mostly"
            )
    if all(np.array_equal(pruned.read(name), model.read(name)) for name in targets):
        notes.append("no weight was small enough: nothing changed")
    return tuple(notes)
