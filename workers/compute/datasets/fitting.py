"""Fit columns to a model's inputs: by name, as text, or as one table of features. Checks types and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.contracts.model import TensorSpec
from app.contracts.tasks import InputDataset
from app.errors import DatasetMismatch
from workers.compute.datasets.reading import label_name, split_name
from workers.compute.datasets.samples import Array
from workers.compute.datasets.table import Table, is_text
from workers.compute.datasets.text import TOKEN_INPUTS, load_tokenizer, tokenize
from workers.compute.wording import shown

_FEATURES = ("x", "X", "features", "inputs", "data", "images")
_DTYPES = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What a data set must fit: the model's inputs, scores per row (None: unknown), classes and tokenizer."""

    inputs: tuple[TensorSpec, ...]
    width: int | None = None
    classes: tuple[str, ...] = ()
    tokenizer: Path | None = None


def fit_inputs(dataset: InputDataset, table: Table, target: Target) -> dict[str, Array]:
    """Return an array per model input, rows first, of the input's type and shape. Raises DatasetMismatch."""
    arrays: dict[str, Array] = {}
    for spec in target.inputs:
        array = _by_name(dataset, table, spec.name)
        if array is not None:
            arrays[spec.name] = array
    missing = [spec.name for spec in target.inputs if spec.name not in arrays]
    if missing and set(missing) <= set(TOKEN_INPUTS):
        arrays |= _tokens(dataset, table, target, missing)
    elif len(missing) == 1:
        arrays[missing[0]] = _features(dataset, table, missing[0])
    elif missing:
        raise DatasetMismatch(f"No column feeds the model input {shown(missing[0])!r}; {_held(table)}.")
    return {spec.name: fit(arrays[spec.name], spec) for spec in target.inputs}


def _by_name(dataset: InputDataset, table: Table, name: str) -> Array | None:
    source = dataset.columns.inputs.get(name, name if name in table.columns else None)
    if source is None:
        return None
    if isinstance(source, str):
        return table.column(source)
    return _stacked(table, source)


def _stacked(table: Table, names: list[str]) -> Array:
    columns = [table.column(name) for name in names]
    odd = next((name for name, column in zip(names, columns, strict=True) if is_text(column) or column.ndim != 1), None)
    if odd is not None or not columns:
        raise DatasetMismatch(f"Column {shown(odd or '')!r} is not one number per row, so it cannot be stacked.")
    return np.stack(columns, axis=1)


def _features(dataset: InputDataset, table: Table, name: str) -> Array:
    usual = [known for known in _FEATURES if known in table.columns]
    if usual:
        return table.column(usual[0])
    taken = {label_name(dataset, table), split_name(dataset, table), dataset.columns.text}
    rest = [known for known, column in table.columns.items() if known not in taken and not is_text(column)]
    if len(rest) == 1:
        return table.column(rest[0])
    if not rest or any(table.column(known).ndim != 1 for known in rest):
        raise DatasetMismatch(f"No column feeds the model input {shown(name)!r}; {_held(table)}.")
    return _stacked(table, rest)


def _tokens(dataset: InputDataset, table: Table, target: Target, missing: list[str]) -> Mapping[str, Array]:
    if target.tokenizer is None:
        raise DatasetMismatch(
            f"No column feeds the model input {shown(missing[0])!r}, and the model has no tokenizer; {_held(table)}."
        )
    taken = {label_name(dataset, table), split_name(dataset, table)}
    texts = [name for name, column in table.columns.items() if is_text(column) and name not in taken]
    name = dataset.columns.text or ("text" if "text" in texts else None) or (texts[0] if len(texts) == 1 else None)
    if name is None or not is_text(table.column(name)):
        raise DatasetMismatch(f"Name the text column with `columns.text`; {_held(table)}.")
    tokens = tokenize(load_tokenizer(target.tokenizer), table.column(name).tolist(), dataset.max_length)
    return {name: tokens[name] for name in missing}


def _held(table: Table) -> str:
    return "the data set has " + ", ".join(shown(name) for name in list(table.columns)[:20])


def fit(array: Array, spec: TensorSpec) -> Array:
    """Return `array` in the input's type and shape: a missing axis of length 1 is added, numbers are cast if safe."""
    name = shown(spec.name)
    if is_text(array) or spec.dtype not in _DTYPES:
        if is_text(array) and spec.dtype == "string":
            return array.reshape(-1, *[1] * (len(spec.shape) - 1))
        kind = "text" if is_text(array) else str(array.dtype)
        raise DatasetMismatch(f"The model input {name!r} takes {spec.dtype}; its column holds {kind}.")
    return _cast(_shaped(array, spec, name), np.dtype(_DTYPES[spec.dtype]), name)


def _shaped(array: Array, spec: TensorSpec, name: str) -> Array:
    if _agrees(array.shape, spec):
        return array
    for axis in range(1, len(spec.shape)):
        widened = (*array.shape[:axis], 1, *array.shape[axis:])
        if spec.shape[axis] == 1 and axis <= array.ndim and _agrees(widened, spec):
            return array.reshape(widened)
    wanted = ", ".join(str(axis) if axis is not None else "?" for axis in spec.shape[1:])
    raise DatasetMismatch(f"The model input {name!r} takes ({wanted}) per row; its column has {array.shape[1:]}.")


def _agrees(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    if len(shape) != len(spec.shape) or not spec.shape:
        return False
    pairs = zip(shape[1:], spec.shape[1:], strict=True)
    return all(not isinstance(axis, int) or axis == length for length, axis in pairs)


def _cast(array: Array, dtype: np.dtype[np.generic], name: str) -> Array:
    if array.dtype == dtype:
        return array
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        whole = array.dtype.kind in "biu"
        if not whole or int(array.max()) > limits.max or int(array.min()) < limits.min:
            raise DatasetMismatch(f"The model input {name!r} takes {dtype}; its column holds {array.dtype} values.")
    elif dtype.kind == "b":
        raise DatasetMismatch(f"The model input {name!r} takes bool; its column holds {array.dtype} values.")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise DatasetMismatch(f"The model input {name!r} takes {dtype}; its column holds larger values.")
    return cast
