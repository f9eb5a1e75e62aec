"""Weights in a file beside the model file: mapped on the way in, streamed on the way out. Knows no upload.

Follows ONNX's external data: `location` names a file in the model's own folder.
"""

import mmap
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir

SUFFIX = ".data"
INLINE_BYTES = 1024  # smaller tensors stay in the model file: shapes and axes, which runtimes read before any weights
_ALIGNED_FROM_BYTES = 1 << 20  # larger tensors begin on a boundary that every system can map from
_BOUNDARY_BYTES = 1 << 16  # Windows' allocation granularity, a multiple of every page size in use
_PACKED_BYTES = 64  # a cache line, a multiple of every element size


def beside(path: Path) -> Path:
    """Return where the weights of the model file `path` are, if they are not inside it."""
    return path.with_name(path.name + SUFFIX)


def map_tensors(graph: onnx_ir.Graph, folder: Path) -> None:
    """Replace references to files in `folder` by read-only views of their pages, which take memory when they are read.

    Every file is mapped once: a mapping for each tensor would count the whole file against the address space each time.
    Raises OSError and ValueError for references that `importers` would have refused.
    """
    maps: dict[str, mmap.mmap] = {}
    for initializer in graph.initializers.values():
        tensor = initializer.const_value
        if not isinstance(tensor, onnx_ir.ExternalTensor):
            continue
        location = os.fspath(tensor.location)
        if location not in maps and tensor.nbytes:
            maps[location] = _mapped(folder / location)
        initializer.const_value = _view(tensor, maps.get(location))


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _view(tensor: onnx_ir.ExternalTensor, pages: mmap.mmap | None) -> onnx_ir.TensorProtocol:
    shape = tensor.shape.numpy()
    if pages is None:
        return onnx_ir.Tensor(np.empty(shape, tensor.dtype.numpy()), tensor.dtype, name=tensor.name)
    offset = tensor.offset or 0
    if tensor.dtype.bitwidth < 8:  # noqa: PLR2004  # several elements to a byte
        packed = np.frombuffer(pages, np.uint8, tensor.nbytes, offset)
        return onnx_ir.PackedTensor(packed, tensor.dtype, shape=tensor.shape, name=tensor.name)
    values = np.frombuffer(pages, tensor.dtype.numpy(), tensor.size, offset).reshape(shape)
    if not values.flags.aligned:
        values = values.copy()  # the standard lets a tensor begin anywhere; arithmetic wants whole elements
    return onnx_ir.Tensor(values, tensor.dtype, shape=tensor.shape, name=tensor.name)


def move_out(graph: onnx_ir.Graph, path: Path) -> None:
    """Write the graph's weights to `path`, one after the other, and leave references to it in the graph.

    What `path` held before stays readable for whoever has mapped it, even for this graph itself.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            for initializer in graph.initializers.values():
                tensor = initializer.const_value
                if tensor is not None and tensor.nbytes >= INLINE_BYTES and tensor.dtype != onnx_ir.DataType.STRING:
                    initializer.const_value = _written(tensor, stream, path.name)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _written(tensor: onnx_ir.TensorProtocol, stream: BinaryIO, location: str) -> onnx_ir.ExternalTensor:
    step = _BOUNDARY_BYTES if tensor.nbytes >= _ALIGNED_FROM_BYTES else _PACKED_BYTES
    offset = -(-stream.tell() // step) * step
    stream.seek(offset)
    if isinstance(tensor, onnx_ir.Tensor | onnx_ir.PackedTensor):
        tensor.tofile(stream)  # straight from its memory, where it can
    else:
        stream.write(tensor.tobytes())
    shape = onnx_ir.Shape(tensor.shape.numpy())
    return onnx_ir.ExternalTensor(location, offset, tensor.nbytes, tensor.dtype, shape=shape, name=str(tensor.name))
