"""ONNX Runtime's own quantisation, after the shape inference that its guide asks for.

For processors without VNNI the guide says to try weights of 7 bits, whose products do not overflow there.
"""

import sys
from pathlib import Path

from calibration import batches
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process

REQUIREMENTS = ["onnxruntime==1.32.0", "onnx==1.23.2", "sympy==1.14.0"]
POINTS = ["dynamic", "static", "static, 7-bit weights"]


class Rows(CalibrationDataReader):
    """The calibration rows, as ONNX Runtime asks for them."""

    def __init__(self, folder: Path) -> None:
        self._rows = batches(folder)

    def get_next(self) -> dict[str, object] | None:
        return next(self._rows, None)


def main(point: str, folder: Path, out: Path) -> None:
    """Write one point's file."""
    if point == "dynamic":
        quantize_dynamic(folder / "teacher.onnx", out, weight_type=QuantType.QInt8)
        return
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(folder / "teacher.onnx"), str(prepared))
    formats = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    reduce_range = point == "static, 7-bit weights"
    quantize_static(prepared, out, Rows(folder), per_channel=True, reduce_range=reduce_range, **formats)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
