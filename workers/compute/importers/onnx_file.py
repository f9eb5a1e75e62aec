"""Admit one self-contained ONNX file, or refuse it by name. Our own rules come before any library's.

The order matters: cheap arithmetic first, then the weights, then the checker, and the runtime last.
"""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

from app.errors import FormatUnsafe, ModelMalformed, PayloadTooLarge
from workers.compute.importers import budgets, external_data, names, operators, structure, tensors

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


def admit(path: Path) -> onnx.ModelProto:
    """Return the parsed model of `path` once it has passed every rule but the runtime's.

    Raises FormatUnsafe, ModelMalformed, ModelExternalData, ModelTooComplex, ModelUnsupported, ModelNonfinite,
    NothingToCompress.
    """
    model = _parse(path)
    budgets.check(model)
    names.check(model)
    external_data.refuse(model)
    operators.check(model)
    structure.check(model)
    tensors.check(model)
    _library_check(model)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    size = path.stat().st_size
    if size < _SMALLEST:
        raise ModelMalformed("The file is empty." if size == 0 else f"The file has only {size} bytes.")
    if size > MAX_BYTES:
        raise PayloadTooLarge("The file is over 2 GiB, which a single ONNX file cannot be.")
    with path.open("rb") as stream:
        head = stream.read(4)
    for magic, what in _UNSAFE_HEADS.items():
        if head.startswith(magic):
            raise FormatUnsafe(f"The file is {what}, not ONNX.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelMalformed("The file is not an ONNX model, or it is cut short.") from error
    if not model.HasField("graph") or not model.ir_version:
        raise ModelMalformed("The file holds no ONNX graph.")
    return model


def _library_check(model: onnx.ModelProto) -> None:
    try:
        with operators.checkable(model):
            onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelMalformed("The model breaks a rule of the ONNX standard; onnx.checker names it.") from error
