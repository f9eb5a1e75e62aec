"""The one representation: an ONNX graph with the constraints on its weights. Knows no framework of origin."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from app.errors import LimitReached
from workers.compute.graph.axes import plain
from workers.compute.graph.constraints import Constraint

PRODUCER = "modelpress"
MAX_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message
_INITIALIZERS_ALONE = 4  # before this IR version every initializer had to be a graph input too

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

    def read_floats(self, name: str) -> NDArray[np.floating]:
        """Return a floating initializer to calculate with: float32, or float64 where the file has that."""
        values = self.read(name)
        return values.astype(np.float64 if values.dtype == np.float64 else np.float32, copy=False)

    def write(self, name: str, values: NDArray[np.generic]) -> None:
        """Replace the values of an initializer; shape and dtype follow `values`."""
        initializer = self.graph.initializers[name]
        initializer.const_value = onnx_ir.tensor(np.asarray(values, order="C"), name=name)
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
    for value in (*loaded.graph.inputs, *loaded.graph.outputs):
        _name_axes(value)
    return Model(loaded)


def _name_axes(value: onnx_ir.Value) -> None:
    """Replace what some exporters write for a free axis; the shape check of a runtime would take it literally."""
    if value.shape is not None:
        written = (axis.value if isinstance(axis, onnx_ir.SymbolicDim) else axis for axis in value.shape)
        value.shape = onnx_ir.Shape([plain(axis) for axis in written])


def save(model: Model, path: Path) -> None:
    """Write one self-contained ONNX file: nodes in topological order, no metadata, same model, same bytes.

    Raises LimitReached for 2 GiB and more, which protobuf cannot hold in one file.
    """
    model.graph.sort()
    tidy = model.clone().ir
    common.ClearMetadataAndDocStringPass()(tidy)
    common.RemoveUnusedOpsetsPass()(tidy)
    for initializer in tidy.graph.initializers.values():
        initializer.shape = initializer.type = None  # the tensor says both
    tidy.doc_string = None
    tidy.metadata_props.clear()
    tidy.producer_name, tidy.producer_version, tidy.domain, tidy.model_version = PRODUCER, None, None, None
    tidy.ir_version = max(tidy.ir_version, _INITIALIZERS_ALONE)
    weights = sum(
        value.const_value.nbytes for value in tidy.graph.initializers.values() if value.const_value is not None
    )
    if weights < MAX_FILE_BYTES:
        proto = onnx_ir.serde.serialize_model(tidy)
        if proto.ByteSize() < MAX_FILE_BYTES:
            path.write_bytes(proto.SerializeToString(deterministic=True))
            return
    msg = f"the model's weights take {weights:,} bytes; one ONNX file holds less than 2 GiB; compress more, or split it"
    raise LimitReached(msg)
