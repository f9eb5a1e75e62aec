"""Valid graphs around one hostile node: attributes, shapes and constants that kernels must not trust."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.workers.importers.small_models import value

LOWEST, MOST = -(2**63), 2**63 - 1
Constants = Mapping[str, Any]
DOMAINS = ("ai.onnx.ml", "com.microsoft")


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def floats(*shape: int, fill: float = 0.5) -> NDArray[np.float32]:
    return np.full(shape, fill, np.float32)


def around(  # noqa: PLR0913 - a graph has parts
    op: str,
    inputs: Sequence[str],
    constants: Constants | None = None,
    *,
    domain: str = "",
    opset: int = 17,
    shape: Sequence[int | str] = ("batch", 4),
    rank: int = 2,
    kind: int = TensorProto.FLOAT,
    **attributes: Any,
) -> bytes:
    """Return a file: x of `shape` goes through a product with a weight to h, and h, x or constants into the node."""
    hostile = helper.make_node(op, inputs, ["y"], domain=domain, name="hostile", **attributes)
    return graph([hostile], constants, opset=opset, shape=shape, rank=rank, kind=kind)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Constants | None = None,
    *,
    opset: int = 17,
    shape: Sequence[int | str] = ("batch", 4),
    rank: int = 2,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """Return a file of these nodes, the last of which makes y; h is x times a weight along its last axis."""
    last = shape[-1] if isinstance(shape[-1], int) else 4
    first = helper.make_node("MatMul", ["x", "w"], ["h"], name="first")
    given = {"w": np.random.default_rng(0).normal(size=(last, last)).astype(np.float32), **(constants or {})}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in given.items()]
    outputs = [value("y", [f"d{axis}" for axis in range(rank)], kind), value("h", list(shape))]
    made = helper.make_graph([first, *nodes], "hostile", [value("x", list(shape))], outputs, tensors)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in DOMAINS)]
    built: bytes = helper.make_model(made, opset_imports=imports, ir_version=8).SerializeToString()
    return built
