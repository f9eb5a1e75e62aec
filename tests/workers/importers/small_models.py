"""Small ONNX models, right and wrong, built operator by operator."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str = "w", shape: Sequence[int] = (4, 3), fill: float | None = None) -> onnx.TensorProto:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if fill is not None:
        values.flat[0] = fill
    return numpy_helper.from_array(values, name)


def model(  # noqa: PLR0913  # every part has its default
    nodes: Sequence[onnx.NodeProto] | None = None,
    initializers: Sequence[onnx.TensorProto] | None = None,
    *,
    opset: int = 17,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")] if nodes is None else nodes,
        "g",
        [value("x", ["batch", 4])] if inputs is None else inputs,
        [value("y", ["batch", 3])] if outputs is None else outputs,
        [weight()] if initializers is None else initializers,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))


def doubling_functions(depth: int) -> list[onnx.FunctionProto]:
    """Functions f0 … f<depth>: each calls the next one twice, so f0 expands to 2^depth nodes."""
    standard = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for level in range(depth):
        nodes = [
            helper.make_node(f"f{level + 1}", ["a"], ["b"], domain="local"),
            helper.make_node(f"f{level + 1}", ["b"], ["c"], domain="local"),
        ]
        functions.append(helper.make_function("local", f"f{level}", ["a"], ["c"], nodes, standard))
    last = [helper.make_node("Relu", ["a"], ["c"])]
    return [*functions, helper.make_function("local", f"f{depth}", ["a"], ["c"], last, standard)]


def nested_ifs(depth: int) -> onnx.NodeProto:
    """An If in an If in an If …"""
    inner = helper.make_node("Identity", ["x"], ["z0"])
    other = helper.make_graph([inner], "else", [], [value("z0", None)])
    for level in range(depth):
        branch = helper.make_graph([inner], f"branch{level}", [], [value(f"z{level}", None)])
        inner = helper.make_node("If", ["flag"], [f"z{level + 1}"], then_branch=branch, else_branch=other)
    return inner
