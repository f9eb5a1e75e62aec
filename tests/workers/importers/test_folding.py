"""Weights computed from constants become plain ones: bit for bit, and only where that is what they are."""

import io
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter

from app.contracts.tasks import CompressOrder
from tests.conformance.test_encodings import TENSORS
from tests.workers.compute.orders import compress, digits_npz, mlp
from tests.workers.encodings.graphs import single
from tests.workers.graph.networks import answers, bert, rows_for
from workers.compute import pipeline
from workers.compute.channel import Channel
from workers.compute.encodings import ENCODINGS, packer
from workers.compute.encodings.base import Array, Contents
from workers.compute.encodings.packer import pack
from workers.compute.graph.dimensions import couple
from workers.compute.graph.model import Model, load, save
from workers.compute.graph.readers import matrices
from workers.compute.importers import folding
from workers.compute.importers.folding import fold

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=(40, 30)).astype(np.float32)


def again(model: Model, folder: Path) -> Model:
    """Return a model as it is after an upload."""
    save(model, folder / "model.onnx")
    return load(folder / "model.onnx")


def bits(model: Model, name: str = "w") -> Array:
    return Contents(name, model.read(name)).bits


def wide(values: Array) -> Array:
    """Return a matrix large enough that a decoder of any encoding takes less room; a map as it is."""
    return np.concatenate([values] * 24) if values.ndim > 1 else values


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("name", sorted(set(ENCODINGS) - {"dense"}))
def test_weights_are_those_of_the_dense_file_when_a_packed_one_is_read(
    name: str, opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packer, "ENCODINGS", {kind: ENCODINGS[kind] for kind in (name, "dense", "codebook")})
    finite = {kind: wide(values) for kind, values in TENSORS.items() if np.isfinite(values).all()}
    models = [single("Gather", values, opset) for values in finite.values()]
    packed = [(model, found) for model in models if (found := pack(model)).tensors[0].encoding == name]
    assert packed

    for dense, found in packed:
        read = fold(again(found.model, tmp_path))

        assert list(read.graph.initializers) == ["w"]
        assert [node.op_type for node in read.graph] == ["Gather"]
        assert read.read("w").dtype == dense.read("w").dtype
        np.testing.assert_array_equal(bits(read), bits(dense))


def test_techniques_see_what_they_saw_in_the_dense_file_when_a_packed_one_is_read(tmp_path: Path) -> None:
    model = bert(layers=2)
    for name in matrices(model):
        model.write(name, NORMAL.reshape(-1)[RANDOM.integers(0, 16, model.read(name).shape)])
    rows = rows_for(model, 3)
    packed = again(pack(model).model, tmp_path)
    assert len(couple(packed).groups) < len(couple(model).groups)

    read = fold(packed)

    assert read.graph.initializers.keys() == model.graph.initializers.keys()
    assert all(np.array_equal(bits(read, name), bits(model, name)) for name in model.graph.initializers)
    assert [group.name for group in couple(read).groups] == [group.name for group in couple(model).groups]
    np.testing.assert_array_equal(answers(read, rows), answers(model, rows))


def test_report_compares_with_the_bytes_that_were_uploaded_when_they_are_packed(tmp_path: Path) -> None:
    for folder in ("out", "tmp", "first"):
        (tmp_path / folder).mkdir()
    dense = load(mlp(tmp_path / "first" / "model.onnx"))
    dense.write("w1", dense.read("w1").reshape(-1)[RANDOM.integers(0, 16, (64, 96))])
    save(dense, tmp_path / "first" / "model.onnx")
    save(pack(dense).model, tmp_path / "model.onnx")
    uploaded = (tmp_path / "model.onnx").stat().st_size
    digits_npz(tmp_path / "digits.npz")
    step = {"technique": "prune_weights", "sparsity": 0.5, "epochs": 0}
    order = TypeAdapter(CompressOrder).validate_python(compress(step, device="cpu"))

    report = pipeline.run(order, tmp_path, Channel(io.StringIO())).report

    assert report is not None
    assert report.before.file_bytes == uploaded < (tmp_path / "first" / "model.onnx").stat().st_size / 2
    assert report.before.parameters == 64 * 96 + 96 + 96 * 10 + 10
    assert report.after.nonzeros < 0.6 * report.before.nonzeros
    size = next(change for change in report.changes if change.figure == "file_bytes")
    assert size.before == uploaded
    assert size.after == report.after.file_bytes == (tmp_path / "out" / "packed.onnx").stat().st_size


def graph(nodes: list[onnx.NodeProto], tensors: Mapping[str, Array], opset: int = 21) -> Model:
    """Return a model of a floating input `x` of (batch, 40) and an output `y`."""
    initializers = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 40])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "g", [x], [y], initializers)
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(made, opset_imports=opsets, ir_version=10)
    return Model(ir.serde.deserialize_model(proto))


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], **attributes)


PRODUCT = node("MatMul", "x w", "y")
SCALES = np.abs(NORMAL[0]) + 1
EIGHT = RANDOM.integers(-127, 128, (40, 30)).astype(np.int8)
STORED: dict[str, tuple[list[onnx.NodeProto], dict[str, Array], Array]] = {
    "half precision": ([node("Cast", "h", "w", to=1)], {"h": NORMAL.astype(np.float16)}, NORMAL.astype(np.float16)),
    "turned": ([node("Transpose", "t", "w")], {"t": NORMAL.T.copy()}, NORMAL),
    "named twice": ([node("Identity", "i", "w")], {"i": NORMAL}, NORMAL),
    "flat": ([node("Reshape", "f shape", "w")], {"f": NORMAL.reshape(-1), "shape": np.asarray([40, 30])}, NORMAL),
    "int8": ([node("DequantizeLinear", "q s", "w", axis=1)], {"q": EIGHT, "s": SCALES}, EIGHT * SCALES),
    "int4": (
        [node("DequantizeLinear", "q s", "w", axis=0, block_size=20)],
        {"q": (EIGHT // 16).astype(ml_dtypes.int4), "s": np.abs(NORMAL[:2])},
        (EIGHT // 16) * np.repeat(np.abs(NORMAL[:2]), 20, axis=0),
    ),
    "in two parts": (
        [node("Concat", "a b", "w", axis=1)],
        {"a": NORMAL[:, :9].copy(), "b": NORMAL[:, 9:].copy()},
        NORMAL,
    ),
}


@pytest.mark.parametrize("kind", STORED)
def test_weight_is_a_plain_one_when_it_was_stored_otherwise(kind: str, tmp_path: Path) -> None:
    nodes, tensors, values = STORED[kind]

    read = fold(again(graph([*nodes, PRODUCT], tensors), tmp_path))

    assert [each.op_type for each in read.graph] == ["MatMul"]
    assert list(read.weights()) == ["w"]
    np.testing.assert_array_equal(read.read("w"), values.astype(np.float32))


def test_integers_stay_when_only_packing_is_asked_for() -> None:
    nodes, tensors, _ = STORED["int8"]

    read = fold(graph([*nodes, PRODUCT], tensors), dequantize=False)

    assert [each.op_type for each in read.graph] == ["DequantizeLinear", "MatMul"]


def test_integers_stay_when_activations_are_quantised_too() -> None:
    nodes, tensors, _ = STORED["int8"]
    step, zero = np.asarray(0.1, np.float32), np.asarray(0, np.int8)
    around = [node("QuantizeLinear", "x step zero", "xq"), node("DequantizeLinear", "xq step zero", "xd")]
    product = node("MatMul", "xd w", "y")

    read = fold(graph([*nodes, *around, product], tensors | {"step": step, "zero": zero}))

    assert [each.op_type for each in read.graph].count("DequantizeLinear") == 2
    assert read.graph.initializers["q"].dtype == ir.DataType.INT8


TABLE = NORMAL[:16, :4].copy()
PLACES = RANDOM.integers(0, 16, (40, 8))
LEFT: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "a tied weight read as it is and turned": (
        [node("MatMul", "x t", "z"), node("Transpose", "t", "w"), node("MatMul", "z w", "y")],
        {"t": NORMAL},
    ),
    "a tied weight decoded in two ways": (
        [
            *(node("Cast", "h", "v", to=1), node("MatMul", "x v", "z"), node("Cast", "h", "d", to=11)),
            *(node("Cast", "d", "u", to=1), node("Transpose", "u", "w"), node("MatMul", "z w", "y")),
        ],
        {"h": NORMAL.astype(np.float16)},
    ),
    "a small table read at many places": (
        [node("Gather", "table places", "g"), node("Reshape", "g shape", "w"), PRODUCT],
        {"table": TABLE, "places": PLACES, "shape": np.asarray([40, 32])},
    ),
    "a repeated row": (
        [node("Expand", "row shape", "w"), PRODUCT],
        {"row": NORMAL.reshape(1, -1), "shape": np.asarray([40, 1200])},
    ),
    "a mask made of truths": (
        [node("Where", "kept one low", "w"), PRODUCT],
        {"kept": NORMAL > 0, "one": np.asarray(1, np.float32), "low": np.asarray(-1e4, np.float32)},
    ),
    "a mask with infinities": (
        [node("Log", "m", "w"), node("Add", "x w", "y")],
        {"m": (NORMAL.T.copy() > 0).astype(np.float32)},
    ),
    "noise": ([node("RandomNormalLike", "like", "w", seed=1.0), PRODUCT], {"like": NORMAL}),
    "a giant": (
        [node("ConstantOfShape", "shape", "w"), node("MatMul", "x w", "z"), node("ReduceMean", "z", "y")],
        {"shape": np.asarray([40, 2**26])},
    ),
}


@pytest.mark.parametrize("kind", LEFT)
def test_operators_stay_when_they_store_no_weight(kind: str) -> None:
    nodes, tensors = LEFT[kind]
    model = graph(nodes, tensors)

    read = fold(model)

    assert [each.op_type for each in read.graph] == [each.op_type for each in nodes]
    assert read.graph.initializers.keys() == tensors.keys()


@pytest.mark.parametrize(("limit", "size"), [("MAX_TOTAL_BYTES", NORMAL.nbytes), ("MAX_FOLDED_ELEMENTS", NORMAL.size)])
def test_operators_stay_when_the_weights_would_take_too_much_room(
    limit: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, tensors, _ = STORED["turned"]
    model = graph([*nodes, PRODUCT], tensors)
    left = {}
    for most in (size, size - 1):
        monkeypatch.setattr(folding, limit, most)
        left[most] = len(fold(model).graph)

    assert left == {size: 1, size - 1: 2}


def test_small_constants_stay_computed_when_weights_beside_them_are_folded() -> None:
    nodes, tensors, _ = STORED["turned"]
    small = [node("Neg", "n", "m"), node("MatMul", "x w", "z"), node("Add", "z m", "y")]

    read = fold(graph([*nodes, *small], tensors | {"n": NORMAL[0]}))

    assert [each.op_type for each in read.graph] == ["Neg", "MatMul", "Add"]


def test_model_given_stays_as_it_was_when_folded() -> None:
    nodes, tensors, _ = STORED["turned"]
    model = graph([*nodes, PRODUCT], tensors)

    fold(model)

    assert [each.op_type for each in model.graph] == ["Transpose", "MatMul"]
    assert list(model.graph.initializers) == ["t"]
