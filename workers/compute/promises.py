"""What the runner checks after every step, whatever the technique: the promises that no step may break."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from app.errors import ServiceFault
from workers.compute.graph.model import FLOATS, Model
from workers.compute.wording import shown


def check(before: Model, after: Model, file: Path) -> dict[str, int]:
    """Return the number of tensors under each kind of constraint, all of which hold.

    `file` is `after` as saved. Raises ServiceFault when inputs or outputs changed, a constraint is broken, a weight
    is not finite, or the file is not valid ONNX: a defect of the technique, never of the request.
    """
    for what, old, new in (
        ("inputs", before.graph.inputs, after.graph.inputs),
        ("outputs", before.graph.outputs, after.graph.outputs),
    ):
        if [_interface(value) for value in old] != [_interface(value) for value in new]:
            raise ServiceFault(f"The step changed the model's {what}.")
    for name in after.graph.initializers:
        _finite(after, name)
    for name, constraint in after.constraints.items():
        if name not in after.graph.initializers:
            raise ServiceFault(f"The step left a constraint on {shown(name)!r}, which is no weight any more.")
        if not constraint.holds(_float(after, name)):
            raise ServiceFault(f"The step broke the constraint {constraint.kind!r} on {shown(name)!r}.")
    _valid(file)
    return dict(sorted(Counter(constraint.kind for constraint in after.constraints.values()).items()))


def _interface(value: ir.Value) -> tuple[str, str, tuple[str, ...] | None]:
    shape = None if value.shape is None else tuple(str(axis) for axis in value.shape)
    return str(value.name), str(value.dtype), shape


def _float(model: Model, name: str) -> NDArray[np.floating]:
    """Return the weights in their own type, bfloat16 as float32, which NumPy can compare."""
    values = model.read(name)
    return values.astype(values.dtype if values.dtype.kind == "f" else np.float32, copy=False)


def _finite(model: Model, name: str) -> None:
    tensor = model.graph.initializers[name].const_value
    if tensor is None or tensor.dtype not in FLOATS or tensor.size <= 1:
        return
    if np.isnan(_float(model, name)).any():
        raise ServiceFault(f"The step left NaN in {shown(name)!r}.")


def _valid(file: Path) -> None:
    try:
        onnx.checker.check_model(file)
    except onnx.checker.ValidationError as error:
        raise ServiceFault("The step left a graph that is not valid ONNX.") from error
