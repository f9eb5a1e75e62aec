"""8-bit integer weights and activations in ONNX Runtime's own operators (Jacob et al., 2017).

Its quantiser does matrix products and convolutions; tables, and what it leaves in floating point, are stored as int8.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.errors import TechniqueNotApplicable
from workers.compute.datasets.samples import Samples
from workers.compute.graph.constraints import Constraint
from workers.compute.graph.int8 import quantize_storage, quantize_tables
from workers.compute.graph.model import Model, load, save
from workers.compute.graph.readers import matrices
from workers.compute.techniques.base import Context, Outcome, dataset_of
from workers.compute.wording import shown

# DequantizeLinear with a scale per channel came with opset 13; the quantiser itself needs 11.
_OPSET = 13
_CALIBRATION = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_PRODUCTS = ["MatMul", "Gemm"]
# Between convolutions these pass int8 on, so that activations are not converted back and forth.
_AROUND_CONVOLUTIONS = [
    *("Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Flatten", "GlobalAveragePool", "MaxPool"),
    *("Relu", "Reshape"),
]
_BATCH_ROWS = 16


def apply(model: Model, spec: QuantizeInt8, context: Context) -> Outcome:
    """Return an int8 copy. Raises TechniqueNotApplicable for what cannot be quantised, or static without data."""
    _check_names(model, spec)
    prepared = _upgraded(model.clone())
    if not matrices(prepared):
        msg = "the model has no matrix, kernel or embedding table to quantise"
        raise TechniqueNotApplicable(msg)
    tables = quantize_tables(prepared, spec.exclude, per_row=spec.per_channel)
    source, target = context.scratch / "float.onnx", context.scratch / "int8.onnx"
    save(prepared, source)
    with _quiet():
        _dynamic(source, target, spec) if spec.mode == "dynamic" else _static(source, target, spec, context)
    quantized = load(target)
    source.unlink()
    target.unlink()
    stored = quantize_storage(quantized, spec.exclude, per_channel=spec.per_channel)
    quantized.constraints = _kept(model, quantized)
    return Outcome(quantized, _notes(quantized, tables, stored))


def _check_names(model: Model, spec: QuantizeInt8) -> None:
    known = {str(node.name) for node in model.graph}
    if missing := [name for name in spec.exclude if name not in known]:
        msg = (
            f"exclude names {shown(missing[0])!r}, which is no node of this model; the profile lists the names of nodes"
        )
        raise TechniqueNotApplicable(msg)


def _upgraded(model: Model) -> Model:
    """Return the model in an opset that has int8 operators with a scale per channel."""
    opset = model.graph.opset_imports.get("", 0)
    if opset >= _OPSET:
        return model
    try:
        proto = onnx.version_converter.convert_version(ir.serde.serialize_model(model.ir), _OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        msg = f"opset {opset} has no int8 operators and this graph could not be moved to opset {_OPSET}; export it anew"
        raise TechniqueNotApplicable(msg) from error
    return Model(ir.serde.deserialize_model(proto), model.constraints)


def _dynamic(source: Path, target: Path, spec: QuantizeInt8) -> None:
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=[*_PRODUCTS, "LSTM"],
        per_channel=spec.per_channel,
        reduce_range=spec.reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(spec.exclude),
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
    )


def _static(source: Path, target: Path, spec: QuantizeInt8, context: Context) -> None:
    """Quantise with fixed activation ranges; uint8 activations with int8 weights are fast on every x86 CPU."""
    dataset = dataset_of(context, "quantize_int8 in static mode")
    model = load(source)
    convolutional = any(node.op_type in {"Conv", "ConvTranspose"} for node in model.graph)
    rows = dataset.train.take(slice(0, spec.calibration_rows))
    reader = _Rows(rows, _batch_size(model, len(rows)), context)
    quantize_static(
        source,
        target,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*_PRODUCTS, *(_AROUND_CONVOLUTIONS if convolutional else [])],
        per_channel=spec.per_channel,
        reduce_range=spec.reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(spec.exclude),
        calibrate_method=_CALIBRATION[spec.calibration],
        # One batch at a time: all intermediate values of all rows would not fit into memory.
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True, "CalibStridedMinMax": 1},
    )


class _Rows:
    """Calibration rows in batches, as the quantiser's calibrator asks for them."""

    def __init__(self, rows: Samples, size: int, context: Context) -> None:
        self._batches = [batch for batch in rows.batches(size) if len(batch) == size]
        self._range = iter(self._batches)
        self._context = context

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these batches."""
        self._context.progress(start_index / len(self._batches), None)
        self._range = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """Return one batch by input name, or None at the end of the range."""
        batch = next(self._range, None)
        return None if batch is None else dict(batch.inputs)

    def __iter__(self) -> Iterator[dict[str, NDArray[np.generic]]]:
        return iter(self.get_next, None)


def _batch_size(model: Model, rows: int) -> int:
    first = next((value.shape[0] for value in model.graph.inputs if value.shape), None)
    return first if isinstance(first, int) else max(1, min(_BATCH_ROWS, rows))


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser prints and logs, written for people at a prompt, out of our output."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
