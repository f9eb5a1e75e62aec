"""What a rule sees of its node: labels, sizes and constants of its inputs. Knows no operator."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph import operands
from workers.compute.graph.dataflow import reads
from workers.compute.graph.dimensions.ledger import Atoms, Axis, Labels, Ledger
from workers.compute.graph.model import Model

Sizes = tuple[int, ...]
# Takes a node, returns the labels of its outputs. An output that it leaves out is unlabelled.
Rule = Callable[["Site"], Sequence[Labels | None]]


@dataclass(frozen=True)
class Site:
    """One node on the walk.

    `labels` holds what is known so far by value name, `sizes` shapes with a size of its own for each free dimension and
    0 where only the data tell, `free` the axes whose size the data decide, `known` the small numbers that the graph
    computes and that are the same whatever the free dimensions are, `fixed` the values that depend on no graph input.
    """

    node: ir.Node
    model: Model
    ledger: Ledger
    labels: Mapping[str, Labels]
    sizes: Mapping[str, Sizes]
    free: Mapping[str, frozenset[int]]
    known: Mapping[str, NDArray[np.generic]]
    fixed: Collection[ir.Value]

    @property
    def title(self) -> str:
        """The node as messages name it."""
        return f"{self.node.name or '(unnamed)'} ({self.node.op_type})"

    @property
    def opset(self) -> int:
        """The version of the node's domain."""
        return self.model.graph.opset_imports.get(self.node.domain, 1)

    def given(self, index: int) -> ir.Value | None:
        """Return an input, None where it is left out."""
        return operands.given(self.node, index)

    def input(self, index: int) -> Labels | None:
        """Return an input's labels, None where it is left out or nothing is known of it."""
        value = self.given(index)
        return None if value is None else self.labels.get(str(value.name))

    def size(self, index: int) -> Sizes | None:
        """Return an input's sizes, None where they are unknown."""
        value = self.given(index)
        return None if value is None else self.sizes.get(str(value.name))

    def output_size(self, index: int = 0) -> Sizes | None:
        """Return an output's sizes, None where they are unknown."""
        outputs = self.node.outputs
        return self.sizes.get(str(outputs[index].name)) if index < len(outputs) else None

    def is_free(self, axis: int) -> bool:
        """Whether the data decide the size of the first output's axis."""
        return axis in self.free.get(str(self.node.outputs[0].name), ())

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_int()

    def integers(self, name: str) -> list[int] | None:
        """Return a list attribute, None where it is not set."""
        attribute = self.node.attributes.get(name)
        return None if attribute is None else list(attribute.as_ints())

    def constant(self, index: int) -> NDArray[np.generic] | None:
        """Return the values of an input that is an initializer."""
        return operands.stored(self.model, self.node, index)

    def numbers(self, index: int) -> NDArray[np.generic] | None:
        """Return the values of an input that is constant or computes to the same numbers always."""
        found, value = self.constant(index), self.given(index)
        return found if found is not None or value is None else self.known.get(str(value.name))

    def listed(self, name: str, index: int) -> list[int] | None:
        """Return numbers that are an attribute in old opsets and an input in new ones; None unless constant."""
        return operands.listed(self.node, name, self.numbers(index))

    def join(self, axes: Iterable[Axis]) -> Axis:
        """Couple axes that meet position by position; where one may not shrink, none may."""
        met = list(axes)
        labelled = [axis for axis in met if axis is not None]
        if len(labelled) < len(met) or len({axis.size for axis in labelled}) > 1:
            for axis in labelled:
                self.freeze(axis)
            return None
        for axis in labelled[1:]:
            self.ledger.couple(labelled[0], axis)
        return labelled[0] if labelled else None

    def contract(self, left: Axis, right: Axis, *, weighted: bool) -> None:
        """Couple two axes that are multiplied and summed over. Without a weight in it, the sum is over statistics."""
        summed = self.join((left, right))
        if not weighted:
            self.ledger.normalize(summed, self.title)

    def is_weight(self, index: int) -> bool:
        """Whether an input depends on no graph input."""
        return self.given(index) in self.fixed

    def freeze(self, axis: Axis, why: str = "") -> None:
        """Forbid to shrink an axis, with the node as the reason."""
        self.ledger.freeze(axis, why or self.title)

    def broadcast(self, labels: Sequence[Labels], sizes: Sequence[Sizes]) -> Labels:
        """Return the labels of an elementwise result: axes aligned at the end, those of size 1 stretched."""
        columns = zip_longest(*(reversed(list(zip(*pair, strict=True))) for pair in zip(labels, sizes, strict=True)))
        met = [[cell[0] for cell in column if cell is not None and cell[1] != 1] for column in columns]
        return tuple(self.join(axes) for axes in reversed(met))

    def barrier(self) -> list[Labels | None]:
        """Freeze all that enters; what leaves is data."""
        for value in reads(self.node):
            for axis in self.labels.get(str(value.name), ()):
                self.freeze(axis)
        return self.blank()

    def blank(self) -> list[Labels | None]:
        """Return outputs that nothing is to be removed from."""
        found = (self.sizes.get(str(value.name)) for value in self.node.outputs)
        return [None if size is None else (None,) * len(size) for size in found]


def blocks(axis: Atoms, units: int) -> Atoms:
    """Return an axis as rows of neighbours: (units, atoms of a unit)."""
    return axis.reshape(units, -1)
