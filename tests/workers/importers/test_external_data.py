"""Which references from a model to the files beside it are followed, and which are refused, by which name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app import errors
from tests.workers.importers.several_files import ARRAY, WEIGHT_BYTES, refer, referring
from tests.workers.importers.small_models import model, value, weight
from workers.compute.importers import tensors
from workers.compute.importers.onnx_file import admit

CANARY = b"canary" * 8
HERE: dict[str, str | int] = {"location": "w", "offset": 0, "length": WEIGHT_BYTES}


def folder_of(base: Path, content: bytes, **files: bytes) -> Path:
    """Lay a model and its files out as an archive leaves them; a canary lies one folder up."""
    (base / "canary").write_bytes(CANARY)
    (base / "upload").mkdir()
    for name, held in files.items():
        (base / "upload" / name).write_bytes(held)
    (base / "upload" / "m.onnx").write_bytes(content)
    return base / "upload" / "m.onnx"


def other(tensor: onnx.TensorProto, **fields: object) -> bytes:
    for name, held in fields.items():
        setattr(tensor, name, held)
    return model(initializers=[tensor]).SerializeToString()


def with_raw_data() -> bytes:
    return other(refer(weight(), **HERE), raw_data=ARRAY.tobytes())


def with_entry_twice() -> bytes:
    return other(refer(refer(weight(), **HERE), offset=0))


def without_mark() -> bytes:
    return other(refer(weight(), **HERE), data_location=TensorProto.DEFAULT)


def of_strings() -> bytes:
    return other(refer(TensorProto(name="w", data_type=TensorProto.STRING, dims=[4, 3]), **HERE))


def of_type(kind: int) -> bytes:
    return other(refer(TensorProto(name="w", data_type=kind, dims=[4, 3]), **HERE))


def negative_dims() -> bytes:
    return other(refer(TensorProto(name="w", data_type=1, dims=[-4, -3]), **HERE))


def two(first: int, second: int) -> bytes:
    """Two weights of 48 bytes at these offsets of one file."""
    held = [refer(weight(name), location="w", offset=at, length=48) for name, at in (("w", first), ("v", second))]
    nodes = [helper.make_node("Add", ["w", "v"], ["sum"]), helper.make_node("MatMul", ["x", "sum"], ["y"])]
    return model(nodes, held).SerializeToString()


def in_attribute() -> bytes:
    constant = helper.make_node("Constant", [], ["w"], value=refer(weight(), **HERE))
    return model([constant, helper.make_node("MatMul", ["x", "w"], ["y"])], []).SerializeToString()


def huge_constant() -> bytes:
    """A shape of 2^40 elements, which would fill memory if its place kept it from the rule."""
    shape = refer(TensorProto(name="shape", data_type=7, dims=[2]), location="w", offset=0, length=16)
    node = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    return model([node, helper.make_node("MatMul", ["x", "v"], ["y"])], [shape, weight("v")]).SerializeToString()


REFUSED: dict[str, tuple[Callable[[], bytes], type[errors.ModelpressError]]] = {
    "traversal": (lambda: referring(location="../canary"), errors.ModelExternalData),
    "absolute": (lambda: referring(location="/etc/passwd"), errors.ModelExternalData),
    "subfolder": (lambda: referring(location="./w"), errors.ModelExternalData),
    "memory address": (lambda: referring(location="*/_ORT_MEM_ADDR_/*"), errors.ModelExternalData),
    "empty location": (lambda: referring(location=""), errors.ModelExternalData),
    "missing file": (lambda: referring(location="v"), errors.ModelExternalData),
    "the model itself": (lambda: referring(location="m.onnx"), errors.ModelExternalData),
    "file that no tensor names": (lambda: model().SerializeToString(), errors.ModelExternalData),
    "attribute": (in_attribute, errors.ModelExternalData),
    "no location": (lambda: referring(offset=0), errors.ModelMalformed),
    "unknown key": (lambda: referring(**HERE, basepath=".."), errors.ModelMalformed),
    "entry twice": (with_entry_twice, errors.ModelMalformed),
    "data inside and outside": (with_raw_data, errors.ModelMalformed),
    "not marked as outside": (without_mark, errors.ModelMalformed),
    "negative offset": (lambda: referring(**HERE | {"offset": -1}), errors.ModelMalformed),
    "signed offset": (lambda: referring(**HERE | {"offset": "+0"}), errors.ModelMalformed),
    "offset beyond the file": (lambda: referring(**HERE | {"offset": 60}), errors.ModelMalformed),
    "offset near the end": (lambda: referring(**HERE | {"offset": 3}), errors.ModelMalformed),
    "offset that wraps around": (lambda: referring(**HERE | {"offset": 2**64 - 48}), errors.ModelMalformed),
    "length too short": (lambda: referring(**HERE | {"length": 44}), errors.ModelMalformed),
    "length too long": (lambda: referring(**HERE | {"length": 50}), errors.ModelMalformed),
    "negative length": (lambda: referring(**HERE | {"length": -48}), errors.ModelMalformed),
    "no length and too few bytes": (lambda: referring(location="w", offset=20), errors.ModelMalformed),
    "same bytes twice": (lambda: two(0, 0), errors.ModelMalformed),
    "overlap": (lambda: two(0, 2), errors.ModelMalformed),
    "strings": (of_strings, errors.ModelMalformed),
    "negative dimensions": (negative_dims, errors.ModelMalformed),
    "float8": (lambda: of_type(TensorProto.FLOAT8E4M3FN), errors.ModelUnsupported),
    "unknown type": (lambda: of_type(99), errors.ModelMalformed),
    "huge constant": (huge_constant, errors.ModelTooComplex),
}

# Where a later rule would refuse small tensors too, the words tell that the rule for large ones did.
WORDS = {
    "attribute": "initializer of the main graph",
    "offset beyond the file": "of a file of 50",
    "offset near the end": "of a file of 50",
    "length too short": "refers to 44 bytes",
    "length too long": "refers to 50 bytes",
}


@pytest.mark.parametrize("name", REFUSED)
def test_reference_is_refused_when_it_breaks_a_rule(name: str, tmp_path: Path) -> None:
    build, kind = REFUSED[name]
    held = np.array([1 << 20, 1 << 20], np.int64).tobytes() if name == "huge constant" else ARRAY.tobytes() + b"\0\0"
    file = folder_of(tmp_path, build(), w=held)

    with pytest.raises(kind, match=WORDS.get(name)) as refusal:
        admit(file, has_files=True)

    assert type(refusal.value) is kind
    assert str(tmp_path) not in refusal.value.detail
    assert {path.name for path in file.parent.iterdir()} == {"m.onnx", "w"}


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf])
def test_weights_are_refused_when_the_last_piece_of_a_file_is_not_finite(
    fill: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "_PIECE", 100)
    values = np.ones((40, 30), np.float32)
    values[-1, -1] = fill
    large = refer(numpy_helper.from_array(values, "w"), location="w")
    file = folder_of(
        tmp_path, model(initializers=[large], inputs=[value("x", ["b", 40])]).SerializeToString(), w=values.tobytes()
    )

    with pytest.raises(errors.ModelNonfinite):
        admit(file, has_files=True)


@pytest.mark.parametrize(
    "entries", [HERE, {"location": "w"}, HERE | {"offset": 2}, HERE | {"checksum": "x"}], ids=["all", "1", "2", "sum"]
)
def test_reference_is_followed_when_it_keeps_to_the_rules(entries: dict[str, str | int], tmp_path: Path) -> None:
    at = int(entries.get("offset", 0))
    file = folder_of(tmp_path, referring(**entries), w=b"\0" * at + ARRAY.tobytes())

    admitted = admit(file, has_files=True)

    np.testing.assert_array_equal(numpy_helper.to_array(admitted.graph.initializer[0]), ARRAY)


def test_single_file_is_refused_when_a_shape_constant_is_outside(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(huge_constant())

    with pytest.raises(errors.ModelExternalData) as refusal:
        admit(tmp_path / "m.onnx")

    assert "zip" in refusal.value.cure


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT4])
def test_large_tensor_stays_outside_when_admitted(kind: int, tmp_path: Path) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    values = np.ones((64, 96)).astype(dtype)
    held = numpy_helper.from_array(values, "extra")
    content = held.raw_data
    refer(held, location="w")
    file = folder_of(tmp_path, model(initializers=[weight(), held]).SerializeToString(), w=content)

    admitted = admit(file, has_files=True)

    assert admitted.graph.initializer[1].external_data
