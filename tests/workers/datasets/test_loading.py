"""From a file and a model's inputs to samples, and what does not fit."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from app.contracts.dataset import Columns, Splits
from app.contracts.model import TensorSpec
from app.contracts.tasks import InputDataset
from app.errors import DatasetMalformed, DatasetMismatch
from workers.compute.datasets.fitting import Target
from workers.compute.datasets.loading import load_dataset
from workers.compute.datasets.samples import Dataset, Task

ROWS = 40
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(ROWS, 4)).astype(np.float32)
LABELS = np.arange(ROWS) % 3
TABLE = Target((TensorSpec(name="input", dtype="float", shape=["batch", 4]),), width=3)


def spec(name: str, dtype: str = "float", *shape: int | str | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=list(shape))


def order(path: str, **more: object) -> InputDataset:
    return InputDataset(path=path, sha256="0" * 64, format=path.rpartition(".")[2], **more)


def load(
    folder: Path, target: Target = TABLE, task: Task = "classification", arrays: object = None, **more: object
) -> Dataset:
    np.savez(folder / "d.npz", **(arrays or {"x": FEATURES, "y": LABELS}))  # type: ignore[arg-type]
    return load_dataset(order("d.npz", **more), folder, target, task)


def text_target(folder: Path, *names: str) -> Target:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "mail": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    inputs = tuple(spec(name, "int64", "batch", "sequence") for name in names)
    return Target(inputs, 2, ("spam", "ham"), folder / "tokenizer.json")


def test_splits_are_disjoint_and_keep_the_class_shares(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    whole = np.concatenate([part.inputs["input"] for part in (loaded.train, loaded.validation, loaded.test)])
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (28, 4, 8)
    assert len(np.unique(whole, axis=0)) == ROWS
    assert loaded.test.labels is not None
    assert np.bincount(loaded.test.labels).min() >= 2


def test_split_is_the_same_when_loaded_twice_and_another_with_another_seed(tmp_path: Path) -> None:
    first, second = load(tmp_path), load(tmp_path)
    other = load(tmp_path, splits=Splits(seed=1))
    assert np.array_equal(first.test.inputs["input"], second.test.inputs["input"])
    assert not np.array_equal(first.test.inputs["input"], other.test.inputs["input"])


@pytest.mark.parametrize(
    "split",
    [
        np.array(["train"] * 30 + ["test"] * 10),
        np.array([0] * 30 + [2] * 10),
    ],
)
def test_validation_is_carved_from_train_when_the_given_split_lacks_it(split: np.ndarray, tmp_path: Path) -> None:
    loaded = load(tmp_path, arrays={"x": FEATURES, "y": LABELS, "split": split})
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (27, 3, 10)
    assert np.array_equal(loaded.test.inputs["input"], FEATURES[30:])


def test_no_labels_are_needed_when_the_task_is_match(tmp_path: Path) -> None:
    loaded = load(tmp_path, task="match", arrays={"x": FEATURES})
    assert not loaded.labelled
    assert loaded.task == "match"


def test_label_names_become_the_models_class_numbers(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\n" + "good mail,ham\nbad mail,spam\n" * 10)
    target = text_target(tmp_path, "input_ids", "attention_mask")
    loaded = load_dataset(order("d.csv", max_length=5), tmp_path, target, "classification")
    ids = loaded.train.inputs["input_ids"]
    assert loaded.classes == ("spam", "ham")
    assert ids.shape == (14, 5)
    assert loaded.train.labels is not None
    assert np.array_equal(ids[:, 0] == 2, loaded.train.labels == 1)
    assert loaded.train.inputs["attention_mask"].sum(axis=1).tolist() == [2] * 14


def test_feature_columns_are_stacked_when_the_model_has_one_input(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{i + 0.5},{i * 2},1,{'ab'[i % 2]}" for i in range(10))
    (tmp_path / "d.csv").write_text(f"a,b,c,d,label\n{rows}\n")
    loaded = load_dataset(order("d.csv"), tmp_path, TABLE, "classification")
    assert loaded.train.inputs["input"].shape == (7, 4)
    assert loaded.train.inputs["input"].dtype == np.float32
    assert loaded.classes == ("a", "b")


def test_columns_are_taken_as_mapped(tmp_path: Path) -> None:
    mapped = Columns(inputs={"input": ["c", "a", "a", "b"]}, label="group")
    columns = {name: np.arange(1, 11) * scale for scale, name in enumerate("abc", 1)} | {"group": np.arange(10) % 2}
    loaded = load(tmp_path, arrays=columns, columns=mapped)
    assert np.allclose(loaded.train.inputs["input"][0] / loaded.train.inputs["input"][0, 1], [3, 1, 1, 2])


def test_missing_channel_axis_is_added(tmp_path: Path) -> None:
    target = Target((spec("image", "float", "n", 1, 8, 8),), 3)
    images = RNG.integers(0, 255, (ROWS, 8, 8)).astype(np.uint8)
    loaded = load(tmp_path, target, arrays={"x": images, "y": LABELS})
    assert loaded.train.inputs["image"].shape == (28, 1, 8, 8)


def test_integers_are_widened_when_the_model_takes_int64(tmp_path: Path) -> None:
    target = Target((spec("ids", "int64", "n", 4),), 3)
    loaded = load(tmp_path, target, arrays={"ids": FEATURES.astype(np.int32), "y": LABELS})
    assert loaded.train.inputs["ids"].dtype == np.int64


def test_numbers_are_labels_when_the_task_is_regression(tmp_path: Path) -> None:
    loaded = load(tmp_path, Target(TABLE.inputs, 1), "regression", {"x": FEATURES, "y": FEATURES[:, 0]})
    assert loaded.train.labels is not None
    assert loaded.train.labels.shape == (28, 1)


def test_rows_of_flags_are_labels_when_the_task_is_multilabel(tmp_path: Path) -> None:
    flags = (FEATURES[:, :3] > 0).astype(np.int64)
    loaded = load(tmp_path, TABLE, "multilabel", {"x": FEATURES, "y": flags})
    assert loaded.train.labels is not None
    assert loaded.train.labels.shape == (28, 3)


MISMATCHES: dict[str, tuple[dict[str, object], str]] = {
    "too many features": ({"arrays": {"x": np.zeros((9, 5), np.float32), "y": LABELS[:9]}}, "takes (4) per row"),
    "rank": ({"arrays": {"x": np.zeros((9, 2, 2), np.float32), "y": LABELS[:9]}}, "takes (4) per row"),
    "no such input": ({"arrays": {"a": FEATURES, "b": FEATURES, "y": LABELS}}, "'input'"),
    "label above the classes": ({"arrays": {"x": FEATURES, "y": np.full(ROWS, 3)}}, "Row 0 has the label 3"),
    "label below zero": ({"arrays": {"x": FEATURES, "y": np.r_[LABELS[:-1], -1]}}, "Row 39 has the label -1"),
    "fractional label": ({"arrays": {"x": FEATURES, "y": LABELS + 0.5}}, "Row 0 has the label 0.5"),
    "too many names": ({"arrays": {"x": FEATURES, "y": np.array([*"abcd"] * 10)}}, "4 labels"),
    "no labels": ({"arrays": {"x": FEATURES}}, "task match"),
    "labels of two axes": ({"arrays": {"x": FEATURES, "y": np.zeros((ROWS, 2), int)}}, "one class number"),
    "text for numbers": ({"arrays": {"x": np.array(["a"] * ROWS), "y": LABELS}}, "takes float"),
    "two rows": ({"arrays": {"x": FEATURES[:2], "y": LABELS[:2]}}, "2 rows"),
    "unknown split": ({"arrays": {"x": FEATURES, "y": LABELS, "split": np.array(["other"] * ROWS)}}, "'other'"),
    "split without train": ({"arrays": {"x": FEATURES, "y": LABELS, "split": np.full(ROWS, 2)}}, "no rows to train"),
    "missing column": ({"columns": Columns(label="nothing")}, "'nothing'"),
    "floats for integers": (
        {"target": Target((spec("ids", "int64", "n", 4),), 3), "arrays": {"ids": FEATURES, "y": LABELS}},
        "takes int64",
    ),
    "integers too large": (
        {
            "target": Target((spec("ids", "int32", "n", 1),), 3),
            "arrays": {"ids": np.full((9, 1), 1 << 40), "y": LABELS[:9]},
        },
        "takes int32",
    ),
    "no tokenizer": (
        {
            "target": Target((spec("input_ids", "int64", "n", "s"),), 3),
            "arrays": {"text": np.array(["a"] * 9), "y": LABELS[:9]},
        },
        "no tokenizer",
    ),
    "unknown class name": (
        {
            "target": Target(TABLE.inputs, 3, ("red", "green", "blue")),
            "arrays": {"x": FEATURES, "y": np.array(["pink"] * ROWS)},
        },
        "'pink'",
    ),
    "flags that are none": ({"task": "multilabel", "arrays": {"x": FEATURES, "y": np.full((ROWS, 3), 2)}}, "Row 0"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_mismatch_names_what_does_not_fit(name: str, tmp_path: Path) -> None:
    arguments, told = MISMATCHES[name]
    with pytest.raises(DatasetMismatch) as refusal:
        load(tmp_path, **arguments)  # type: ignore[arg-type]
    assert told in refusal.value.detail


def test_rows_must_agree_when_arrays_differ(tmp_path: Path) -> None:
    with pytest.raises(DatasetMalformed, match="different numbers of rows"):
        load(tmp_path, arrays={"x": FEATURES, "y": LABELS[:-1]})
