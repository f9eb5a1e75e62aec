"""Let one neuron stand for several alike: mean in, sum out (neuron merging; Kim et al., 2020)."""

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from app.contracts.steps.merge_neurons import MergeNeurons
from app.errors import TechniqueNotApplicable
from workers.compute.autograd.importance import Probe, activations
from workers.compute.graph.dimensions import Coupling, Group, Member, couple, remove_units
from workers.compute.graph.model import Model
from workers.compute.graph.readers import input_axis, readers
from workers.compute.techniques.base import Context, Outcome, retrain, shrunk

# Rows that tell what is active together; more change no cluster worth the time.
_ROWS = 256
_TINY = 1e-12

# One row of numbers for each unit: (units, features). Near rows are alike.
Features = NDArray[np.float64]


def apply(model: Model, spec: MergeNeurons, context: Context) -> Outcome:
    """Return a copy with fewer neurons, retrained. Raises TechniqueNotApplicable where there is nothing to merge."""
    coupling = couple(model)
    groups = [group for group in coupling.groups if group.kind in spec.kinds and group.normalized is None]
    if not groups:
        msg = (
            f"the graph has no {' or '.join(spec.kinds)} that could be merged: what a normalization takes statistics "
            "over and heads are left alone; prune_weights or share_weights work on any model"
        )
        raise TechniqueNotApplicable(msg)
    known = _active(model, coupling, spec, context)
    merged, gone = model.clone(), dict[str, list[int]]()
    for done, group in enumerate(groups):
        count = group.left(round((1 - spec.ratio) * group.units), spec.multiple_of)
        features = known[group.name] if group.name in known else _incoming(model, group)
        clusters = _clusters(features, count, spec.clustering, context.seed)
        gone[group.name] = _merge(merged, group, clusters)
        context.progress(0.5 * (done + 1) / len(groups), None)
    smaller = remove_units(merged, coupling, {name: units for name, units in gone.items() if units})
    _keep_promises(smaller)
    notes = (*_notes(groups, gone), shrunk(model, smaller), *_said(spec, context))
    return Outcome(smaller, notes, retrain(smaller, spec, context) if any(gone.values()) else ())


def _active(model: Model, coupling: Coupling, spec: MergeNeurons, context: Context) -> Mapping[str, Features]:
    """Return each unit's activations over rows and positions, each of mean 0 and norm 1, by group."""
    if spec.similarity == "weights" or context.dataset is None or not len(context.dataset.train):
        return {}
    probe = Probe(context.dataset, _ROWS, device=context.device, threads=context.threads, seed=context.seed)
    return {name: _standardized(found) for name, found in activations(model, coupling, probe).items()}


def _standardized(rows: Features) -> Features:
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms: Features = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), _TINY)
    found: Features = centred / norms
    return found


def _incoming(model: Model, group: Group) -> Features:
    """Return the weights that enter each unit, each tensor on its own scale."""
    parts = []
    for member in group.members:
        if not _is_summed(model, member):
            values = _by_unit(model.read_floats(member.tensor), member, group.units)
            parts.append(values / max(float(np.abs(values).max()), _TINY))
    return np.concatenate(parts, axis=1)


def _by_unit(values: NDArray[np.floating], member: Member, units: int) -> Features:
    """Return a tensor with one row for each unit, the positions of the unit side by side."""
    moved = np.moveaxis(values, member.axis, 0).astype(np.float64)
    order = np.argsort(member.units, kind="stable")
    order = order[member.units[order] >= 0]
    return moved[order].reshape(units, -1)


def _is_summed(model: Model, member: Member) -> bool:
    """Whether a weight's axis is summed over, so that it reads the units and does not make them."""
    return any(input_axis(reader) == member.axis for reader in readers(model.graph.initializers[member.tensor]))


def _clusters(features: Features, count: int, how: str, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each unit, at most `count` clusters."""
    if count >= len(features):
        return np.arange(len(features))
    # Loads scipy.stats, a third of all that a compute child imports, and every job would wait for it.
    from sklearn.cluster import AgglomerativeClustering, KMeans  # noqa: PLC0415 - see above
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - see above

    if how == "kmeans":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct neurons than clusters: all the better
            found = KMeans(count, n_init=4, random_state=seed).fit_predict(features)
    else:
        found = AgglomerativeClustering(count).fit_predict(features)
    return np.asarray(found, np.int64)


def _merge(model: Model, group: Group, clusters: NDArray[np.int64]) -> list[int]:
    """Write each cluster's neuron to its first unit; return the other units."""
    _, first, numbers = np.unique(clusters, return_index=True, return_inverse=True)
    stands_for = first[numbers]
    for member in group.members:
        values = np.array(model.read(member.tensor))
        rows = np.moveaxis(values, member.axis, 0)
        summed = _is_summed(model, member)
        for cluster in np.flatnonzero(np.bincount(numbers) > 1):
            _stand_in(rows, member, np.flatnonzero(numbers == cluster), summed=summed)
        model.write(member.tensor, values)
    return np.flatnonzero(stands_for != np.arange(group.units)).tolist()


def _stand_in(rows: NDArray[np.generic], member: Member, units: NDArray[np.intp], *, summed: bool) -> None:
    """Replace the first unit's rows by the sum or the mean of all units' rows, position by position."""
    places = np.stack([np.flatnonzero(member.units == unit) for unit in units])
    alike = rows[places].astype(np.float64)
    rows[places[0]] = alike.sum(axis=0) if summed else alike.mean(axis=0)


def _keep_promises(model: Model) -> None:
    """Bring merged values back to what earlier steps promised."""
    for name, constraint in model.constraints.items():
        values = model.read_floats(name)
        model.write(name, constraint.project(values).astype(model.read(name).dtype))


def _notes(groups: list[Group], gone: Mapping[str, list[int]]) -> list[str]:
    found = []
    for kind in dict.fromkeys(group.kind for group in groups):
        alike = [group for group in groups if group.kind == kind]
        before = sum(group.units for group in alike)
        after = before - sum(len(gone[group.name]) for group in alike)
        found.append(f"merged {before:,} {kind} in {len(alike)} group{'s' if len(alike) > 1 else ''} into {after:,}")
    return found


def _said(spec: MergeNeurons, context: Context) -> list[str]:
    if spec.similarity == "activations" and context.dataset is None:
        return ["there is no data to see what is active together: incoming weights decided"]
    return []
