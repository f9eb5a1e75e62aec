"""Admit an ONNX file, alone or with its data files, or refuse it by name. Our own rules come before any library's.

The order matters: cheap arithmetic first, then the weights, then the checker, and the runtime last.
"""

from pathlib import Path
from tempfile import NamedTemporaryFile

import onnx
import onnx_ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

from app.errors import FormatUnsafe, ModelMalformed, PayloadTooLarge
from workers.compute.graph.model import Model, load
from workers.compute.importers import budgets, external_data, names, operators, structure, tensors, wire

MAX_BYTES = 2**31 - 1  # protobuf's own limit
_SMALLEST = 16
_UNSAFE_HEADS = {
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"PK\x03\x04": "a zip archive (a PyTorch or Keras file?)",
    b"\x7fELF": "a program",
    b"\x89HDF": "an HDF5 file",
}


def admit(path: Path, *, has_files: bool = False) -> onnx.ModelProto:
    """Return the parsed model of `path` once it has passed every rule but the runtime's.

    With `has_files` its tensors may refer to the other files of its folder, and every one of those must be referred
    to; small tensors are then returned as if they had been inside. Raises FormatUnsafe, ModelMalformed,
    ModelExternalData, ModelTooComplex, ModelUnsupported, ModelNonfinite, NothingToCompress.
    """
    model = _parse(path)
    budgets.check(model)
    names.check(model)
    if has_files:
        external_data.check(model, path)
    else:
        external_data.refuse(model)
    budgets.check_stated_sizes(model)  # reads shapes, so it comes after what might be elsewhere
    operators.check(model)
    structure.check(model)
    folder = path.parent if has_files else None
    tensors.check(model, folder)
    _library_check(model, folder)
    return model


def read(path: Path) -> Model:
    """Return an admitted file's graph. Raises ModelMalformed for what only reading it shows."""
    try:
        return load(path)
    except onnx_ir.serde.SerdeError as error:
        raise ModelMalformed("The graph cannot be read; onnx.checker names the fault.") from error


def _parse(path: Path) -> onnx.ModelProto:
    size = path.stat().st_size
    if size < _SMALLEST:
        raise ModelMalformed("The file is empty." if size == 0 else f"The file has only {size} bytes.")
    if size > MAX_BYTES:
        raise PayloadTooLarge(
            "The file is over 2 GiB, which one ONNX file cannot be; save its weights as external data and send a zip."
        )
    with path.open("rb") as stream:
        head = stream.read(4)
    for magic, what in _UNSAFE_HEADS.items():
        if head.startswith(magic):
            raise FormatUnsafe(f"The file is {what}, not ONNX.")
    wire.check(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelMalformed("The file is not an ONNX model, or it is cut short.") from error
    if not model.HasField("graph") or not model.ir_version:
        raise ModelMalformed("The file holds no ONNX graph.")
    return model


def _library_check(model: onnx.ModelProto, folder: Path | None) -> None:
    """Let onnx.checker look: at the model itself, or, where `folder` holds its data files, at a copy beside them."""
    try:
        with operators.checkable(model):
            if folder is None:
                onnx.checker.check_model(model)
                return
            with NamedTemporaryFile(dir=folder, suffix=".onnx") as copy:
                copy.write(model.SerializeToString())
                copy.flush()
                onnx.checker.check_model(copy.name)
    except onnx.checker.ValidationError as error:
        raise ModelMalformed("The model breaks a rule of the ONNX standard; onnx.checker names it.") from error
