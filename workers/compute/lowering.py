"""The trainable twin of an int8 graph: floats on the very grids, which then go back into the integers that are shipped.

Activations are rounded in the twin as they will be, weights keep their scales; gradients pass straight through
(Jacob et al., 2017). Knows no options.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from workers.compute.graph.constraints import Constraint, Grid, Half, Mask, zeros_of
from workers.compute.graph.grids import Steps
from workers.compute.graph.model import Model
from workers.compute.rounding import rounded_inputs

Array = NDArray[np.generic]

# Names that the integers of a weight get.
_SUFFIXES = ("_quantized", "_int8")
_TURNED = "_Transposed"


@dataclass(frozen=True)
class Integers:
    """Where a weight's integers are in the int8 graph, and what they stand for; `steps` has the weight's rank."""

    name: str
    steps: Steps


@dataclass(frozen=True)
class Twin:
    """The trainable model, and by weight which integers it stands for."""

    model: Model
    integers: dict[str, Integers] = field(default_factory=dict)


def twin_of(lowered: Model, before: Model) -> Twin:
    """Return the twin of `lowered`, which starts from the floating weights of `before`.

    Tensors of fewer values than int8 has (shared, ternary) stay as they are, so that they still pack as such.
    """
    twin = Twin(lowered.clone())
    rounded_inputs(twin.model)
    for node in list(twin.model.graph):
        found = _decoded(twin.model, node)
        if found is not None:
            _free(twin, node, found, before)
    common.RemoveUnusedNodesPass()(twin.model.ir)
    return twin


def write_back(twin: Twin, lowered: Model) -> None:
    """Put what was trained into the int8 graph, in place: integers by the same scales, floats as they are."""
    for name in twin.model.weights():
        values = twin.model.read(name)
        if name in twin.integers:
            place, steps = twin.integers[name].name, twin.integers[name].steps
            numbers = np.rint(values.astype(np.float64) / steps.scale) + steps.zero
            lowered.write(place, np.clip(numbers, steps.low, steps.high).astype(lowered.read(place).dtype))
        elif name in lowered.graph.initializers:
            lowered.write(name, values)


def _decoded(model: Model, node: ir.Node) -> Integers | None:
    """Return the integers that a node turns into a weight: DequantizeLinear, or Cast times scales."""
    if node.op_type == "DequantizeLinear":
        return _dequantized(model, node)
    cast = node.inputs[0].producer() if node.op_type == "Mul" and node.inputs[0] is not None else None
    if cast is None or cast.op_type != "Cast" or not (_is_constant(cast.inputs[0]) and _is_constant(node.inputs[1])):
        return None
    scale = _read(model, node.inputs[1]).astype(np.float32)
    return Integers(str(_named(cast.inputs[0]).name), Steps(scale, np.zeros(scale.shape, np.int16), -127, 127))


def _dequantized(model: Model, node: ir.Node) -> Integers | None:
    if not (_is_constant(node.inputs[0]) and _is_constant(node.inputs[1])):
        return None
    numbers, scale = _read(model, node.inputs[0]), _read(model, node.inputs[1]).astype(np.float32)
    point = _read(model, node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else 0  # noqa: PLR2004
    zero = np.broadcast_to(np.asarray(point, np.int16), scale.shape)
    axis = node.attributes.get("axis")
    shape = [1] * numbers.ndim
    if scale.size > 1:
        shape[1 if axis is None else axis.as_int()] = -1
    limits = np.iinfo(str(numbers.dtype))
    low = -limits.max if limits.min else 0  # symmetric, as the quantiser's own numbers are
    return Integers(str(_named(node.inputs[0]).name), Steps(scale.reshape(shape), zero.reshape(shape), low, limits.max))


def _free(twin: Twin, node: ir.Node, found: Integers, before: Model) -> None:
    """Put a trainable float weight in the place of the node that decodes integers."""
    numbers = twin.model.read(found.name)
    promise, latent = _origin(before, found.name, numbers.shape)
    if promise is not None and not isinstance(promise, Mask | Half):
        return
    value = ((numbers.astype(np.float32) - found.steps.zero) * found.steps.scale).astype(np.float32)
    name = str(node.outputs[0].name)
    if numbers.dtype != np.int32:  # biases have digits enough: they train as they are and are rounded at the end
        pruned = zeros_of(promise, value) if latent is not None else np.zeros(value.shape, np.bool_)
        grid = Grid(value.shape, found.steps, ~pruned, value if latent is None else latent)
        twin.model.constraints[name] = grid
        value = grid.project(value if latent is None else latent)
    _replace(twin.model, node, name, value)
    twin.integers[name] = found


def _origin(before: Model, name: str, shape: tuple[int, ...]) -> tuple[Constraint | None, NDArray[np.float32] | None]:
    """Return the promise about a weight and its values before they became integers, if they can be found."""
    stem = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
    turned = stem.removesuffix(_TURNED)
    known = stem if stem in before.graph.initializers else turned
    if known not in before.weights():
        return None, None
    promise, values = before.constraints.get(known), before.read_floats(known).astype(np.float32)
    if known != stem:
        values = values.T
        promise = Mask(promise.kept.T) if isinstance(promise, Mask | Half) else promise
    return promise, values if values.shape == shape else None


def _replace(model: Model, node: ir.Node, name: str, values: NDArray[np.float32]) -> None:
    output = node.outputs[0]
    tensor = ir.tensor(np.asarray(values, order="C"), name=name)
    shape = ir.Shape(values.shape)
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor)
    output.replace_all_uses_with(value)
    model.graph.remove(node, safe=True)
    model.graph.register_initializer(value)


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer()


def _named(value: ir.Value | None) -> ir.Value:
    if value is None:
        msg = "an input that was there is missing"
        raise ValueError(msg)
    return value


def _read(model: Model, value: ir.Value | None) -> Array:
    return model.read(str(_named(value).name))
