"""The one representation: an ONNX graph with the constraints on its weights. Knows no framework of origin."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from workers.compute.graph.constraints import Constraint

FLOATS = frozenset(
    {onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE, onnx_ir.DataType.BFLOAT16}
)


@dataclass
class Model:
    """An ONNX model being compressed.

    `constraints` maps initializer names to the promises that earlier steps made about them.
    """

    ir: onnx_ir.Model
    constraints: dict[str, Constraint] = field(default_factory=dict)

    @property
    def graph(self) -> onnx_ir.Graph:
        """The main graph."""
        return self.ir.graph

    def weights(self) -> dict[str, onnx_ir.Value]:
        """Return the trainable initializers by name: floating point, more than one element."""
        return {
            name: value
            for name, value in self.graph.initializers.items()
            if value.const_value is not None and value.const_value.dtype in FLOATS and value.const_value.size > 1
        }

    def read(self, name: str) -> NDArray[np.generic]:
        """Return the values of an initializer (shared memory where possible: do not write into it)."""
        tensor = self.graph.initializers[name].const_value
        if tensor is None:
            msg = f"initializer {name} has no values"
            raise KeyError(msg)
        values: NDArray[np.generic] = tensor.numpy()
        return values

    def write(self, name: str, values: NDArray[np.generic]) -> None:
        """Replace the values of an initializer; shape and dtype follow `values`."""
        initializer = self.graph.initializers[name]
        initializer.const_value = onnx_ir.tensor(np.ascontiguousarray(values), name=name)
        initializer.shape = onnx_ir.Shape(values.shape)
        initializer.dtype = initializer.const_value.dtype

    def clone(self) -> "Model":
        """Return an independent copy; tensors are shared until `write` replaces one of them."""
        return Model(self.ir.clone(), copy.copy(self.constraints))


def load(path: Path) -> Model:
    """Read an ONNX file that has passed `importers`; constants held in nodes become initializers."""
    loaded = onnx_ir.load(path)
    common.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=0)(loaded)
    common.RemoveInitializersFromInputsPass()(loaded)
    return Model(loaded)


def save(model: Model, path: Path) -> None:
    """Write one self-contained ONNX file, without metadata that differs from run to run."""
    onnx_ir.save(model.ir, path)
