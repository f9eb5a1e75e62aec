"""Make and train the original models of the demos, with our own executor, on data that any machine has."""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from sklearn.datasets import load_diabetes, load_digits

from examples.networks import lenet_5, lenet_300_100, perceptron, residual_cnn
from workers.compute.autograd.training import Fit, fit
from workers.compute.datasets.samples import Dataset, Samples, Task
from workers.compute.graph import model as graph

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
WIDTHS, BLOCKS = (48, 96), 3  # 1,168,000 weights: large enough for its time to be measured
_VALIDATION_ROWS = 5_000
_TRAIN_SHARE = 0.7  # of the rows, when the data set has no split of its own; validation 0.1, the rest test


def digits(folder: Path, epochs: float = 12) -> tuple[Path, Path]:
    """Write `digits.onnx`, a trained residual CNN, and `digits.npz`: 1,797 scikit-learn digits of 8×8."""
    bunch = load_digits()
    pictures = (bunch.images / 16).astype(np.float32)[:, None]
    labels, split = bunch.target.astype(np.int64), _drawn(len(pictures), 0.1)
    data = written(folder / "digits.npz", {"image": pictures, "label": labels, "split": split})
    recipe = Recipe(lambda: residual_cnn(WIDTHS, BLOCKS, 8, 10), epochs)
    return trained(folder / "digits.onnx", recipe, data), data


def diabetes(folder: Path) -> tuple[Path, Path]:
    """Write `diabetes.onnx`, a trained perceptron, and `diabetes.npz`: scikit-learn's 442 patients and their course."""
    bunch = load_diabetes()
    course = (bunch.target - bunch.target.mean()) / bunch.target.std()
    rows = {"x": (bunch.data * len(bunch.data) ** 0.5).astype(np.float32), "label": course.astype(np.float32)}
    data = written(folder / "diabetes.npz", {**rows, "split": _drawn(len(course), 0.15)})
    recipe = Recipe(lambda: perceptron(10, 128), 10, 1e-3, 16, task="regression")
    return trained(folder / "diabetes.onnx", recipe, data), data


def _drawn(rows: int, validation: float) -> np.ndarray:
    """Return a split for each row, the same for as many rows."""
    order = np.random.default_rng(0).permutation(rows)
    split = np.full(rows, "test", dtype="U10")
    split[order[: int(rows * _TRAIN_SHARE)]] = "train"
    split[order[int(rows * _TRAIN_SHARE) : int(rows * (_TRAIN_SHARE + validation))]] = "validation"
    return split


@dataclass(frozen=True)
class Recipe:
    """How an original is made and trained, on how many rows where there are more."""

    network: Callable[[], onnx.ModelProto]
    epochs: float
    learning_rate: float = 2e-3
    batch_size: int = 64
    rows: int = 55_000
    task: Task = "classification"


FASHION_NETWORKS = {
    "residual": Recipe(lambda: residual_cnn(WIDTHS, BLOCKS, 28, 10), 4),
    "lenet-300-100": Recipe(lenet_300_100, 12, 1e-3),
    "lenet-5": Recipe(lenet_5, 12, 1e-3),
    # Twice as wide as the one for CIFAR, at half the side: as many multiply-accumulates, four times the weights.
    "resnet-20": Recipe(lambda: residual_cnn((32, 64, 128), 3, 28, 10, stride=2), 6, rows=20_000),
}


def fashion(folder: Path, network: str = "residual") -> tuple[Path, Path]:
    """Write `<network>.onnx` and `fashion-<rows>.npz`; the last 5,000 of the training pictures are for validation."""
    recipe = FASHION_NETWORKS[network]
    train, train_labels = _idx("train-images-idx3-ubyte"), _idx("train-labels-idx1-ubyte")
    test, test_labels = _idx("t10k-images-idx3-ubyte"), _idx("t10k-labels-idx1-ubyte")
    first = len(train) - _VALIDATION_ROWS - recipe.rows
    pictures = (np.concatenate([train[first:], test])[:, None] / 255).astype(np.float32)
    split = np.array(["train"] * recipe.rows + ["validation"] * _VALIDATION_ROWS + ["test"] * len(test))
    labels = np.concatenate([train_labels[first:], test_labels]).astype(np.int64)
    rows = {"image": pictures, "label": labels, "split": split}
    data = written(folder / f"fashion-{recipe.rows}.npz", rows)
    return trained(folder / f"{network}.onnx", recipe, data), data


def written(data: Path, rows: Mapping[str, np.ndarray]) -> Path:
    """Write inputs, `label` and `split`, unless they are there."""
    data.parent.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        np.savez(data, **rows)  # type: ignore[arg-type]
    return data


def trained(model: Path, recipe: Recipe, data: Path) -> Path:
    """Make the network and train it, unless it is there."""
    if model.exists():
        return model
    untrained = model.with_suffix(".untrained")
    onnx.save(recipe.network(), untrained)
    network = graph.load(untrained)
    untrained.unlink()
    with np.load(data) as rows:
        inputs = {name: rows[name] for name in rows if name not in {"label", "split"}}
        labels, split = rows["label"], rows["split"]
    whole = Samples(inputs, labels)
    parts = [whole.take(np.flatnonzero(split == name)) for name in ("train", "validation", "test")]
    settings = Fit(epochs=recipe.epochs, learning_rate=recipe.learning_rate, batch_size=recipe.batch_size, patience=100)
    fit(network, Dataset(*parts, task=recipe.task), settings, progress=_print_progress(model.stem))
    graph.save(network, model)
    return model


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
