"""Which weight the time of a node in the runtime's graph belongs to, and what still calculates in floating point.

ONNX Runtime folds, fuses and renames nodes, and keeps most names of values: a node is found by the weights that it
reads, else by the value that it yields in the place of those it swallowed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from workers.compute.graph.model import Model
from workers.compute.graph.readers import readers
from workers.compute.profiling import Profile
from workers.compute.wording import shown

_MOST_HOPS = 12  # from a weight through what decodes it to the end of what the runtime fuses: Conv, norm, activation
_BLOCKED = "_nchwc"  # a node in the runtime's own layout yields values of other names
_OWN_WORDS = re.compile(r"^fused |_nchwc$|_token_\d+$|/MatMulAddFusion/?$|_quant$|#\d+$")
_TOLD_LAYERS = 3
_FLOATING = frozenset(
    {
        *("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"),
        *("LSTM", "GRU", "RNN", "Attention"),
    }
)
_INTEGER = frozenset(
    {
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"),
        *("ConvInteger", "QLinearConv", "QLinearConvTranspose", "DynamicQuantizeLSTM", "QAttention"),
    }
)


@dataclass(frozen=True)
class Fallback:
    """`count` of `total` operators with weights calculate in floating point, of these operators.

    `what` they all are; `share` is of the time in operators; `layers` names a few that take longest.
    """

    count: int
    total: int
    what: str
    share: float
    layers: tuple[str, ...]
    operators: frozenset[str]

    def __str__(self) -> str:
        """Say so in a sentence."""
        verb = "calculates" if self.count == 1 else "calculate"
        more = ", …" if self.count > len(self.layers) else ""
        return (
            f"{self.count} of {self.total} {self.what} still {verb} in floating point ({self.share:.0%} of the time in "
            f"operators): {', '.join(self.layers)}{more}."
        )


def shares(published: Model, sizes: Mapping[str, int], profile: Profile) -> dict[str, float]:
    """Return each tensor's share of the time in operators: that of the nodes that read it.

    `sizes` are the tensors and their numbers of weights, by which tensors share the time of a node that reads several.
    A tensor is left out where no node could be traced to it.
    """
    if profile.graph is None or not profile.microseconds:
        return {}
    traced = _Traced(profile.graph)
    nodes = {name: traced.readers_of(value) for name, value in _values(published, sizes).items()}
    weight = Counter[str]()
    for name, found in nodes.items():
        weight.update(dict.fromkeys(found, sizes[name]))
    spent: dict[str, float] = defaultdict(float)
    for node in profile.nodes:
        spent[node.name] += node.microseconds / profile.microseconds
    return {
        name: sum(spent[node] * sizes[name] / weight[node] for node in sorted(found))
        for name, found in nodes.items()
        if found
    }


def fallback(profile: Profile) -> Fallback | None:
    """Return what calculates in floating point although it has weights, or None where nothing does."""
    if profile.graph is None:
        return None
    weighed = {str(node.name): node.op_type for node in profile.graph.all_nodes() if _holds_weights(node)}
    slow = {name for name, operator in weighed.items() if operator in _FLOATING}
    times = sorted((node for node in profile.nodes if node.name in slow), key=lambda node: -node.microseconds)
    if not times:
        return None
    every = [node.operator for node in profile.nodes if node.name in weighed]
    return Fallback(
        count=len(times),
        total=len(every),
        what=_kind(every),
        share=sum(node.microseconds for node in times) / (profile.microseconds or 1.0),
        layers=tuple(shown(_plain(node.name)) for node in times[:_TOLD_LAYERS]),
        operators=frozenset(node.operator for node in times),
    )


class _Traced:
    """The runtime's graph by names: who reads an initializer, who yields a value."""

    def __init__(self, graph: ir.Graph) -> None:
        nodes = list(graph.all_nodes())
        self._names = {str(node.name) for node in nodes}
        self._yields = {output.name: str(node.name) for node in nodes for output in node.outputs if output.name}
        self._reads = {
            name: frozenset(str(reader.node.name) for reader in readers(value))
            for name, value in graph.initializers.items()
        }

    def readers_of(self, value: ir.Value, left: int = _MOST_HOPS) -> frozenset[str]:
        """Return the names of the nodes that calculate with a value of the published graph."""
        if value.name in self._reads:
            return self._reads[value.name]
        found: set[str] = set()
        for node in dict.fromkeys(use.node for use in value.uses()):
            if (here := self._place(node)) is not None:
                found.add(here)
            elif left:
                found.update(*(self.readers_of(output, left - 1) for output in node.outputs))
        return frozenset(found)

    def _place(self, node: ir.Node) -> str | None:
        """Return the node that does the work of this one, if it is the last that was fused into it."""
        blocked = f"{node.name}{_BLOCKED}"
        if blocked in self._names:
            return blocked
        return next((self._yields[output.name] for output in node.outputs if output.name in self._yields), None)


def _values(model: Model, names: Collection[str]) -> dict[str, ir.Value]:
    """Return tensors by name, decoded ones as they come out of what decodes them."""
    made = {output.name: output for node in model.graph.all_nodes() for output in node.outputs}
    values = {str(name): value for name, value in (*made.items(), *model.graph.initializers.items())}
    return {name: values[name] for name in names if name in values}


def _holds_weights(node: ir.Node) -> bool:
    return node.op_type in _FLOATING | _INTEGER and any(
        value is not None and value.is_initializer() and _rank(value) > 1 for value in node.inputs
    )


def _kind(operators: Collection[str]) -> str:
    if all("MatMul" in name or "Gemm" in name for name in operators):
        return "matrix products"
    return "convolutions" if all("Conv" in name for name in operators) else "layers"


def _rank(value: ir.Value) -> int:
    return len(value.const_value.shape) if value.const_value is not None else 0


def _plain(name: str) -> str:
    """Return a node's name without what the runtime and its quantiser add."""
    while (shorter := _OWN_WORDS.sub("", name)) != name:
        name = shorter
    return name
