"""ONNX models in several files, as exporters write them, and zips of them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from tests.workers.importers.small_models import model

Spans = Mapping[str, tuple[str, int, int | None]]  # location, offset, length by tensor
WEIGHT_BYTES = 48  # of the small model's one weight
ARRAY = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def refer(tensor: onnx.TensorProto, **entries: str | int) -> onnx.TensorProto:
    """Make the tensor refer to data outside: `location`, `offset`, `length` or any other key."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def referring(**entries: str | int) -> bytes:
    """The small model, its weight outside."""
    built = model()
    refer(built.graph.initializer[0], **entries)
    return built.SerializeToString()


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return path


def split(built: onnx.ModelProto, folder: Path, *, together: bool = True) -> dict[str, bytes]:
    """Save the model with onnx's own writer, every weight outside, in one file or one each; return the files."""
    folder.mkdir()
    onnx.save(
        built, folder / "net.onnx", save_as_external_data=True, all_tensors_to_one_file=together,
        location="net.onnx_data" if together else None, size_threshold=0,
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in folder.iterdir()}
