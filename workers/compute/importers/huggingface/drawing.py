"""Draw an ONNX graph operator by operator from named weights. Knows no architecture."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.errors import ModelMalformed
from workers.compute.importers.huggingface.safetensors_file import Weights

Attribute = int | float | str | Sequence[int]


class Drawing:
    """Collects nodes and initializers; values are named after the weights and places they come from."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        """Start an empty graph; weights are looked up as `prefix + name`, or as `name` where that is missing."""
        self._weights = weights
        self._prefix = prefix
        self._initializers: dict[str, ir.Value] = {}
        self._nodes: list[ir.Node] = []
        self._place = ""

    def at(self, place: str) -> None:
        """Name the following nodes after `place`."""
        self._place = place

    def holds(self, name: str) -> bool:
        """Whether the upload has this weight."""
        return self._full(name) in self._weights

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape as uploaded. Raises ModelMalformed if it is missing."""
        return self._read(name).shape

    def weight(self, name: str, shape: Sequence[int], *, transposed: bool = False) -> ir.Value:
        """Return the weight as an initializer of the same name, once. Raises ModelMalformed for other shapes.

        A linear layer's weight is stored [out, in] by PyTorch and transposed here to [in, out], as MatMul reads it.
        """
        values = self._read(name)
        if values.shape != tuple(shape):
            wanted, found = list(shape), list(values.shape)
            raise ModelMalformed(f"Weight {name!r} has shape {found}; config.json makes it {wanted}.")
        return self._initializer(self._full(name), values.T if transposed else values)

    def constant(self, label: str, values: NDArray[np.generic]) -> ir.Value:
        """Return a constant, shared by its label."""
        return self._initializer(f"constant/{label}", values)

    def op(self, op_type: str, *inputs: ir.Value, **attributes: Attribute) -> ir.Value:
        """Add an operator with one output and return it."""
        name = f"{self._place}/{op_type}_{len(self._nodes)}"
        node = ir.node(op_type, list(inputs), attributes, name=name)
        node.outputs[0].name = name
        self._nodes.append(node)
        return node.outputs[0]

    def linear(self, value: ir.Value, name: str, sizes: tuple[int, int]) -> ir.Value:
        """Add x·W + b with `sizes` (in, out)."""
        self.at(name)
        product = self.op("MatMul", value, self.weight(f"{name}.weight", sizes[::-1], transposed=True))
        return self.op("Add", product, self.weight(f"{name}.bias", sizes[1:]))

    def norm(self, value: ir.Value, name: str, width: int, epsilon: float) -> ir.Value:
        """Add a layer normalisation over the last axis."""
        self.at(name)
        scale, bias = self.weight(f"{name}.weight", [width]), self.weight(f"{name}.bias", [width])
        return self.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=epsilon)

    def finish(
        self, inputs: Sequence[ir.Value], outputs: Mapping[str, tuple[ir.Value, Sequence[int | str]]]
    ) -> ir.Model:
        """Return the model; `outputs` maps a name to a value and its shape."""
        for name, (value, shape) in outputs.items():
            value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        graph = ir.Graph(
            list(inputs),
            [value for value, _ in outputs.values()],
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET},
            name="encoder",
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="modelpress")

    def _full(self, name: str) -> str:
        return self._prefix + name if self._prefix + name in self._weights else name

    def _read(self, name: str) -> NDArray[np.generic]:
        full = self._full(name)
        if full not in self._weights:
            raise ModelMalformed(f"model.safetensors has no weight {name!r}, which config.json calls for.")
        values = self._weights[full]
        if values.dtype.kind != "f":
            raise ModelMalformed(f"Weight {name!r} is not floating point.")
        return values

    def _initializer(self, name: str, values: NDArray[np.generic]) -> ir.Value:
        if name not in self._initializers:
            tensor = ir.tensor(
                np.asarray(values, order="C"), name=name
            )  # ascontiguousarray would give a scalar an axis
            kind = ir.TensorType(tensor.dtype)
            self._initializers[name] = ir.Value(name=name, shape=ir.Shape(values.shape), type=kind, const_value=tensor)
        return self._initializers[name]


OPSET = 20  # Gelu as an operator
IR_VERSION = 10


def integer_input(name: str) -> ir.Value:
    """Return an int64 graph input of shape (batch, sequence)."""
    return ir.Value(name=name, shape=ir.Shape(["batch", "sequence"]), type=ir.TensorType(ir.DataType.INT64))
