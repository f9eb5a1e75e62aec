"""Remove neurons, channels and heads with all that is coupled to them (Molchanov et al., 2019; Fang et al., 2023)."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from app.contracts.report import CurvePoint
from app.contracts.steps.prune_neurons import PruneNeurons
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.importance import (
    Probe,
    Scores,
    by_activation_variance,
    by_gradient,
    by_magnitude,
    relative,
)
from workers.compute.graph.dimensions import Coupling, Group, couple, remove_units
from workers.compute.graph.model import Model
from workers.compute.techniques.base import Context, Outcome, planned_epochs, retrain, shrunk

# With one ranking for all, a group keeps at least this share of its units: an empty layer answers nothing.
_LEAST = 0.1


def apply(model: Model, spec: PruneNeurons, context: Context) -> Outcome:
    """Return a copy with fewer units, retrained. Raises TechniqueNotApplicable where no group of units is found."""
    pruned, curve, removed = model, list[CurvePoint](), Counter[str]()
    epochs = planned_epochs(spec, context)
    rounds = spec.rounds if epochs > 0 else 1
    part = spec.model_copy(update={"epochs": epochs / rounds})
    first = couple(model)
    for turn in range(rounds):
        coupling = couple(pruned) if turn else first
        chosen = _least(pruned, coupling, spec, context, _share(spec.ratio, turn, rounds))
        for name, units in chosen.items():
            removed[coupling.by_name[name].kind] += len(units)
        pruned = remove_units(pruned, coupling, chosen) if chosen else pruned.clone()
        offset = curve[-1].step if curve else 0
        curve += [point.model_copy(update={"step": point.step + offset}) for point in retrain(pruned, part, context)]
    notes = [*_notes(first, spec, removed), shrunk(model, pruned)]
    if context.dataset is None and spec.importance != "magnitude":
        notes.append("there is no data to measure importance on: the weights' size decided")
    return Outcome(pruned, tuple(notes), tuple(curve))


def _least(
    model: Model, coupling: Coupling, spec: PruneNeurons, context: Context, share: float
) -> dict[str, list[int]]:
    """Return the units to remove, by group."""
    groups = _eligible(coupling, spec)
    scores = _scores(model, coupling, spec, context)
    counts = {group.name: round(share * group.units) for group in groups}
    if spec.scope == "global":
        counts = _global_counts(groups, scores, sum(counts.values()))
    found = {}
    for group in groups:
        left = group.left(group.units - counts[group.name], spec.multiple_of)
        if left < group.units:
            order = np.argsort(scores[group.name], kind="stable")
            found[group.name] = sorted(order[: group.units - left].tolist())
    return found


def _eligible(coupling: Coupling, spec: PruneNeurons) -> list[Group]:
    found = [group for group in coupling.groups if group.kind in spec.kinds and (spec.width or not group.normalized)]
    if found:
        return found
    others = Counter(group.kind for group in coupling.groups)
    there = ", ".join(f"{count} of {kind}" for kind, count in others.items()) or "none at all"
    stops = f"; operators without a rule stop the search: {', '.join(coupling.barriers)}" if coupling.barriers else ""
    msg = (
        f"the graph has no group of {' or '.join(spec.kinds)} that can be removed (groups found: {there}){stops}; "
        "widen kinds or width, or use prune_weights, which works on any model"
    )
    raise TechniqueNotApplicable(msg)


def _share(ratio: float, turn: int, rounds: int) -> float:
    """Return the share of what is left that goes in this round, so that equal shares of the whole go in each."""
    gone = ratio * turn / rounds
    return ratio / rounds / (1 - gone)


def _scores(model: Model, coupling: Coupling, spec: PruneNeurons, context: Context) -> Scores:
    if context.dataset is None or spec.importance == "magnitude" or not len(context.dataset.train):
        return relative(by_magnitude(model, coupling))
    probe = Probe(context.dataset, device=context.device, threads=context.threads, seed=context.seed)
    if spec.importance == "activation_variance":
        return relative(by_activation_variance(model, coupling, probe))
    return by_gradient(model, coupling, probe, spec.importance)


def _global_counts(groups: list[Group], scores: Scores, total: int) -> dict[str, int]:
    """Return how many units of each group are among the `total` least of all."""
    limits = {group.name: group.units - max(1, round(_LEAST * group.units)) for group in groups}
    ranked = sorted((float(score), name) for name in limits for score in scores[name])
    counts = dict.fromkeys(limits, 0)
    for _, name in ranked:
        if total and counts[name] < limits[name]:
            counts[name] += 1
            total -= 1
    return counts


def _notes(coupling: Coupling, spec: PruneNeurons, removed: Counter[str]) -> Iterator[str]:
    groups = _eligible(coupling, spec)
    for kind, count in removed.items():
        alike = [group for group in groups if group.kind == kind]
        whole = sum(group.units for group in alike)
        yield f"removed {count:,} of {whole:,} {kind} in {len(alike)} group{'s' if len(alike) > 1 else ''}"
    if not sum(removed.values()):
        yield "every group is too small for this ratio: nothing was removed"
    if coupling.barriers:
        yield f"left alone, because these operators have no rule for their dimensions: {', '.join(coupling.barriers)}"
