"""Describe an admitted ONNX file."""

from collections import Counter
from pathlib import Path

import onnx

from app.contracts.model import ModelSummary, TensorSpec
from workers.compute import bundles
from workers.compute.feeds import free_sizes
from workers.compute.files import sha256_of
from workers.compute.graph.axes import plain
from workers.compute.graph.costs import cost, symbolic_macs
from workers.compute.importers.folding import fold
from workers.compute.importers.onnx_file import read
from workers.compute.importers.operators import opset_of
from workers.compute.wording import shown


def summarize(
    path: Path, stored: Path, proto: onnx.ModelProto, *, classes: list[str], has_tokenizer: bool
) -> ModelSummary:
    """Return what the model at `path`, admitted as `proto` and packed as `stored`, holds.

    Raises ModelMalformed if it cannot be read.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [spec_of(value) for value in proto.graph.input if value.name not in weights]
    model = fold(read(path))
    found, formula = cost(model, free_sizes(inputs, None)), symbolic_macs(model)
    return ModelSummary(
        inputs=inputs,
        outputs=[spec_of(value) for value in proto.graph.output],
        parameters=found.parameters,
        macs=found.macs,
        macs_formula=None if formula is None else shown(str(formula)),
        activation_bytes=found.activation_bytes,
        peak_activation_bytes=found.peak_activation_bytes,
        opset=opset_of(proto),
        operators=dict(sorted(Counter(shown(node.op_type) for node in proto.graph.node).items())),
        onnx_bytes=bundles.size_bytes(path),
        zstd_bytes=bundles.zstd_bytes(path),
        sha256=sha256_of(stored),
        has_tokenizer=has_tokenizer,
        classes=classes,
        producer=shown(f"{proto.producer_name} {proto.producer_version}".strip()),
    )


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """Return name, type and shape of a graph input or output; what is not a tensor is named by its kind."""
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return TensorSpec(name=value.name, dtype=kind.removesuffix("_type"), shape=[])
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return TensorSpec(name=value.name, dtype=dtype, shape=[_axis(dim) for dim in tensor.shape.dim])


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return plain(dim.dim_value)
    return plain(dim.dim_param or None)
