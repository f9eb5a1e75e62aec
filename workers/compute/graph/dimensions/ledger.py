"""Which positions of which axes shrink together: atoms, and what couples them. Knows no graph and no operator.

Every position along an axis of an initializer is an *atom*. Operators couple atoms ("if this one goes, so does that
one"), tie several into one unit (the dimensions of an attention head), or freeze them (a graph output keeps its size).
Connected components of atoms are the units that can be removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Atoms = NDArray[np.int64]
# One axis of a value: an atom for each position, or None where nothing may be removed (data decides the size).
Axis = Atoms | None
Labels = tuple[Axis, ...]


@dataclass(frozen=True)
class Components:
    """What `Ledger.settle` finds. `of[atom]` is the atom's component; the rest is by component."""

    of: NDArray[np.int64]
    frozen: dict[int, str]
    normalized: dict[int, str]
    kinds: dict[int, str]


@dataclass
class Ledger:
    """Takes down what a walk through the graph learns about atoms."""

    count: int = 0
    _edges: list[tuple[Atoms, Atoms]] = field(default_factory=list)
    _frozen: list[tuple[Atoms, str]] = field(default_factory=list)
    _normalized: list[tuple[Atoms, str]] = field(default_factory=list)
    _kinds: list[tuple[Atoms, str]] = field(default_factory=list)

    def fresh(self, size: int) -> Atoms:
        """Return `size` new atoms."""
        atoms = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return atoms

    def couple(self, left: Atoms, right: Atoms) -> None:
        """Let atoms go together, position by position; both have the same shape."""
        if left is not right:
            self._edges.append((left.reshape(-1), right.reshape(-1)))

    def tie(self, rows: Atoms) -> None:
        """Make one unit of each row. `rows`: (units, atoms of a unit)."""
        first = np.broadcast_to(rows[:, :1], rows.shape)
        self.couple(np.ascontiguousarray(first), rows)

    def freeze(self, axis: Axis, reason: str) -> None:
        """Forbid to remove any of these atoms."""
        if axis is not None:
            self._frozen.append((axis.reshape(-1), reason))

    def normalize(self, axis: Axis, reason: str) -> None:
        """Note that statistics are taken over these atoms: without some, they differ from those with zeros in place."""
        if axis is not None:
            self._normalized.append((axis.reshape(-1), reason))

    def name(self, axis: Axis, kind: str) -> None:
        """Note what people call these units: channels, heads, hidden units."""
        if axis is not None:
            self._kinds.append((axis.reshape(-1), kind))

    def settle(self) -> Components:
        """Return the connected components."""
        ends: Sequence[tuple[Atoms, Atoms]] = self._edges or [(np.empty(0, np.int64), np.empty(0, np.int64))]
        rows, columns = (np.concatenate(side) for side in zip(*ends, strict=True))
        links = coo_array((np.ones(rows.size, np.int8), (rows, columns)), shape=(self.count, self.count))
        _, of = connected_components(links, directed=False)
        components = of.astype(np.int64)
        noted = (self._frozen, self._normalized, self._kinds)
        return Components(components, *(_first_by_component(components, notes) for notes in noted))


def _first_by_component(of: NDArray[np.int64], notes: Sequence[tuple[Atoms, str]]) -> dict[int, str]:
    """Return the earliest note on each component that has one."""
    found: dict[int, str] = {}
    for atoms, note in notes:
        for component in np.unique(of[atoms]).tolist():
            found.setdefault(component, note)
    return found
