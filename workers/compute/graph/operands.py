"""What a node is given as numbers: inputs that the file stores, and lists that old opsets keep as attributes."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compute.graph.model import Model


def given(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input, None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def stored(model: Model, node: ir.Node, index: int) -> NDArray[np.generic] | None:
    """Return the values of an input that is an initializer and nothing else: no caller can replace it."""
    value = given(node, index)
    if value is None or value.is_graph_input() or str(value.name) not in model.graph.initializers:
        return None
    return model.read(str(value.name))


def listed(node: ir.Node, name: str, values: NDArray[np.generic] | None) -> list[int] | None:
    """Return whole numbers that are an attribute in old opsets; in new ones they are an input, which holds `values`."""
    if name in node.attributes:
        return list(node.attributes[name].as_ints())
    return None if values is None else [int(value) for value in values.reshape(-1)]
