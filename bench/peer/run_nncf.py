"""NNCF: quantisation after training for transformers, and weights alone at 8 bits."""

import sys
from pathlib import Path

import nncf
import onnx
from calibration import batches

REQUIREMENTS = ["nncf==3.4.0", "onnxruntime==1.32.0", "onnx==1.23.2"]
POINTS = ["quantize, transformer", "compress_weights INT8_ASYM"]
_ROWS = 64


def main(point: str, folder: Path, out: Path) -> None:
    """Write one point's file."""
    model = onnx.load(folder / "teacher.onnx")
    if point == POINTS[0]:
        rows = nncf.Dataset(list(batches(folder, _ROWS)))
        made = nncf.quantize(model, rows, model_type=nncf.ModelType.TRANSFORMER, subset_size=_ROWS)
    else:
        made = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    onnx.save(made, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
