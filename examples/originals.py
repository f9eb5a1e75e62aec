"""Make and train the original models of the demos, with our own executor, on data that any machine has."""

import gzip
from pathlib import Path

import numpy as np
import onnx
from sklearn.datasets import load_digits

from examples.networks import residual_cnn
from workers.compute.autograd.training import Fit, fit
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph import model as graph

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
WIDTHS, BLOCKS = (48, 96), 3  # 1,168,000 weights: large enough for its time to be measured
_TRAIN_SHARE = 0.7  # of the rows, when the data set has no split of its own; validation 0.1, the rest test


def digits(folder: Path, epochs: float = 12) -> tuple[Path, Path]:
    """Write `digits.onnx`, a trained residual CNN, and `digits.npz`: 1,797 scikit-learn digits of 8×8."""
    bunch = load_digits()
    pictures = (bunch.images / 16).astype(np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(pictures))
    split = np.full(len(order), "test", dtype="U10")
    split[order[: int(len(order) * _TRAIN_SHARE)]] = "train"
    split[order[int(len(order) * _TRAIN_SHARE) : int(len(order) * (_TRAIN_SHARE + 0.1))]] = "validation"
    return _make(folder, "digits", (pictures, bunch.target.astype(np.int64), split), epochs)


def fashion(folder: Path, epochs: float = 4, rows: int = 60_000) -> tuple[Path, Path]:
    """Write `fashion.onnx` and `fashion.npz`: Fashion-MNIST, its last 5,000 training pictures as validation."""
    train, train_labels = _idx("train-images-idx3-ubyte"), _idx("train-labels-idx1-ubyte")
    test, test_labels = _idx("t10k-images-idx3-ubyte"), _idx("t10k-labels-idx1-ubyte")
    train, train_labels = train[-rows:], train_labels[-rows:]
    pictures = (np.concatenate([train, test])[:, None] / 255).astype(np.float32)
    split = np.array(["train"] * (len(train) - 5_000) + ["validation"] * 5_000 + ["test"] * len(test))
    labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
    return _make(folder, "fashion", (pictures, labels, split), epochs)


def _make(folder: Path, name: str, rows: tuple[np.ndarray, np.ndarray, np.ndarray], epochs: float) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    model, data = folder / f"{name}.onnx", folder / f"{name}.npz"
    if model.exists() and data.exists():
        return model, data
    pictures, labels, split = rows
    np.savez(data, image=pictures, label=labels, split=split)
    onnx.save(residual_cnn(WIDTHS, BLOCKS, pictures.shape[-1], 10), folder / "untrained.onnx")
    network = graph.load(folder / "untrained.onnx")
    parts = [Samples({"image": pictures[split == s]}, labels[split == s]) for s in ("train", "validation", "test")]
    dataset = Dataset(*parts, task="classification")
    fit(
        network,
        dataset,
        Fit(epochs=epochs, learning_rate=2e-3, batch_size=64, patience=100),
        progress=_print_progress(name),
    )
    graph.save(network, model)
    (folder / "untrained.onnx").unlink()
    return model, data


def _print_progress(name: str):  # noqa: ANN202  # a callback, see Fit
    def show(share: float, point: object) -> None:
        score = getattr(point, "validation_score", None)
        if score is not None:
            print(f"  training the original {name}: {share:4.0%}, validation {score:.3f}", flush=True)

    return show


def _idx(name: str) -> np.ndarray:
    """Read a gzipped IDX file (yann.lecun.com/exdb/mnist's format) of unsigned bytes."""
    with gzip.open(FASHION / f"{name}.gz") as file:
        content = file.read()
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
