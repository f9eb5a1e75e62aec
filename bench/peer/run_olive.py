"""Olive: its dynamic int8 pass, and blocks of 32 weights rounded to 4 bits, embeddings among them."""

import sys
import tempfile
from pathlib import Path
from shutil import copyfile

import olive

REQUIREMENTS = [
    "torch==2.13.0",
    "olive-ai==0.13.0",
    "requests==2.34.2",
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "transformers==5.24.0",
]
POINTS = ["dynamic int8", "RTN int4, blocks of 32"]
_PASSES = {
    "dynamic int8": {"type": "OnnxDynamicQuantization", "precision": "int8"},
    "RTN int4, blocks of 32": {
        "type": "OnnxBlockWiseRtnQuantization",
        "bits": 4,
        "block_size": 32,
        "accuracy_level": 4,
    },
}


def main(point: str, folder: Path, out: Path) -> None:
    """Write one point's file."""
    with tempfile.TemporaryDirectory() as made:
        target = Path(made) / "out"
        olive.run(
            {
                "input_model": {"type": "ONNXModel", "model_path": str(folder / "teacher.onnx")},
                "passes": {"q": _PASSES[point]},
                "output_dir": str(target),
                "cache_dir": str(Path(made) / "cache"),
            }
        )
        copyfile(next(target.rglob("*.onnx")), out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
