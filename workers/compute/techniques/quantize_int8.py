"""8-bit integer weights and activations in ONNX Runtime's own operators (Jacob et al., 2017).

Its quantiser does matrix products and convolutions; tables, and what it leaves in floating point, are stored as int8.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from app.contracts.report import CurvePoint
from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.errors import TechniqueNotApplicable
from workers.compute import bundles
from workers.compute.datasets.samples import Samples
from workers.compute.graph.constraints import Constraint
from workers.compute.graph.int8 import narrow, quantize_storage, quantize_tables
from workers.compute.graph.model import Model, load, save
from workers.compute.graph.readers import Reader, matrices
from workers.compute.lowering import twin_of, write_back
from workers.compute.quantizer import run_dynamic, run_static
from workers.compute.techniques.base import Context, Outcome, dataset_of, retrain
from workers.compute.wording import shown

# DequantizeLinear with a scale per channel came with opset 13; the quantiser itself needs 11.
_OPSET = 13
# QuantizeLinear takes float16 since then; the operators of dynamic mode never do.
_HALF_OPSET = 19


def apply(model: Model, spec: QuantizeInt8, context: Context) -> Outcome:
    """Return an int8 copy. Raises TechniqueNotApplicable for what cannot be quantised, or static without data."""
    _check_names(model, spec)
    spec = spec.model_copy(update={"exclude": _excluded(model, spec)})
    prepared = _upgraded(model.clone(), _needed_opset(model, spec))
    if not matrices(prepared):
        msg = "the model has no matrix, kernel or embedding table to quantise"
        raise TechniqueNotApplicable(msg)
    tables = quantize_tables(prepared, spec.exclude, per_row=spec.per_channel)
    source, target = context.scratch / "float.onnx", context.scratch / "int8.onnx"
    save(prepared, source)
    if _is_dynamic(prepared, spec):
        run_dynamic(source, target, spec)
    else:
        run_static(source, target, spec, _calibration_rows(spec, context), lambda share: context.progress(share, None))
    quantized = load(target)
    for file in (*bundles.parts(source), *bundles.parts(target)):
        file.unlink()
    stored = quantize_storage(quantized, spec.exclude, per_channel=spec.per_channel)
    quantized.constraints = _kept(model, quantized)
    curve = _retrained(quantized, prepared, spec, context) if spec.mode == "qat" else ()
    narrow(quantized)
    return Outcome(quantized, _notes(quantized, tables, stored), curve)


def _is_dynamic(model: Model, spec: QuantizeInt8) -> bool:
    """Whether activation ranges are found in every call."""
    if spec.mode != "qat":
        return spec.mode == "dynamic"
    convolutional = any(node.op_type in {"Conv", "ConvTranspose"} for node in model.graph)
    return spec.ranges == "dynamic" or (spec.ranges == "auto" and not convolutional)


def _retrained(quantized: Model, before: Model, spec: QuantizeInt8, context: Context) -> tuple[CurvePoint, ...]:
    """Train the integers of `quantized` in place, by way of floats on the same grids."""
    dataset_of(context, "quantize_int8 in mode qat")
    twin = twin_of(quantized, before)
    curve = retrain(twin.model, spec, context)
    write_back(twin, quantized)
    return curve


def _calibration_rows(spec: QuantizeInt8, context: Context) -> Samples:
    return dataset_of(context, f"quantize_int8 in mode {spec.mode}").train.take(slice(0, spec.calibration_rows))


def _check_names(model: Model, spec: QuantizeInt8) -> None:
    known = {str(node.name) for node in model.graph}
    if missing := [name for name in spec.exclude if name not in known]:
        msg = (
            f"exclude names {shown(missing[0])!r}, which is no node of this model; the profile lists the names of nodes"
        )
        raise TechniqueNotApplicable(msg)


def _excluded(model: Model, spec: QuantizeInt8) -> list[str]:
    """Return the excluded names with those that the quantiser gives: it first writes Gemm as MatMul and Add."""
    products = {str(node.name) for node in model.graph if node.op_type == "Gemm"}
    return [*spec.exclude, *(f"{name}_MatMul" for name in spec.exclude if name in products)]


def _needed_opset(model: Model, spec: QuantizeInt8) -> int:
    half = [name for name, reader in matrices(model).items() if _computes_in_half(reader)]
    if half and _is_dynamic(model, spec):
        msg = (
            f"{shown(half[0])!r} is used in float16, which ONNX Runtime's dynamic int8 operators do not take; "
            "use mode static, or upload the model in float32"
        )
        raise TechniqueNotApplicable(msg)
    return _HALF_OPSET if half else _OPSET


def _computes_in_half(reader: Reader) -> bool:
    value = reader.node.inputs[reader.index]
    return value is not None and value.dtype in {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def _upgraded(model: Model, needed: int) -> Model:
    """Return the model in an opset that has the int8 operators, with a scale per channel."""
    opset = model.graph.opset_imports.get("", 0)
    if opset >= needed:
        return model
    try:
        proto = onnx.version_converter.convert_version(ir.serde.serialize_model(model.ir), needed)
    except Exception as error:  # the converter raises whatever its C++ side throws
        msg = f"opset {opset} has no int8 operators and this graph could not be moved to opset {needed}; export it anew"
        raise TechniqueNotApplicable(msg) from error
    return Model(ir.serde.deserialize_model(proto), model.constraints)


def _kept(before: Model, after: Model) -> dict[str, Constraint]:
    """Return the promises about tensors that stay in floating point; of the others symmetric int8 keeps the zeros."""
    names = after.weights().keys() & before.weights().keys()
    return {name: promise for name, promise in before.constraints.items() if name in names}


def _notes(quantized: Model, tables: int, stored: int) -> tuple[str, ...]:
    integers = {"MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM", "QuantizeLinear"}
    notes = []
    if tables:
        notes.append(f"{tables} embedding tables are stored as int8, by row")
    if stored:
        notes.append(
            f"{stored} tensors are stored as int8 and calculate in floating point: smaller, but not faster; "
            "static mode makes convolutions integer"
        )
    if not any(node.op_type in integers for node in quantized.graph):
        notes.append("no operator calculates in integers")
    if lopsided := [name for name, point in _zero_points(quantized) if np.any(point)]:
        notes.append(f"zeros of {len(lopsided)} weight tensors are not exactly zero any more")
    return tuple(notes)


def _zero_points(model: Model) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield name and zero point of every quantised weight."""
    places = {"DequantizeLinear": (0, 2), "MatMulInteger": (1, 3), "ConvInteger": (1, 3), "DynamicQuantizeLSTM": (1, 9)}
    for node in model.graph:
        weight, point = places.get(node.op_type, (0, 99))
        if point < len(node.inputs) and (value := node.inputs[weight]) is not None and value.is_initializer():
            zero = node.inputs[point]
            if zero is not None and zero.is_initializer() and len(model.read(str(value.name)).shape) > 1:
                yield str(value.name), model.read(str(zero.name))
