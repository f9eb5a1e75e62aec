"""Groups of units that can be removed from a graph: neurons, channels, heads, each with all its coupled dimensions.

After DepGraph (Fang et al., 2023), but on the ONNX graph itself and position by position: a unit is a connected
component of positions, so concatenations, splits, grouped convolutions and heads need no cases of their own.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.dimensions.ledger import Atoms, Axis, Components
from workers.compute.graph.dimensions.walk import Walk, walk
from workers.compute.graph.model import Model
from workers.compute.graph.storage import is_weight

_MATRIX = 2
NEURONS = "neurons"
# Units to remove, by the name of their group.
Removed = Mapping[str, Collection[int]]


@dataclass(frozen=True)
class Member:
    """One axis of one initializer. `units[position]` is the unit that the position is part of, -1: of none here."""

    tensor: str
    axis: int
    units: NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Units of one kind that stand side by side, each a set of positions in every member.

    `normalized` names a node that takes statistics over the units, if one does: removing a unit is then not quite the
    same as setting its weights to zero.
    """

    name: str
    kind: str
    units: int
    members: tuple[Member, ...]
    normalized: str | None = None

    def left(self, wanted: int, multiple_of: int) -> int:
        """Return how many units stay where `wanted` should: at least one, rounded up to a multiple, at most all."""
        return min(self.units, -(-max(wanted, 1) // multiple_of) * multiple_of)


@dataclass(frozen=True)
class Coupling:
    """The groups of a model, what keeps other dimensions as they are, and the labels that removal needs."""

    groups: tuple[Group, ...]
    # By tensor and axis: why none of it can be removed, or some not.
    frozen: Mapping[tuple[str, int], str]
    barriers: tuple[str, ...]
    walked: Walk
    components: Components
    # By component: the number of its group and of the unit that it is, or −1 twice. Shape: (components, 2).
    owners: NDArray[np.int64]

    @cached_property
    def by_name(self) -> dict[str, Group]:
        """The groups by name."""
        return {group.name: group for group in self.groups}

    def activations(self) -> dict[str, tuple[str, int]]:
        """Return, by group, the last computed value that has an axis with all of its units, and that axis."""
        found = {}
        for node in self.walked.model.graph:
            for value in node.outputs:
                for axis, labels in enumerate(self.walked.labels.get(str(value.name), ())):
                    group = self.whole(labels)
                    if group is not None and value not in self.walked.fixed:
                        found[group.name] = (str(value.name), axis)
        return found

    def whole(self, labels: Axis) -> Group | None:
        """Return the group whose units an axis consists of, all of them and nothing else."""
        if labels is None:
            return None
        groups, units = self.units(labels).T
        same = groups[0] >= 0 and (groups == groups[0]).all()
        group = self.groups[groups[0]] if same else None
        return group if group is not None and np.unique(units).size == group.units else None

    def units(self, labels: Atoms) -> NDArray[np.int64]:
        """Return group and unit of every position of an axis, −1 where it is of none. Shape: (positions, 2)."""
        return self.owners[self.components.of[labels]]

    def gone(self, removed: Removed) -> NDArray[np.bool_]:
        """Return which atoms go with the units.

        Raises KeyError for a group or unit that is not there, ValueError where no unit of a group would be left.
        """
        numbers = {group.name: number for number, group in enumerate(self.groups)}
        gone = np.zeros(len(self.owners), np.bool_)
        for name, units in removed.items():
            group, chosen = self.by_name[name], set(units)
            if not chosen <= set(range(group.units)):
                raise KeyError(name, sorted(chosen - set(range(group.units))))
            if len(chosen) >= group.units:
                msg = f"group {name} has {group.units} units; at least one must stay"
                raise ValueError(msg)
            gone |= (self.owners[:, 0] == numbers[name]) & np.isin(self.owners[:, 1], list(chosen))
        kept: NDArray[np.bool_] = gone[self.components.of]
        return kept

    def parameters(self, removed: Removed) -> int:
        """Return how many weights are left without the units, as `costs.cost` counts them: no single numbers."""
        gone, labels = self.gone(removed), self.walked.labels
        sizes = (
            math.prod(_left(axis, size, gone) for axis, size in zip(labels[name], _shape(value), strict=True))
            for name, value in self.walked.model.graph.initializers.items()
            if is_weight(value)
        )
        return sum(size for size in sizes if size > 1)


def _left(axis: Axis, size: int, gone: NDArray[np.bool_]) -> int:
    return size if axis is None else int(np.count_nonzero(~gone[axis]))


def _shape(value: ir.Value) -> tuple[int, ...]:
    tensor = value.const_value
    return () if tensor is None else tuple(tensor.shape.numpy())


def couple(model: Model) -> Coupling:
    """Find what can be removed from `model`, and what goes along."""
    walked = walk(model)
    components = walked.ledger.settle()
    weights = _labelled_weights(walked, components)
    signatures: dict[int, list[tuple[str, int, int]]] = {}
    for (tensor, axis), owners in weights.items():
        for component, count in sorted(Counter(owners.tolist()).items()):
            signatures.setdefault(component, []).append((tensor, axis, count))
    alike: dict[tuple[tuple[str, int, int], ...], list[int]] = {}
    for component, signature in signatures.items():
        if component not in components.frozen:
            alike.setdefault(tuple(signature), []).append(component)
    names: Counter[str] = Counter()
    several = [units for units in alike.values() if _worth(units, weights, walked)]
    groups = tuple(_group(units, weights, walked, components, names) for units in several)
    owners = np.full((int(components.of.max(initial=-1)) + 1, 2), -1, np.int64)
    for number, units in enumerate(several):
        owners[units] = np.stack([np.full(len(units), number), np.arange(len(units))], axis=1)
    barriers = tuple(dict.fromkeys(walked.barriers))
    return Coupling(groups, _reasons(weights, components), barriers, walked, components, owners)


_Weights = Mapping[tuple[str, int], NDArray[np.int64]]


def _labelled_weights(walked: Walk, components: Components) -> _Weights:
    """Return the component of every position of every labelled axis of an initializer, in the order of their use."""
    read = [str(value.name) for node in walked.model.graph for value in node.inputs if value is not None]
    return {
        (name, axis): components.of[labels]
        for name in dict.fromkeys(read)
        if name in walked.model.graph.initializers
        for axis, labels in enumerate(walked.labels[name])
        if labels is not None
    }


def _worth(units: list[int], weights: _Weights, walked: Walk) -> bool:
    """Whether units are several and part of a matrix."""
    tensors = (name for (name, _), owners in weights.items() if units[0] in owners)
    return len(units) > 1 and any(len(walked.labels[name]) >= _MATRIX for name in tensors)


def _group(units: list[int], weights: _Weights, walked: Walk, components: Components, names: Counter[str]) -> Group:
    members = tuple(_members(units, weights))
    first = next(member for member in members if len(walked.labels[member.tensor]) >= _MATRIX)
    title = f"{first.tensor}.{first.axis}"
    names[title] += 1
    notes = (components.normalized.get(unit) for unit in units)
    return Group(
        name=title if names[title] == 1 else f"{title}#{names[title]}",
        kind=next((kind for unit in units if (kind := components.kinds.get(unit))), NEURONS),
        units=len(units),
        members=members,
        normalized=next((note for note in notes if note), None),
    )


def _members(units: list[int], weights: _Weights) -> Iterator[Member]:
    order = np.asarray(units)
    ranked = np.argsort(order)
    for (tensor, axis), owners in weights.items():
        places = np.searchsorted(order[ranked], owners).clip(max=len(units) - 1)
        found = np.where(order[ranked][places] == owners, ranked[places], -1)
        if (found >= 0).any():
            yield Member(tensor, axis, found)


def _reasons(weights: _Weights, components: Components) -> dict[tuple[str, int], str]:
    """Return the first reason found on each axis that has a frozen position."""
    found = {}
    for place, owners in weights.items():
        reason = next((components.frozen[owner] for owner in owners.tolist() if owner in components.frozen), None)
        if reason is not None:
            found[place] = reason
    return found
