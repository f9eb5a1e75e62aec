"""Read npz files without NumPy's loader: headers are matched, never evaluated, and objects are refused."""

import math
import re
from pathlib import Path

import numpy as np

from app.errors import ArchiveMalformed, DatasetMalformed
from workers.compute.archives import Archive
from workers.compute.datasets.samples import Array
from workers.compute.datasets.table import MAX_TABLE_BYTES, Table, make_table, refuse_wide, text_column
from workers.compute.wording import shown

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_240
# The one form that NumPy writes; anything else is not ours to interpret.
_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=][a-zA-Z]\d{1,9})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[\d, ]*)\), ?\}\s*"
)
_DTYPES = re.compile(r"[<>|=](?:b1|[iu][1248]|f[248]|[US]\d{1,6})")
_SPLIT_SUFFIXES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def read(path: Path) -> Table:
    """Return the arrays by name; `x_train`, `x_test` and the like are joined into `x` and a `split` column.

    Raises DatasetMalformed, DatasetTooWide, ArchiveUnsafe, ArchiveBomb.
    """
    try:
        arrays = _arrays(path)
    except ArchiveMalformed as error:
        raise DatasetMalformed("The file is not a whole npz archive.") from error
    return make_table(_joined(arrays))


def _arrays(path: Path) -> dict[str, Array]:
    archive = Archive(path)
    names = [name for name in archive.members if name.endswith(".npy")]
    if len(names) != len(archive.members):
        raise DatasetMalformed("The npz archive holds files that are not arrays.")
    refuse_wide(len(names))
    return {name.removesuffix(".npy"): parse_npy(name, archive.read(name, MAX_TABLE_BYTES)) for name in names}


def parse_npy(name: str, contents: bytearray) -> Array:
    """Return the array in an npy file. Raises DatasetMalformed, naming the member."""
    name = shown(name)
    if len(contents) < 12 or not contents.startswith(_MAGIC) or contents[6] not in {1, 2, 3}:  # noqa: PLR2004  # npy 1.0 to 3.0
        raise DatasetMalformed(f"Member {name!r} is not an npy array.")
    wide = contents[6] > 1
    start = 12 if wide else 10
    header_bytes = int.from_bytes(contents[8:start], "little")
    if header_bytes > _MAX_HEADER_BYTES or start + header_bytes > len(contents):
        raise DatasetMalformed(f"Member {name!r} has an npy header of {header_bytes:,} bytes.")
    header = _HEADER.fullmatch(contents[start : start + header_bytes].decode("latin-1"))
    if header is None or not _DTYPES.fullmatch(header["dtype"]):
        raise DatasetMalformed(f"Array {name!r} is not of plain numbers or text; objects and records are not read.")
    dtype = np.dtype(header["dtype"])
    shape = [int(digits) for digits in header["shape"].replace(" ", "").split(",") if digits]
    body = memoryview(contents)[start + header_bytes :]
    if math.prod(shape) * dtype.itemsize != len(body) or not dtype.itemsize:
        raise DatasetMalformed(
            f"Array {name!r} holds {len(body):,} bytes, which its shape {tuple(shape)} does not need."
        )
    array = np.frombuffer(body, dtype).reshape(shape, order="F" if header["fortran"] == "True" else "C")
    return _plain(name, array)


def _plain(name: str, array: Array) -> Array:
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array.astype(np.bytes_, copy=False), "utf-8")
        except UnicodeDecodeError as error:
            raise DatasetMalformed(f"Array {name!r} is not UTF-8.") from error
    if array.dtype.kind == "U":
        if array.ndim != 1:
            raise DatasetMalformed(f"Array {name!r} holds text in more than one axis.")
        return text_column(array.tolist())
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DatasetMalformed(f"Array {name!r} holds NaN or infinite values.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _joined(arrays: dict[str, Array]) -> dict[str, Array]:
    parts: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        stem, _, suffix = name.rpartition("_")
        if not stem or suffix not in _SPLIT_SUFFIXES or not array.ndim:
            return arrays
        parts.setdefault(_SPLIT_SUFFIXES[suffix], {})[stem] = array
    if len({frozenset(columns) for columns in parts.values()}) != 1:
        return arrays
    tables = {split: make_table(columns) for split, columns in parts.items()}
    split = text_column([split for split, table in tables.items() for _ in range(table.rows)])
    stems = next(iter(parts.values()))
    if len({column.shape[1:] for columns in parts.values() for column in columns.values()}) > len(stems):
        raise DatasetMalformed("The arrays of the splits have different shapes per row.")
    return {stem: np.concatenate([parts[split][stem] for split in parts]) for stem in stems} | {"split": split}
