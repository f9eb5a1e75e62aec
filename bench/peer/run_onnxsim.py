"""onnxsim: simplified, quantised, and simplified again, which drops the floating-point copies left behind."""

import sys
from pathlib import Path

import onnx
import onnxsim

REQUIREMENTS = ["onnxsim==0.8.1", "onnxruntime==1.32.0", "onnx==1.23.2"]
POINTS = ["simplify, quantize_dynamic, simplify"]


def main(folder: Path, out: Path) -> None:
    """Write the file. Unsimplified, no layer of this model matches its patterns."""
    model, _ = onnxsim.simplify(onnx.load(folder / "teacher.onnx"))
    smaller, _ = onnxsim.simplify(onnxsim.quantize_dynamic(model))
    onnx.save(smaller, out)


if __name__ == "__main__":
    main(Path(sys.argv[2]), Path(sys.argv[3]))
