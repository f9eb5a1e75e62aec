"""Numbers that a graph computes from its own sizes: which axes each stands for, and whether it may change with them.

A reshape to `Shape(x)[2] / heads` must not follow when x grows thinner: such numbers are replaced at removal. Where a
size goes anywhere else (a scale, a range), its axis stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.compute.graph.dataflow import SHAPE_READERS
from workers.compute.graph.dimensions.ledger import Atoms, Labels
from workers.compute.graph.dimensions.site import Site

# For every element of a value: the axes, by their place in `Extents.axes`, that it is computed from.
Elements = tuple[frozenset[int], ...]

# Inputs that are lists of numbers and can be replaced, by operator.
REPLACEABLE: Mapping[str, frozenset[int]] = {
    "Reshape": frozenset({1}),
    "Expand": frozenset({1}),
    "ConstantOfShape": frozenset({0}),
    "Resize": frozenset({3}),
    "Slice": frozenset({1, 2}),
    "Split": frozenset({1}),
}
_SHAPES = frozenset({"Reshape", "Expand", "ConstantOfShape", "Resize"})
_PASSING = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_ARITHMETIC = frozenset(
    {"Add", "Ceil", "Div", "Equal", "Floor", "Max", "Min", "Mod", "Mul", "Neg", "ReduceProd", "Sub", "Where"}
)


@dataclass
class Extents:
    """The sizes that values stand for, by value name."""

    axes: list[Atoms] = field(default_factory=list)
    of: dict[str, Elements] = field(default_factory=dict)

    def visit(self, site: Site, outputs: Mapping[str, Labels]) -> None:
        """Follow sizes through one node; freeze the axes of those that go where they could not be replaced."""
        if site.node.op_type in SHAPE_READERS:
            self._read(site)
            return
        places = [at for at, value in enumerate(site.node.inputs) if value is not None and str(value.name) in self.of]
        if not places:
            return
        if set(places) <= REPLACEABLE.get(site.node.op_type, frozenset()):
            self._check(site, outputs)
        elif (found := self._computed(site)) is not None:
            self.of[str(site.node.outputs[0].name)] = found
        else:
            for at in places:
                self._freeze(site, frozenset().union(*self._elements(site, at)))

    def depends(self, name: str) -> list[Atoms]:
        """Return the axes that a value is computed from."""
        return [self.axes[at] for at in sorted(frozenset().union(*self.of.get(name, ())))]

    def _read(self, site: Site) -> None:
        labels = site.input(0) or ()
        elements = []
        for axis in labels:
            if axis is None:
                elements.append(frozenset[int]())
            else:
                self.axes.append(axis)
                elements.append(frozenset({len(self.axes) - 1}))
        start, end = site.integer("start", 0), site.integer("end", len(elements))
        whole = [frozenset().union(*elements)] if site.node.op_type == "Size" else elements[start:end]
        if any(whole):
            self.of[str(site.node.outputs[0].name)] = tuple(whole)

    def _elements(self, site: Site, index: int) -> Elements:
        value = site.given(index)
        return () if value is None else self.of.get(str(value.name), ())

    def _computed(self, site: Site) -> Elements | None:
        """Return what the output stands for, None where this is no calculation with sizes."""
        kind, first = site.node.op_type, self._elements(site, 0)
        if kind in _PASSING and first:
            return first
        if kind == "Gather" and first and (picked := site.constant(1)) is not None:
            return tuple(first[int(at)] for at in picked.reshape(-1))
        if kind == "Slice" and first and (starts := site.listed("starts", 1)) and (ends := site.listed("ends", 2)):
            steps = site.listed("steps", 4) or [1]
            return first[starts[0] : ends[0] : steps[0]]
        if kind == "Concat":
            return self._laid(site)
        if kind in _ARITHMETIC and all(self._is_number(site, at) for at in range(len(site.node.inputs))):
            union = frozenset[int]().union(
                *(each for at in range(len(site.node.inputs)) for each in self._elements(site, at))
            )
            size = site.output_size()
            return (union,) * (size[0] if size else 1)
        return None

    def _is_number(self, site: Site, index: int) -> bool:
        return bool(self._elements(site, index)) or site.is_weight(index) or site.numbers(index) is not None

    def _laid(self, site: Site) -> Elements | None:
        found: list[frozenset[int]] = []
        for at in range(len(site.node.inputs)):
            size = site.size(at)
            if size is None or len(size) != 1:
                return None
            found += self._elements(site, at) or [frozenset()] * size[0]
        return tuple(found)

    def _check(self, site: Site, outputs: Mapping[str, Labels]) -> None:
        """Freeze the sizes behind what cannot be replaced: a size that the data decide, bounds that are not known."""
        if site.node.op_type not in _SHAPES:
            known = all(site.numbers(at) is not None for at in range(1, len(site.node.inputs)))
            if not known:
                for at in REPLACEABLE[site.node.op_type]:
                    self._freeze(site, frozenset().union(*self._elements(site, at)))
            return
        (place,) = REPLACEABLE[site.node.op_type]
        elements = self._elements(site, place)
        labels = outputs.get(str(site.node.outputs[0].name), (None,) * len(elements))
        offset = len(labels) - len(elements)
        for at, element in enumerate(elements):
            if site.is_free(at + offset):  # else it is replaced by a number
                self._freeze(site, element)

    def _freeze(self, site: Site, element: frozenset[int]) -> None:
        for at in element:
            site.freeze(self.axes[at], f"its size is computed with in {site.title}")
