"""The one representation: an ONNX graph with the constraints on its weights. Knows no framework of origin."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # has no stubs
from numpy.typing import NDArray
from onnx_ir.passes import common

from app.errors import LimitReached
from workers.compute.graph import external
from workers.compute.graph.axes import plain
from workers.compute.graph.constraints import Constraint

PRODUCER = "modelpress"
MAX_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message
# ONNX Runtime 1.32 folds no constant over 1 GiB (optimization.constant_folding_max_output_size_in_bytes) and would
# compute it in every call. Decoding passes through int64, 8 bytes an element.
MAX_FOLDED_ELEMENTS = 2**30 // 8
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

    def add(self, name: str, values: NDArray[np.generic]) -> onnx_ir.Value:
        """Return a new initializer of these values, under the name or one like it that nothing has."""
        tensor = onnx_ir.tensor(np.asarray(values, order="C"), name=self.unused(name))
        kind = onnx_ir.TensorType(tensor.dtype)
        added = onnx_ir.Value(name=tensor.name, shape=onnx_ir.Shape(values.shape), type=kind, const_value=tensor)
        self.graph.register_initializer(added)
        return added

    def unused(self, name: str) -> str:
        """Return the name, or one like it that no value of the model has."""
        taken = {*self.graph.initializers, *(str(value.name) for value in self.graph.inputs)}
        taken.update(str(value.name) for node in self.graph.all_nodes() for value in node.outputs)
        while name in taken:
            name += "_"
        return name

    def clone(self) -> "Model":
        """Return an independent copy; tensors are shared until `write` replaces one of them."""
        return Model(self.ir.clone(), copy.copy(self.constraints))


def load(path: Path) -> Model:
    """Read an ONNX file that has passed `importers`; constants held in nodes become initializers.

    Weights in files beside it are mapped, not read: they must stay as they are while the model is in use.
    """
    loaded = onnx_ir.load(path)
    external.map_tensors(loaded.graph, path.parent)
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
    """Write an ONNX file: nodes in topological order, no metadata, same model, same bytes.

    From 2 GiB on, which protobuf cannot hold in one message, the weights go to a second file, `<name>.data` beside the
    first. Raises LimitReached when the rest alone takes 2 GiB.
    """
    nameless = [node for node in model.graph.all_nodes() if node.name is None]
    model.graph.sort()
    for node in nameless:
        node.name = None  # sorting names them, and nobody looks for these names
    tidy = _tidied(model)
    beside = external.beside(path)
    if _weight_bytes(tidy.graph) < MAX_FILE_BYTES and (content := _serialized(tidy)) is not None:
        path.write_bytes(content)
        beside.unlink(missing_ok=True)
        return
    external.move_out(tidy.graph, beside)
    content = _serialized(tidy)
    if content is None:
        beside.unlink()
        raise LimitReached("The graph takes 2 GiB without its weights, which one ONNX file cannot hold.")
    path.write_bytes(content)


def _tidied(model: Model) -> onnx_ir.Model:
    tidy = model.clone().ir
    for node, original in zip(tidy.graph.all_nodes(), model.graph.all_nodes(), strict=True):
        node.name = original.name  # so does copying
    common.ClearMetadataAndDocStringPass()(tidy)
    common.RemoveUnusedOpsetsPass()(tidy)
    for initializer in tidy.graph.initializers.values():
        initializer.shape = initializer.type = None  # the tensor says both
    tidy.doc_string = None
    tidy.metadata_props.clear()
    tidy.producer_name, tidy.producer_version, tidy.domain, tidy.model_version = PRODUCER, None, None, None
    tidy.ir_version = max(tidy.ir_version, _INITIALIZERS_ALONE)
    return tidy


def _weight_bytes(graph: onnx_ir.Graph) -> int:
    return sum(value.const_value.nbytes for value in graph.initializers.values() if value.const_value is not None)


def _serialized(tidy: onnx_ir.Model) -> bytes | None:
    """Return the file's bytes, or None if they are more than protobuf can hold."""
    try:
        content: bytes = onnx_ir.serde.serialize_model(tidy).SerializeToString(deterministic=True)
    except EncodeError:
        return None
    return content if len(content) < MAX_FILE_BYTES else None
