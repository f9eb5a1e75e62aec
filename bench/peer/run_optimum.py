"""Optimum: dynamic int8 by its configurations for AVX512-VNNI and for AVX2, a scale per channel."""

import sys
import tempfile
import zipfile
from pathlib import Path
from shutil import copyfile

from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

REQUIREMENTS = [
    "torch==2.13.0",
    "optimum-onnx==0.1.0",
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "transformers==4.57.6",
    "optimum==2.1.0",
]
POINTS = ["avx512_vnni, per channel", "avx2, per channel"]


def main(point: str, folder: Path, out: Path) -> None:
    """Write one point's file."""
    with tempfile.TemporaryDirectory() as made:
        source, target = Path(made) / "source", Path(made) / "target"
        source.mkdir()
        copyfile(folder / "teacher.onnx", source / "model.onnx")
        with zipfile.ZipFile(folder / "teacher.zip") as archive:
            archive.extract("config.json", source)
        quantizer = ORTQuantizer.from_pretrained(source)
        made_for = AutoQuantizationConfig.avx2 if point.startswith("avx2") else AutoQuantizationConfig.avx512_vnni
        recipe = made_for(is_static=False, per_channel=True)
        quantizer.quantize(save_dir=target, quantization_config=recipe)
        copyfile(next(target.glob("*.onnx")), out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
