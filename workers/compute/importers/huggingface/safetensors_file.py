"""Parse safetensors by our own rules: a bounded header, plain unique names, tensors that tile the file exactly."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelMalformed, ModelTooComplex, ModelUnsupported
from workers.compute.wording import shown

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 20_000
_NAME = re.compile(r"[A-Za-z0-9_.\-/]{1,256}")
_LENGTH_BYTES = 8
_MAX_AXES = 8
_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("<i1"),
    "U8": np.dtype("<u1"), "BOOL": np.dtype("?"),
}  # fmt: skip

Weights = Mapping[str, NDArray[np.generic]]


def parse(contents: bytearray) -> Weights:
    """Return the tensors by name, as views of `contents`; half precision comes out as float32.

    Raises ModelMalformed, ModelTooComplex, ModelUnsupported.
    """
    header_bytes = int.from_bytes(contents[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + header_bytes
    if len(contents) < _LENGTH_BYTES or start > len(contents):
        raise ModelMalformed("model.safetensors is cut short.")
    if header_bytes > MAX_HEADER_BYTES:
        raise ModelTooComplex(f"The safetensors header has {header_bytes:,} bytes; the limit is {MAX_HEADER_BYTES:,}.")
    entries = _entries(contents[_LENGTH_BYTES:start])
    body = memoryview(contents)[start:]
    found: dict[str, NDArray[np.generic]] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: _offsets(*item)):
        first, last = _offsets(name, entry)
        if first != end or last > len(body):
            raise ModelMalformed(f"Tensor {name!r} overlaps another one, leaves a gap, or reaches beyond the file.")
        found[name] = _tensor(name, entry, body[first:last])
        end = last
    if end != len(body):
        raise ModelMalformed("model.safetensors holds bytes that belong to no tensor.")
    return found


def _entries(header: bytearray) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelMalformed("The safetensors header is not JSON, or it repeats a name.") from error
    if not isinstance(entries, dict):
        raise ModelMalformed("The safetensors header is not a JSON object.")
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise ModelTooComplex(f"The safetensors file has {len(entries):,} tensors; the limit is {MAX_TENSORS:,}.")
    for name, entry in entries.items():
        if not _NAME.fullmatch(name) or ".." in name or not isinstance(entry, dict):
            raise ModelMalformed(f"The safetensors header has an odd entry {shown(name)!r}.")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("repeated name")
    return dict(pairs)


def _offsets(name: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    offsets = entry.get("data_offsets")
    if not isinstance(offsets, list) or not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004  # first and last
        raise ModelMalformed(f"Tensor {name!r} has no valid offsets.")
    return offsets[0], offsets[1]


def _naturals(found: list[Any]) -> bool:
    return all(type(number) is int and 0 <= number < 1 << 48 for number in found)


def _tensor(name: str, entry: Mapping[str, Any], body: memoryview) -> NDArray[np.generic]:
    shape, kind = entry.get("shape"), entry.get("dtype")
    if not isinstance(shape, list) or not _naturals(shape) or len(shape) > _MAX_AXES:
        raise ModelMalformed(f"Tensor {name!r} has no valid shape.")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ModelUnsupported(f"Tensor {name!r} is of type {shown(str(kind))}, which is not read.")
    dtype = _DTYPES[kind]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ModelMalformed(f"Tensor {name!r} has {len(body):,} bytes; its shape needs another number.")
    values = np.frombuffer(body, dtype).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32) if kind == "F16" else values
