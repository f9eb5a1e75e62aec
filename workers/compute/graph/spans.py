"""Layers that can be taken out: regions of the graph with one way in and one way out, of equal shape and type.

Found by structure alone. From a root value, the *joints* are the later values that every path from the root to an
output runs through; side inputs (masks, positions) do not depend on the root. Between two joints of equal shape lies a
region that can be replaced by nothing. Repeats in the sequence of regions are layers; so is a region that its input
skips (a residual block). Reading no more than the *shape* of a value is not a path.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from workers.compute.graph.dataflow import SHAPE_READERS, constants, data_reads, descendants, drop_dead, live
from workers.compute.graph.model import FLOATS, Model
from workers.compute.graph.repeats import find_repeats
from workers.compute.graph.shapes import Shape, complete, infer_apart

_JOINING = frozenset({"Add", "Sum"})


@dataclass(frozen=True)
class Span:
    """A removable layer: the value that enters, the value that leaves, all values computed inside, the last included.

    `weights` are the initializers that only this span reads. Spans of one `group` have the same operators and shapes.
    """

    entry: str
    exit: str
    inside: tuple[str, ...]
    weights: tuple[str, ...]
    group: int


@dataclass(frozen=True)
class _Region:
    """What lies between two neighbouring joints. Equal signatures: same operators, same shapes of constants."""

    entry: ir.Value
    exit: ir.Value
    nodes: tuple[ir.Node, ...]
    signature: tuple[str, ...]
    weighted: bool

    @property
    def residual(self) -> bool:
        """Whether the input skips the region's work and is added to its result."""
        last = self.nodes[-1]
        return len(self.nodes) > 1 and last.op_type in _JOINING and self.entry in last.inputs


_Layer = tuple[_Region, ...]


def spans(model: Model) -> tuple[Span, ...]:
    """Return the removable layers in graph order, none overlapping another."""
    graph = _Graph(model)
    groups = [group for chain in graph.chains() for group in _groups(chain)]
    groups.sort(key=lambda layers: -sum(len(region.nodes) for layer in layers for region in layer))
    taken: set[ir.Node] = set()
    found: list[tuple[int, Span]] = []
    for number, layers in enumerate(groups):
        nodes = {node for layer in layers for region in layer for node in region.nodes}
        if nodes.isdisjoint(taken):
            made = [graph.span(layer, number) for layer in layers]
            taken |= nodes
            found.extend(
                (graph.position[layer[0].nodes[0]], span) for layer, span in zip(layers, made, strict=True) if span
            )
    return tuple(span for _, span in sorted(found, key=lambda item: item[0]))


def remove(model: Model, chosen: Collection[Span]) -> Model:
    """Return a copy without the chosen spans and without what only they needed; all other names stay."""
    smaller = model.clone()
    values = {str(value.name): value for node in smaller.graph for value in node.outputs}
    values |= {str(value.name): value for value in smaller.graph.inputs}
    bypass = {values[inner]: values[span.entry] for span in chosen for inner in span.inside}
    exits = {span.exit for span in chosen}
    for value in bypass:
        _reroute(smaller.graph, value, bypass, only_shapes=value.name not in exits)
    for name in drop_dead(smaller.graph):
        smaller.constraints.pop(name, None)
    return smaller


def _groups(chain: Sequence[_Region]) -> Iterator[list[_Layer]]:
    """Yield repeated layers, then single residual ones, of one chain of regions."""
    repeat = find_repeats(
        [region.signature for region in chain],
        [region.weighted for region in chain],
        [region.residual for region in chain],
    )
    if repeat is None:
        for region in chain:
            if region.residual and region.weighted:
                yield [(region,)]
        return
    starts = range(repeat.start, repeat.end, repeat.period)
    yield [tuple(chain[start : start + repeat.period]) for start in starts]
    yield from _groups(chain[: repeat.start])
    yield from _groups(chain[repeat.end :])


def _reroute(graph: ir.Graph, value: ir.Value, bypass: dict[ir.Value, ir.Value], *, only_shapes: bool) -> None:
    """Let readers of `value` read what enters its span instead; of an inner value, those that read its shape."""
    entering = value
    while entering in bypass:
        entering = bypass[entering]
    for use in tuple(value.uses()):
        if not only_shapes or use.node.op_type in SHAPE_READERS:
            use.node.replace_input_with(use.idx, entering)
    for index, output in enumerate(graph.outputs):
        if output is value and not only_shapes:
            graph.outputs[index] = _renamed(graph, entering, value)


def _renamed(graph: ir.Graph, entering: ir.Value, output: ir.Value) -> ir.Value:
    """Add an Identity that gives a graph output its old name."""
    node = ir.node("Identity", [entering], name=f"{output.name}/identity")
    named = node.outputs[0]
    named.name, named.shape, named.type = output.name, output.shape, output.type
    output.name = f"{output.name}/removed"
    graph.append(node)
    return named


class _Graph:
    """The model's main graph, in file order, with what the search for layers asks of it."""

    def __init__(self, model: Model) -> None:
        self._graph = model.graph
        self._types = infer_apart(model)
        self._constants = constants(model.graph)
        self._live = live(model.graph)
        self._nodes = [node for node in model.graph if not self._live.isdisjoint(node.outputs)]
        self._readers: Counter[ir.Value] = Counter(value for node in self._nodes for value in set(data_reads(node)))
        self._readers.update(model.graph.outputs)  # never read to the end: an output stays open
        self.position = {node: index for index, node in enumerate(self._nodes)}

    def chains(self) -> Iterator[list[_Region]]:
        """Yield the regions between joints of equal shape, for every shape and every root that gives new ones."""
        reached: dict[tuple[ir.DataType, Shape], set[ir.Value]] = {}
        sizes = Counter(kind for value in self._values() if (kind := self._kind(value)))
        for value in self._values():
            kind = self._kind(value)
            if kind is None or sizes[kind] < 2 or value in reached.get(kind, ()):  # noqa: PLR2004  # two ends
                continue
            nodes, values = descendants(self._nodes, value)
            reached.setdefault(kind, set()).update(values)
            yield self._regions(nodes, [joint for joint in self._joints(nodes, value) if self._kind(joint) == kind])

    def span(self, layer: _Layer, group: int) -> Span | None:
        """Return the layer as a span, unless something outside needs more of its inside than a known shape."""
        entry, leaving = layer[0].entry, layer[-1].exit
        inside = [output for region in layer for node in region.nodes for output in node.outputs]
        same = {value: entry for value in inside if self._shape(value) == self._shape(entry)}
        still_read = live(self._graph, {leaving: entry}) & set(inside)
        if not still_read <= same.keys():
            return None
        gone = self._live - live(self._graph, same)
        weights = tuple(name for name, value in self._graph.initializers.items() if value in gone)
        return Span(str(entry.name), str(leaving.name), tuple(str(value.name) for value in inside), weights, group)

    def _values(self) -> Iterator[ir.Value]:
        yield from (value for value in self._graph.inputs if value in self._live)
        for node in self._nodes:
            yield from (value for value in node.outputs if value in self._live and value not in self._constants)

    def _shape(self, value: ir.Value) -> tuple[int, ...] | None:
        return complete(self._types[str(value.name)][1]) if str(value.name) in self._types else None

    def _kind(self, value: ir.Value) -> tuple[ir.DataType, Shape] | None:
        """Return type and shape of a value that a residual stream can hold."""
        shape = self._shape(value)
        if shape is None or len(shape) < 2 or self._types[str(value.name)][0] not in FLOATS:  # noqa: PLR2004  # rows, width
            return None
        return self._types[str(value.name)][0], shape

    def _joints(self, nodes: Sequence[ir.Node], root: ir.Value) -> Iterator[ir.Value]:
        """Yield the root and every value after which nothing else that depends on the root is still to be read."""
        waiting = {root: self._readers[root]}
        yield root
        for node in nodes:
            for value in set(data_reads(node)) & waiting.keys():
                waiting[value] -= 1
                if not waiting[value]:
                    del waiting[value]
            waiting.update({value: self._readers[value] for value in node.outputs if self._readers[value]})
            if len(waiting) == 1 and (joint := next(iter(waiting))) in node.outputs:
                yield joint

    def _regions(self, nodes: Sequence[ir.Node], joints: Iterable[ir.Value]) -> list[_Region]:
        places = {output: index for index, node in enumerate(nodes) for output in node.outputs}
        regions = []
        for entry, leaving in pairwise(joints):
            inner = tuple(nodes[places.get(entry, -1) + 1 : places[leaving] + 1])
            shapes = [self._constant_shapes(node) for node in inner]
            signature = tuple(
                sorted(f"{node.domain}:{node.op_type}{kinds}" for node, kinds in zip(inner, shapes, strict=True))
            )
            weighted = any(len(shape) > 1 for kinds in shapes for shape in kinds)
            regions.append(_Region(entry, leaving, inner, signature, weighted))
        return regions

    def _constant_shapes(self, node: ir.Node) -> tuple[tuple[int, ...], ...]:
        return tuple(self._shape(value) or () for value in node.inputs if value in self._constants)
