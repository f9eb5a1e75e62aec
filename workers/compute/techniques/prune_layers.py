"""Remove whole layers: residual spans and repeats, least harmful first (Sajjad et al., 2020)."""

from collections.abc import Sequence

import numpy as np

from app.contracts.steps.prune_layers import PruneLayers
from app.errors import TechniqueNotApplicable
from workers.compute.graph.model import Model
from workers.compute.graph.spans import Span, remove, spans
from workers.compute.layer_damage import Surroundings, least_harmful
from workers.compute.techniques.base import Context, Outcome, retrain

_LEAST_LAYERS = 2


def apply(model: Model, spec: PruneLayers, context: Context) -> Outcome:
    """Return a copy with `keep` layers or without those to `remove`, retrained, or as it is where there are no more.

    Raises TechniqueNotApplicable where no layer is found, where one is of which half should be kept, and for a layer
    to remove that is not there or the last one left.
    """
    layers = spans(model)
    if len(layers) < (_LEAST_LAYERS if spec.keep is None else 1):
        raise TechniqueNotApplicable(_found(layers))
    if spec.remove is not None:
        return _without(model, layers, [number - 1 for number in sorted(set(spec.remove))], spec, context)
    keep = max(1, len(layers) // 2) if spec.keep is None else spec.keep
    if keep >= len(layers):
        noun = "layer" if len(layers) == 1 else "layers"
        note = f"the model has {len(layers)} removable {noun}, no more than the {keep} to keep: nothing was removed"
        return Outcome(model.clone(), (note,))
    removed, notes = _chosen(model, layers, keep, spec, context)
    outcome = _without(model, layers, removed, spec, context)
    return Outcome(outcome.model, (*notes, *outcome.notes), outcome.curve)


def _without(
    model: Model, layers: Sequence[Span], removed: Sequence[int], spec: PruneLayers, context: Context
) -> Outcome:
    """Return a copy without these layers, retrained."""
    if removed[-1] >= len(layers):
        msg = f"there is no layer {removed[-1] + 1} to remove: the model has {len(layers)}"
        raise TechniqueNotApplicable(msg)
    if len(removed) == len(layers):
        msg = f"all {len(layers)} layers were to be removed; leave one"
        raise TechniqueNotApplicable(msg)
    pruned = remove(model, [layers[index] for index in removed])
    numbers = ", ".join(str(index + 1) for index in removed)
    noun = "layer" if len(removed) == 1 else "layers"
    return Outcome(pruned, (f"removed {noun} {numbers} of {len(layers)}",), retrain(pruned, spec, context))


def _found(layers: Sequence[Span]) -> str:
    what = "one removable layer" if layers else "no removable layers"
    return (
        f"the graph has {what}: layers are regions with one way in and one way out, of equal shape, that repeat or are "
        "skipped by a residual addition; prune_weights or share_weights work on any model"
    )


def _chosen(
    model: Model, layers: Sequence[Span], keep: int, spec: PruneLayers, context: Context
) -> tuple[list[int], tuple[str, ...]]:
    """Return the indices to remove, ascending, and notes."""
    count = len(layers)
    if spec.order == "damage" and context.dataset is not None and len(context.dataset.validation):
        where = Surroundings(
            context.dataset, context.device, context.threads, lambda share: context.progress(0.5 * share, None)
        )
        removed, damage = least_harmful(model, layers, count - keep, where)
        return sorted(removed), (f"damage of what was removed, before retraining: {damage:.4g} (divergence)",)
    kept = {
        "first": range(keep),
        "last": range(count - keep, count),
    }.get(spec.order, np.linspace(0, count - 1, keep).round().astype(int).tolist() if keep > 1 else [0])
    notes = (
        ("there is no data to measure damage on: the layers kept are evenly spread",) if spec.order == "damage" else ()
    )
    return [index for index in range(count) if index not in set(kept)], notes
