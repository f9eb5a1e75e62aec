"""Tensors whose data are in another file. A single-file upload may have none; an archive's lie beside its model.

The references are checked here, by arithmetic and plain names, before any library opens a file that one names.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from app.errors import ModelExternalData, ModelMalformed
from workers.compute.importers import element_types, walk
from workers.compute.wording import shown

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
_VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
# Shapes and axes of that many bytes are brought into the model, so that every rule sees them; runtimes do the same.
_BROUGHT_IN_BYTES = 1024


@dataclass(frozen=True)
class Reference:
    """Where a tensor's bytes are: `location` is the name of a file in the model's folder."""

    tensor: TensorProto
    location: str
    offset: int
    length: int

    @property
    def named(self) -> str:
        """The tensor in an error's words."""
        return f"Tensor {shown(self.tensor.name)!r}"


def is_outside(tensor: TensorProto) -> bool:
    """Whether the tensor refers to another file, in whichever of the two ways."""
    return bool(tensor.external_data) or tensor.data_location == TensorProto.EXTERNAL


def refuse(model: onnx.ModelProto) -> None:
    """Raise ModelExternalData if any tensor of any graph, function or attribute names another file."""
    for tensor in walk.tensors(model):
        if is_outside(tensor):
            raise ModelExternalData(f"Tensor {shown(tensor.name)!r} refers to data outside the file.")


def check(model: onnx.ModelProto, file: Path) -> None:
    """Check every reference of the model in `file`, in whose folder nothing but its data files may be.

    Afterwards small tensors hold their values themselves. Raises ModelExternalData for files that are missing, not
    named, or named by what is no initializer; ModelMalformed for places and lengths that cannot be.
    """
    outside = [tensor for tensor in model.graph.initializer if is_outside(tensor)]
    if len(outside) != sum(is_outside(tensor) for tensor in walk.tensors(model)):
        raise ModelExternalData("A tensor that is no initializer of the main graph refers to data outside the file.")
    sizes = {path.name: path.stat().st_size for path in file.parent.iterdir() if path != file}
    references = [_reference(tensor, sizes) for tensor in outside]
    unnamed = sizes.keys() - {reference.location for reference in references}
    if unnamed:
        raise ModelExternalData(f"The archive holds {shown(min(unnamed))!r}, which no tensor names.")
    _refuse_shared_bytes(references)
    for reference in references:
        if reference.length <= _BROUGHT_IN_BYTES:
            _bring_in(reference, file.parent)


def _reference(tensor: TensorProto, sizes: dict[str, int]) -> Reference:
    name = f"Tensor {shown(tensor.name)!r}"
    element_types.check(tensor)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not {"location"} <= entries.keys() <= _KEYS:
        raise ModelMalformed(f"{name} does not say once, by the keys of the ONNX standard, where its data are.")
    if tensor.data_location != TensorProto.EXTERNAL or any(_holds(tensor, field) for field in _VALUES):
        raise ModelMalformed(f"{name} holds data and refers to data.")
    if entries["location"] not in sizes:  # so it is a plain name: nothing else is in the folder
        raise ModelExternalData(f"{name} names {shown(entries['location'])!r}, which is not beside the model.")
    if tensor.data_type == TensorProto.STRING:
        raise ModelMalformed(f"{name} holds strings, which cannot be in another file.")
    needed = element_types.bytes_needed(tensor)
    offset, length = (_whole(entries.get(key, default), name) for key, default in (("offset", "0"), ("length", needed)))
    if length != needed:
        raise ModelMalformed(f"{name} refers to {length:,} bytes of data; its shape needs {needed:,}.")
    size = sizes[entries["location"]]
    if offset + length > size:
        raise ModelMalformed(f"{name} refers to bytes {offset:,} to {offset + length:,} of a file of {size:,}.")
    return Reference(tensor, entries["location"], offset, length)


def _holds(tensor: TensorProto, field: str) -> bool:
    return bool(len(getattr(tensor, field)))


def _whole(written: str | int, name: str) -> int:
    if _WHOLE_NUMBER.fullmatch(str(written)) is None:
        raise ModelMalformed(f"{name} says {shown(str(written))!r} where a whole number of bytes is wanted.")
    return int(written)


def _refuse_shared_bytes(references: Sequence[Reference]) -> None:
    """Refuse overlaps: a small file could stand for any amount of weights."""
    ordered = sorted((one for one in references if one.length), key=lambda one: (one.location, one.offset))
    for first, second in pairwise(ordered):
        if first.location == second.location and first.offset + first.length > second.offset:
            raise ModelMalformed(f"{first.named} and {shown(second.tensor.name)!r} refer to the same bytes.")


def _bring_in(reference: Reference, folder: Path) -> None:
    with (folder / reference.location).open("rb") as stream:
        stream.seek(reference.offset)
        reference.tensor.raw_data = stream.read(reference.length)
    del reference.tensor.external_data[:]
    reference.tensor.ClearField("data_location")


def pieces(tensor: TensorProto, folder: Path, elements: int) -> Iterator[NDArray[np.generic]]:
    """Yield the values of a tensor whose reference has been checked, flat, in pieces of `elements`."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    left = element_types.size_of(tensor)
    with (folder / entries["location"]).open("rb") as stream:
        stream.seek(int(entries.get("offset", "0")))
        while left > 0:
            count = min(left, elements)
            yield np.frombuffer(stream.read(count * dtype.itemsize), dtype)
            left -= count
