"""The strategy of random graphs: draws nodes from all families until there are enough."""

from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from onnx import helper

from tests.conformance.random_graphs import (
    control,
    elementwise,
    layers,
    moving,
    quantized,
    selecting,
    special,
)
from tests.conformance.random_graphs.draft import (
    Array,
    Draft,
    Given,
    Unfit,
    declared,
    model,
    outputs_of,
    tensors,
)
from workers.compute.importers.operators import NEWEST_OPSET

OLDEST_OPSET = 9
_FAMILIES = (
    elementwise.FORMS,
    moving.FORMS,
    selecting.FORMS,
    layers.FORMS,
    quantized.FORMS,
    control.FORMS,
    special.FORMS,
)
_WEIGHTS = (3, 3, 2, 3, 1, 1, 2)
_CHOICES = [family for family, weight in zip(_FAMILIES, _WEIGHTS, strict=True) for _ in range(weight)]
_TRIES = 3


@dataclass(frozen=True)
class RandomGraph:
    """A model, its first batch, and how to make another of one row more; None where that may meet a jump."""

    proto: onnx.ModelProto
    first: dict[str, Array]
    given: dict[str, Given]
    batch: int
    steady: bool

    def second(self) -> dict[str, Array] | None:
        if not self.steady or not any(given.grows for given in self.given.values()):
            return None
        rng = np.random.default_rng(1)
        return {name: given.fill(rng, self.batch + 1) for name, given in self.given.items()}

    def _repr_pretty_(self, printer: RepresentationPrinter, _: bool) -> None:
        """Show the model as text: this is what a failing example prints."""
        printer.text(onnx.printer.to_text(self.proto))


@st.composite
def random_graphs(draw: st.DrawFn) -> RandomGraph:
    """Draw a graph of 3 to 15 nodes, of any family, at any opset."""
    opset = draw(st.sampled_from(range(NEWEST_OPSET, OLDEST_OPSET - 1, -1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    draft = Draft(draw, opset, draw(st.integers(2, 3)), rng)
    target = draw(st.integers(3, 15))
    for _ in range(_TRIES * target):
        if len(draft.nodes) >= target:
            break
        _grow(draft)
    return _finished(draft)


def _grow(draft: Draft) -> None:
    """Add a form's nodes, or leave the graph as it was."""
    form = draft.choice(draft.choice(_CHOICES))
    kept = (len(draft.nodes), draft.steady)
    try:
        form(draft)
    except Unfit:
        # What was finished before the refusal stays: it is part of a valid graph.
        if len(draft.nodes) == kept[0]:
            draft.steady = kept[1]


def _finished(draft: Draft) -> RandomGraph:
    """Close the graph: what nobody reads is an output, and so are some of the other values."""
    made = {name for node in draft.nodes for name in node.output}
    arrays = {value.name: value.array for value in draft.values}
    read = {name for node in draft.nodes for name in node.input}
    outputs = [name for name in arrays if name in made and (name not in read or draft.integer(0, 3) == 0)]
    assume(outputs)
    inputs = {name: arrays[name] for name in draft.inputs}
    grows = [name for name, given in draft.inputs.items() if given.grows]
    graph = helper.make_graph(
        draft.nodes, "random", declared(inputs, grows), outputs_of(outputs), tensors(draft.weights)
    )
    return RandomGraph(model(graph, draft.opset), inputs, draft.inputs, draft.batch, draft.steady)
