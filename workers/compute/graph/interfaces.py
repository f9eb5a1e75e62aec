"""What a graph takes and gives, and how another comes to take and give the same."""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from app.contracts.model import TensorSpec
from workers.compute.graph.axes import plain
from workers.compute.graph.model import Model


@dataclass(frozen=True)
class Ports:
    """Inputs and outputs, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def interface_of(model: Model) -> Ports:
    """Return what a model takes and gives."""
    return Ports(_specs(model.graph.inputs), _specs(model.graph.outputs))


def stood_in(student: Model, model: Model) -> Model:
    """Return a copy of `student` whose free axes have the names that they have in `model`, which it fits."""
    found = student.clone()
    names: dict[str, str] = {}
    ports = [(found.graph.inputs, model.graph.inputs), (found.graph.outputs, model.graph.outputs)]
    for own, other in (pair for ours, theirs in ports for pair in zip(ours, theirs, strict=True)):
        for axis, wanted in zip(own.shape or (), other.shape or (), strict=True):
            if isinstance(axis, ir.SymbolicDim) and axis.value is not None and isinstance(wanted, ir.SymbolicDim):
                names.setdefault(axis.value, wanted.value or axis.value)
    for value in _values(found):
        value.shape = value.shape and ir.Shape([_renamed(axis, names) for axis in value.shape])
    for own, other in (pair for ours, theirs in ports for pair in zip(ours, theirs, strict=True)):
        own.shape = other.shape and ir.Shape(list(other.shape))
    return found


def _specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=str(value.name),
            dtype=value.dtype.name.lower() if value.dtype is not None else "unknown",
            shape=[plain(axis.value if isinstance(axis, ir.SymbolicDim) else axis) for axis in value.shape or ()],
        )
        for value in values
    )


def _values(model: Model) -> Iterable[ir.Value]:
    """Yield every value that is computed or given, in control flow too."""
    yield from model.graph.inputs
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        yield from node.outputs


def _renamed(axis: int | ir.SymbolicDim, names: dict[str, str]) -> int | ir.SymbolicDim:
    return (
        ir.SymbolicDim(names.get(axis.value, axis.value)) if isinstance(axis, ir.SymbolicDim) and axis.value else axis
    )
