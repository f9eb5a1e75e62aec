"""One-operator models around a given weight tensor, and what ONNX Runtime makes of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from workers.compute.encodings.base import Array
from workers.compute.graph.model import Model

Level = onnxruntime.GraphOptimizationLevel
READERS = {"MatMul": (97, 53), "Gemm": (97, 53), "Conv": (31, 17, 3, 3), "Gather": (211, 33)}


def value(name: str, values: Array) -> ir.Value:
    tensor = ir.tensor(values, name=name)
    return ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def single(operator: str, weight: Array, opset: int = 13) -> Model:
    """Return a model of one `operator` that reads the initializer `w`."""
    initializers = [value("w", weight)]
    kind = initializers[0].type
    if operator == "Gather":
        graph_input = ir.Value(name="x", shape=ir.Shape(["batch", 4]), type=ir.TensorType(ir.DataType.INT64))
        inputs = [initializers[0], graph_input]
    else:
        spatial = [8, 8] if operator == "Conv" else []
        width = weight.shape[1] if operator == "Conv" else weight.shape[0]
        graph_input = ir.Value(name="x", shape=ir.Shape(["batch", width, *spatial]), type=kind)
        inputs = [graph_input, initializers[0]]
    if operator == "Gemm":
        initializers.append(value("bias", np.ones(weight.shape[1], weight.dtype)))
        inputs.append(initializers[1])
    node = ir.node(operator, inputs, name="reader")
    node.outputs[0].name, node.outputs[0].type = "y", kind
    return Model(_wrap(graph_input, node, initializers, opset))


def _wrap(graph_input: ir.Value, node: ir.Node, initializers: Sequence[ir.Value], opset: int) -> ir.Model:
    graph = ir.Graph(
        [graph_input], node.outputs, nodes=[node], initializers=initializers, opset_imports={"": opset}, name="graph"
    )
    return ir.Model(graph, ir_version=8)


def serialized(model: Model) -> bytes:
    file: bytes = ir.serde.serialize_model(model.ir).SerializeToString()
    return file


def optimized(model: Model, folder: Path, level: Level = Level.ORT_ENABLE_ALL) -> onnx.GraphProto:
    """Return the graph that ONNX Runtime really runs, by default at its highest optimization level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(serialized(model), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx").graph


def run(model: Model, x: Array) -> Array:
    session = onnxruntime.InferenceSession(serialized(model), providers=["CPUExecutionProvider"])
    answer: Array = session.run(None, {"x": x})[0]
    return answer
