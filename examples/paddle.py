"""A model from another framework: Paddle's text-direction classifier, as its ONNX file of opset 11.

    python -m examples.paddle [folder]

Leaves `direction.onnx` (from the PyPI package `rapidocr-onnxruntime`, Apache-2.0) and `lines.npz`: 1,600 pictures of
four handwritten digits in a row (scikit-learn's), half of them turned upside down, without labels.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from examples.packages import unpacked

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
ROWS, DIGITS, SIDE = 1_600, 4, 48


def main(folder: Path) -> None:
    """Write both files into `folder`."""
    unpacked(PACKAGE, MEMBER, folder / "direction.onnx")
    np.savez(folder / "lines.npz", x=lines(ROWS))
    print(f"wrote direction.onnx and lines.npz to {folder}")


def lines(rows: int, seed: int = 0) -> np.ndarray:
    """Return pictures (rows, 3, 48, 192) in −1 … 1, dark digits on white, every second one turned by 180°."""
    rng = np.random.default_rng(seed)
    ink = load_digits().images / 16
    chosen = ink[rng.integers(len(ink), size=(rows, DIGITS))]
    large = chosen.repeat(SIDE // 8, axis=2).repeat(SIDE // 8, axis=3)
    row = np.concatenate(list(large.transpose(1, 0, 2, 3)), axis=2)
    row[::2] = row[::2, ::-1, ::-1]
    return np.repeat((1 - 2 * row)[:, None], 3, axis=1).astype(np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "var/examples/paddle"))
