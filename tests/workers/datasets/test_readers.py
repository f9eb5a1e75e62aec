"""Each format read right, and refused by name."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from app import errors
from workers.compute.datasets import csv_file, jsonl_file, npz, parquet_file
from workers.compute.datasets.table import Table

READ = {"npz": npz.read, "csv": csv_file.read, "jsonl": jsonl_file.read, "parquet": parquet_file.read}


def npz_of(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def parquet_of(**columns: object) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


def npy_zip(header: str, body: bytes = b"", name: str = "x.npy") -> bytes:
    text = header.encode("latin-1")
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, npy)
    return stream.getvalue()


def npy_header(dtype: str = "'<f4'", shape: str = "(2,)") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


def lines(*rows: object) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def read(kind: str, contents: bytes, folder: Path) -> Table:
    path = folder / f"data.{kind}"
    path.write_bytes(contents)
    return READ[kind](path)


X = np.arange(12, dtype=np.float32).reshape(6, 2)
OBJECTS = np.array([{"a": 1}], dtype=object)

REFUSED: dict[str, tuple[str, Callable[[], bytes], type[errors.ModelpressError]]] = {
    "npz empty": ("npz", lambda: b"", errors.DatasetMalformed),
    "npz truncated": ("npz", lambda: npz_of(x=X)[:-20], errors.DatasetMalformed),
    "npz of objects": ("npz", lambda: npz_of(x=OBJECTS), errors.DatasetMalformed),
    "npz lies about its shape": (
        "npz",
        lambda: npy_zip(npy_header(shape="(1152921504606846976,)")),
        errors.DatasetMalformed,
    ),
    "npz with nested parentheses": ("npz", lambda: npy_zip("(" * 9000), errors.DatasetMalformed),
    "npz header runs code": ("npz", lambda: npy_zip(npy_header(shape="(print(1),)")), errors.DatasetMalformed),
    "npz of records": ("npz", lambda: npz_of(x=np.zeros(3, dtype=[("a", "f4"), ("b", "f4")])), errors.DatasetMalformed),
    "npz of complex": ("npz", lambda: npz_of(x=np.zeros(3, np.complex64)), errors.DatasetMalformed),
    "npz of other files": ("npz", lambda: npy_zip(npy_header(), b"\0" * 8, "x.txt"), errors.DatasetMalformed),
    "npz with NaN": ("npz", lambda: npz_of(x=np.array([1.0, np.nan])), errors.DatasetMalformed),
    "npz scalar": ("npz", lambda: npz_of(x=np.float32(3)), errors.DatasetMalformed),
    "npz of unequal rows": ("npz", lambda: npz_of(x=X, y=np.arange(5)), errors.DatasetMalformed),
    "npz without rows": ("npz", lambda: npz_of(x=np.zeros((0, 2), np.float32)), errors.DatasetMalformed),
    "csv empty": ("csv", lambda: b"", errors.DatasetMalformed),
    "csv of a header alone": ("csv", lambda: b"a,b\n", errors.DatasetMalformed),
    "csv ragged": ("csv", lambda: b"a,b\n1,2\n3\n", errors.DatasetMalformed),
    "csv twin names": ("csv", lambda: b"a,a\n1,2\n", errors.DatasetMalformed),
    "csv not UTF-8": ("csv", lambda: b"a\n\xff\xfe\n", errors.DatasetMalformed),
    "csv open quote": ("csv", lambda: b'a\n"' + b"x\n" * 600_000, errors.DatasetMalformed),
    "csv endless line": ("csv", lambda: b"a\n" + b"x" * (2 << 20), errors.DatasetMalformed),
    "csv too wide": ("csv", lambda: ",".join(map(str, range(10_001))).encode() + b"\n", errors.DatasetTooWide),
    "csv infinite number": ("csv", lambda: b"a,b\n1e999,1\n2,2\n", errors.DatasetMalformed),
    "jsonl empty": ("jsonl", lambda: b"", errors.DatasetMalformed),
    "jsonl NaN": ("jsonl", lambda: b'{"a": NaN}', errors.DatasetMalformed),
    "jsonl overflow": ("jsonl", lambda: b'{"a": 1e999}', errors.DatasetMalformed),
    "jsonl long integer": ("jsonl", lambda: b'{"a": ' + b"9" * 10_000 + b"}", errors.DatasetMalformed),
    "jsonl deep": ("jsonl", lambda: b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", errors.DatasetMalformed),
    "jsonl repeated key": ("jsonl", lambda: b'{"a": 1, "a": 2}', errors.DatasetMalformed),
    "jsonl changing keys": ("jsonl", lambda: lines({"a": 1}, {"b": 1}), errors.DatasetMalformed),
    "jsonl half a surrogate pair": ("jsonl", lambda: lines({"a": "x"}, {"a": "\ud800"}), errors.DatasetMalformed),
    "jsonl no object": ("jsonl", lambda: b"[1, 2]", errors.DatasetMalformed),
    "jsonl no JSON": ("jsonl", lambda: b"{a: 1}", errors.DatasetMalformed),
    "jsonl mixed types": ("jsonl", lambda: lines({"a": 1}, {"a": "x"}), errors.DatasetMalformed),
    "jsonl null": ("jsonl", lambda: lines({"a": 1}, {"a": None}), errors.DatasetMalformed),
    "jsonl ragged lists": ("jsonl", lambda: lines({"a": [1]}, {"a": [1, 2]}), errors.DatasetMalformed),
    "jsonl endless line": ("jsonl", lambda: b'{"a": "' + b"x" * (2 << 20), errors.DatasetMalformed),
    "parquet empty": ("parquet", lambda: b"", errors.DatasetMalformed),
    "parquet truncated": ("parquet", lambda: parquet_of(a=[1, 2])[:-9], errors.DatasetMalformed),
    "parquet footer lies": (
        "parquet",
        lambda: parquet_of(a=[1])[:-8] + b"\xff\xff\xff\x7fPAR1",
        errors.DatasetMalformed,
    ),
    "parquet footer broken": ("parquet", lambda: b"PAR1" + b"x" * 100 + b"\x40\0\0\0PAR1", errors.DatasetMalformed),
    "parquet null": ("parquet", lambda: parquet_of(a=[1, None]), errors.DatasetMalformed),
    "parquet too wide": ("parquet", lambda: parquet_of(**{f"c{i}": [1] for i in range(10_001)}), errors.DatasetTooWide),
    "parquet NaN": ("parquet", lambda: parquet_of(a=[1.0, float("nan")]), errors.DatasetMalformed),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_are_refused_by_name(name: str, tmp_path: Path) -> None:
    kind, build, error = REFUSED[name]
    with pytest.raises(error) as refusal:
        read(kind, build(), tmp_path)
    assert type(refusal.value) is error
    assert str(tmp_path) not in refusal.value.detail


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        ("npz", npz_of(a=np.array([1, 2, 3]), b=np.array([0.5, 1, 2]), c=np.array(["x", "ÿ", "z"]))),
        ("csv", '\ufeffa,b,c\n1,0.5,x\n2,1,"ÿ"\n\n3,2,z\n'.encode()),
        ("jsonl", lines({"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": 1, "c": "ÿ"}, "", {"a": 3, "b": 2, "c": "z"})),
        ("parquet", parquet_of(a=[1, 2, 3], b=[0.5, 1, 2], c=["x", "ÿ", "z"])),
    ],
)
def test_every_format_gives_the_same_columns(kind: str, contents: bytes, tmp_path: Path) -> None:
    table = read(kind, contents, tmp_path)
    assert table.columns["a"].tolist() == [1, 2, 3]
    assert table.columns["a"].dtype.kind == "i"
    assert table.columns["b"].tolist() == [0.5, 1, 2]
    assert table.columns["c"].tolist() == ["x", "ÿ", "z"]


def test_arrays_keep_their_order_and_bytes_when_npz_is_fortran_or_big_endian(tmp_path: Path) -> None:
    table = read("npz", npz_of(f=np.asfortranarray(X), b=X.astype(">f8")), tmp_path)
    assert np.array_equal(table.columns["f"], X)
    assert np.array_equal(table.columns["b"], X)
    assert table.columns["b"].dtype.isnative


def test_lists_become_one_array_when_their_lengths_agree(tmp_path: Path) -> None:
    table = read("jsonl", lines({"a": [[1, 2], [3, 4]]}, {"a": [[5, 6], [7, 8]]}), tmp_path)
    assert table.columns["a"].shape == (2, 2, 2)


def test_splits_are_joined_when_npz_arrays_name_them(tmp_path: Path) -> None:
    table = read("npz", npz_of(x_train=X, y_train=np.arange(6), x_test=X[:2], y_test=np.arange(2)), tmp_path)
    assert table.columns["x"].shape == (8, 2)
    assert table.columns["split"].tolist() == ["train"] * 6 + ["test"] * 2


def test_long_digits_stay_text_when_a_field_is_no_number(tmp_path: Path) -> None:
    table = read("csv", b"a\n" + b"1" * 60 + b"\n2\n", tmp_path)
    assert table.columns["a"].tolist() == ["1" * 60, "2"]
