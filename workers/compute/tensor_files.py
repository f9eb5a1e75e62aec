"""One safetensors file that holds arrays, other files as bytes, and facts as JSON; written in one stream.

The format's own limits are kept, so that any reader of it opens the file. Knows no checkpoint.
"""

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workers.compute.files import CHUNK_BYTES

Array = NDArray[np.generic]

_TYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_METADATA, _FACTS = "__metadata__", "facts"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's limit


class Unreadable(Exception):
    """The file is not one of ours, or not whole."""


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Array], files: Mapping[str, Path]) -> None:
    """Write a file that `Contents.open` reads; under another name until it is whole. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as stream:
            _write(stream, facts, arrays, files)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(stream: BinaryIO, facts: Mapping[str, Any], arrays: Mapping[str, Array], files: Mapping[str, Path]) -> None:
    header: dict[str, Any] = {_METADATA: {_FACTS: json.dumps(facts)}}
    offset = 0
    sizes = {name: file.stat().st_size for name, file in files.items()}
    shapes = {name: (_NAMES[array.dtype], list(array.shape), array.nbytes) for name, array in arrays.items()}
    for name, (kind, shape, size) in {**shapes, **{name: ("U8", [size], size) for name, size in sizes.items()}}.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    stream.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
    stream.writelines(np.asarray(array, order="C").reshape(-1).view(np.uint8).data for array in arrays.values())
    for name, file in files.items():
        _copy(file, stream, sizes[name])


def _copy(file: Path, stream: BinaryIO, size: int) -> None:
    with file.open("rb") as source:
        while size and (chunk := source.read(min(size, CHUNK_BYTES))):
            size -= stream.write(chunk)
    if size:
        msg = f"{file.name} became shorter while it was read"
        raise OSError(msg)


@dataclass(frozen=True)
class Contents:
    """What such a file holds; the bytes are read when they are asked for."""

    facts: dict[str, Any]
    _header: Mapping[str, Any]
    _bytes: memoryview

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file that `write` made. Raises Unreadable, OSError."""
        try:
            with path.open("rb") as stream:
                held = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            length = int.from_bytes(held[:_LENGTH_BYTES], "little")
            if length > _MAX_HEADER_BYTES:
                msg = "its header is too long"
                raise Unreadable(msg)
            header = json.loads(bytes(held[_LENGTH_BYTES : _LENGTH_BYTES + length]))
            facts = json.loads(header.pop(_METADATA)[_FACTS])
            found = cls(facts, header, held[_LENGTH_BYTES + length :])
            found._check()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            msg = "its header is not one of ours"
            raise Unreadable(msg) from error
        return found

    def _check(self) -> None:
        for entry in self._header.values():
            start, end = entry["data_offsets"]
            if not 0 <= start <= end <= len(self._bytes):
                msg = "it is cut short"
                raise Unreadable(msg)
            if math.prod(entry["shape"]) * _TYPES[entry["dtype"]].itemsize != end - start:
                msg = "a shape and its bytes disagree"
                raise Unreadable(msg)

    def array(self, name: str) -> Array:
        """Return a copy of an array. Raises KeyError."""
        entry = self._header[name]
        start, end = entry["data_offsets"]
        flat: Array = np.frombuffer(self._bytes[start:end], _TYPES[entry["dtype"]])
        return flat.reshape(entry["shape"]).copy()

    def arrays(self, prefix: str) -> dict[str, Array]:
        """Return the arrays whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): self.array(name) for name in self._named(prefix)}

    def copy_file(self, name: str, target: Path) -> None:
        """Write the bytes that are kept under this name to a new file. Raises KeyError, OSError."""
        start, end = self._header[name]["data_offsets"]
        with target.open("xb") as stream:
            stream.write(self._bytes[start:end])

    def _named(self, prefix: str) -> Iterator[str]:
        yield from (name for name in self._header if name.startswith(prefix))
