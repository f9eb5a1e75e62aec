"""What goes into the bodies of If, Loop and Scan, and what comes out. Knows types, and no inference."""

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

Kind = onnx.TypeProto | None
NESTING = frozenset({"If", "Loop", "Scan"})
_CONTROLS = 2  # Loop's first inputs: the number of trips, and whether to begin


def rows(node: ir.Node) -> int:
    """Return how many of Scan's last inputs it goes through."""
    return node.attributes["num_scan_inputs"].as_int()


def row_axes(node: ir.Node) -> Sequence[int]:
    """Return the axis that Scan goes along, for each of those inputs."""
    given = node.attributes.get("scan_input_axes")
    return given.as_ints() if given is not None else [0] * rows(node)


def given(node: ir.Node, kinds: Sequence[Kind]) -> list[Kind]:
    """Return the types of the body's inputs from the types of the node's."""
    if node.op_type == "Loop":
        at, going = (helper.make_tensor_type_proto(kind, []) for kind in (TensorProto.INT64, TensorProto.BOOL))
        return [at, going, *kinds[_CONTROLS:]]
    if node.op_type == "Scan":
        states = len(kinds) - rows(node)
        cut = zip(kinds[states:], row_axes(node), strict=True)
        return [*kinds[:states], *(_without(kind, axis) for kind, axis in cut)]
    return []


def yielded(node: ir.Node, kinds: Sequence[Kind], found: Sequence[Sequence[Kind]], trips: int | None) -> list[Kind]:
    """Return the types of the node's outputs; `found` are those of each body's, `trips` how often it runs."""
    if node.op_type == "If":
        return [first if first == second else None for first, second in zip(*found, strict=True)]
    began = kinds[_CONTROLS:] if node.op_type == "Loop" else kinds[: len(kinds) - rows(node)]
    results = found[0][1:] if node.op_type == "Loop" else found[0]
    # A state of another shape than it began with changes on every trip.
    states = [kind if kind == first else None for kind, first in zip(results, began, strict=False)]
    attribute = node.attributes.get("scan_output_axes")
    axes = attribute.as_ints() if attribute is not None else [0] * (len(results) - len(began))
    return [*states, *(_with(kind, axis, trips) for kind, axis in zip(results[len(began) :], axes, strict=True))]


def _without(kind: Kind, axis: int) -> Kind:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    made = onnx.TypeProto()
    made.CopyFrom(kind)
    del made.tensor_type.shape.dim[axis]
    return made


def _with(kind: Kind, axis: int, size: int | None) -> Kind:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.tensor_type.shape.dim]
    sizes.insert(axis % (len(sizes) + 1), size)
    return helper.make_tensor_type_proto(kind.tensor_type.elem_type, sizes)
