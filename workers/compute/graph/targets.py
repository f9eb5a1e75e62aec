"""Which weights a technique that decides values works on."""

from typing import Protocol

from workers.compute.graph.model import Model
from workers.compute.graph.readers import Reader, matrices, readers


class Selection(Protocol):
    """What the user says about it."""

    @property
    def min_size(self) -> int:
        """The least weights that a tensor must have."""

    @property
    def embeddings(self) -> bool:
        """Whether tables that rows are looked up in belong to it."""

    @property
    def keep_first_last(self) -> bool:
        """Whether the first and the last matrix or kernel do not."""


def targets(model: Model, selection: Selection) -> dict[str, Reader]:
    """Return matrices, kernels and tables with their readers; of all but tables the first and last may be kept out."""
    found = matrices(model)
    tables = {name for name in found if is_table(model, name)}
    if selection.keep_first_last:
        ends = first_and_last(model)
        found = {name: reader for name, reader in found.items() if name not in ends}
    if not selection.embeddings:
        found = {name: reader for name, reader in found.items() if name not in tables}
    return {name: reader for name, reader in found.items() if model.read(name).size >= selection.min_size}


def first_and_last(model: Model) -> frozenset[str]:
    """Return the first and the last matrix or kernel; tables do not count."""
    place = {id(node): position for position, node in enumerate(model.graph.all_nodes())}
    found = {name: reader for name, reader in matrices(model).items() if not is_table(model, name)}
    order = sorted(found, key=lambda name: (place[id(found[name].node)], name))
    return frozenset({*order[:1], *order[-1:]})


def is_table(model: Model, name: str) -> bool:
    """Whether rows are looked up in the weight."""
    return any(reader.node.op_type == "Gather" for reader in readers(model.graph.initializers[name]))
