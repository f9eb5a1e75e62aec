"""ONNX Runtime's quantiser, called one way: files in, files out. Knows no technique and no constraint."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from numpy import generic
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from app.contracts.steps.quantize_int8 import QuantizeInt8
from workers.compute.datasets.samples import Samples
from workers.compute.graph.model import load

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
# The type of what follows an operator of another domain, whose outputs ONNX's shape inference does not know.
_OPTIONS = {"WeightSymmetric": True, "MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT}


def run_dynamic(source: Path, target: Path, spec: QuantizeInt8) -> None:
    """Quantise products; activation ranges are found in every call."""
    with _quiet():
        _dynamic(source, target, spec)


def _dynamic(source: Path, target: Path, spec: QuantizeInt8) -> None:
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=[*_PRODUCTS, "LSTM"],
        per_channel=spec.per_channel,
        reduce_range=spec.reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(spec.exclude),
        extra_options=_OPTIONS,
    )


def run_static(source: Path, target: Path, spec: QuantizeInt8, rows: Samples, tell: Callable[[float], None]) -> None:
    """Quantise with activation ranges found on `rows`; `tell` hears the share of them that is done.

    uint8 activations with int8 weights are the pair that every x86 CPU is fast at.
    """
    model = load(source)
    convolutional = any(node.op_type in {"Conv", "ConvTranspose"} for node in model.graph)
    first = next((value.shape[0] for value in model.graph.inputs if value.shape), None)
    size = first if isinstance(first, int) else max(1, min(_BATCH_ROWS, len(rows)))
    types = [*_PRODUCTS, *(_AROUND_CONVOLUTIONS if convolutional else [])]
    with _quiet():
        _static(source, target, spec, _Rows(rows, size, tell), types)


def _static(source: Path, target: Path, spec: QuantizeInt8, reader: "_Rows", types: list[str]) -> None:
    quantize_static(
        source,
        target,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=types,
        per_channel=spec.per_channel,
        reduce_range=spec.reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(spec.exclude),
        calibrate_method=_CALIBRATION[spec.calibration],
        # One batch at a time: all intermediate values of all rows would not fit into memory.
        extra_options={**_OPTIONS, "CalibStridedMinMax": 1},
    )


class _Rows:
    """Calibration rows in batches, as the quantiser's calibrator asks for them."""

    def __init__(self, rows: Samples, size: int, tell: Callable[[float], None]) -> None:
        self._batches = [batch for batch in rows.batches(size) if len(batch) == size]
        self._range = iter(self._batches)
        self._tell = tell

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these batches."""
        self._tell(start_index / len(self._batches))
        self._range = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[generic]] | None:
        """Return one batch by input name, or None at the end of the range."""
        batch = next(self._range, None)
        return None if batch is None else dict(batch.inputs)

    def __iter__(self) -> Iterator[dict[str, NDArray[generic]]]:
        return iter(self.get_next, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser prints and logs, written for people at a prompt, out of our output."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
