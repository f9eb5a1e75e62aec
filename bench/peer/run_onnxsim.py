"""onnxsim: its dynamic quantisation, then its simplifier, which drops the floating-point copies left behind."""

import sys
from pathlib import Path

import onnx
import onnxsim

REQUIREMENTS = ["onnxsim==0.8.1", "onnxruntime==1.32.0", "onnx==1.23.2"]
POINTS = ["quantize_dynamic, simplify"]


def main(folder: Path, out: Path) -> None:
    """Write the file."""
    model = onnx.load(folder / "teacher.onnx")
    smaller, _ = onnxsim.simplify(_model(onnxsim.quantize_dynamic(model)))
    onnx.save(smaller, out)


def _model(found: object) -> onnx.ModelProto:
    """Return the model alone: some of its calls return a pair of a model and what was done."""
    first = found[0] if isinstance(found, tuple) else found
    if not isinstance(first, onnx.ModelProto):
        raise TypeError(type(first))
    return first


if __name__ == "__main__":
    main(Path(sys.argv[2]), Path(sys.argv[3]))
