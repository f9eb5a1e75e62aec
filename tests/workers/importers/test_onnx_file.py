"""What an ONNX upload is refused for, and by which name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app import errors
from tests.workers.importers.small_models import doubling_functions, model, nested_ifs, value, weight
from workers.compute.importers.onnx_file import admit

GOOD = model().SerializeToString()


def external(
    tensor: onnx.TensorProto, location: str = "../../../etc/passwd", key: str = "location"
) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key=key, value=location)
    return tensor


def with_external_attribute() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=external(weight("c")))
    return model([constant, helper.make_node("MatMul", ["x", "w"], ["y"])])


def with_external_in_subgraph() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["q"], ["r"])], "b", [], [value("r", None)], [external(weight("q"))]
    )
    flag = numpy_helper.from_array(np.array(True), "flag")
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    return model([node], [flag, weight()])


def with_external_in_function() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"], value=external(weight("c")))
    body = helper.make_function("local", "f", [], ["c"], [node], [helper.make_opsetid("", 17)])
    return model(functions=[body], domains=["local"])


def with_external_sparse() -> onnx.ModelProto:
    built = model()
    indices = numpy_helper.from_array(np.array([0], np.int64), "i")
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(external(weight("s", (1,))), indices, [4]))
    return built


def with_marker(only: str) -> onnx.ModelProto:
    built = model()
    built.graph.initializer[0].external_data.add(key=only, value="1")
    return built


def cyclic() -> onnx.ModelProto:
    return model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["b"])])


def short_data() -> onnx.ModelProto:
    built = model()
    built.graph.initializer[0].raw_data = b"\0" * 8
    return built


def half_float(kind: int) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=kind, dims=[4, 3])
    tensor.raw_data = b"\0" * 12
    return tensor


def recursive() -> list[onnx.FunctionProto]:
    node = helper.make_node("f", ["a"], ["b"], domain="local")
    return [helper.make_function("local", "f", ["a"], ["b"], [node], [helper.make_opsetid("local", 1)])]


def shadow(domain: str) -> onnx.FunctionProto:
    node = helper.make_node("Identity", ["a"], ["b"])
    return helper.make_function(domain, "MatMul", ["a", "w"], ["b"], [node], [helper.make_opsetid("", 17)])


def calling(functions: list[onnx.FunctionProto], name: str = "f0") -> onnx.ModelProto:
    nodes = [helper.make_node(name, ["x"], ["z"], domain="local"), helper.make_node("MatMul", ["z", "w"], ["y"])]
    return model(nodes, functions=functions, domains=["local"])


def many_nodes() -> onnx.ModelProto:
    chain = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(50_001)]
    return model([helper.make_node("MatMul", ["x", "w"], ["v0"]), *chain], outputs=[value("v50001", ["batch", 3])])


def filled(shape: list[int]) -> onnx.ModelProto:
    node = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    shape_tensor = numpy_helper.from_array(np.array(shape, np.int64), "shape")
    return model([node, helper.make_node("MatMul", ["x", "w"], ["y"])], [shape_tensor, weight()])


def with_zip_map() -> onnx.ModelProto:
    scores = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("ZipMap", ["y"], ["z"])]
    scores[1].domain = "ai.onnx.ml"
    scores[1].attribute.append(helper.make_attribute("classlabels_int64s", [0, 1, 2]))
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    output = helper.make_value_info("z", helper.make_sequence_type_proto(kind))
    return model(scores, outputs=[output], domains=["ai.onnx.ml"])


def twice_made() -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["y"])])


FILES: dict[str, tuple[bytes, type[errors.ModelpressError]]] = {
    "empty": (b"", errors.ModelMalformed),
    "truncated": (GOOD[: len(GOOD) // 2], errors.ModelMalformed),
    "random": (np.random.default_rng(1).bytes(4096), errors.ModelMalformed),
    "zeros": (b"\0" * 4096, errors.ModelMalformed),
    "trailing zeros": (GOOD + b"\0" * 4096, errors.ModelMalformed),
    "text": (b"this is not a model, it is a sentence", errors.ModelMalformed),
    "pickle": (b"\x80\x04\x95" + b"x" * 64, errors.FormatUnsafe),
    "zip": (b"PK\x03\x04" + b"x" * 64, errors.FormatUnsafe),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"x" * 64, errors.FormatUnsafe),
    "name that is no text": (GOOD.replace(b"product", b"pr\xffduct"), errors.ModelMalformed),
    "two gigabyte claim": (b"\x3a\xff\xff\xff\xff\x07" + b"x" * 64, errors.ModelMalformed),
}

MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], type[errors.ModelpressError]]] = {
    "external initializer": (lambda: model(initializers=[external(weight())]), errors.ModelExternalData),
    "external by address": (
        lambda: model(initializers=[external(weight(), "*/_ORT_MEM_ADDR_/*")]),
        errors.ModelExternalData,
    ),
    "external in attribute": (with_external_attribute, errors.ModelExternalData),
    "external in subgraph": (with_external_in_subgraph, errors.ModelExternalData),
    "external in function": (with_external_in_function, errors.ModelExternalData),
    "external in sparse": (with_external_sparse, errors.ModelExternalData),
    "external marker": (lambda: with_marker("__class__"), errors.ModelExternalData),
    "opset too old": (lambda: model(opset=6), errors.ModelUnsupported),
    "opset too new": (lambda: model(opset=99), errors.ModelUnsupported),
    "unknown operator": (lambda: model([helper.make_node("Frobnicate", ["x"], ["y"])]), errors.ModelUnsupported),
    "unknown domain": (
        lambda: model([helper.make_node("Op", ["x"], ["y"], domain="com.evil")], domains=["com.evil"]),
        errors.ModelUnsupported,
    ),
    "EPContext": (
        lambda: model([helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"]),
        errors.ModelUnsupported,
    ),
    "control flow": (lambda: model([nested_ifs(1)], outputs=[value("z1", None)]), errors.ModelUnsupported),
    "deep subgraphs": (lambda: model([nested_ifs(17)], outputs=[value("z17", None)]), errors.ModelTooComplex),
    "function expansion": (lambda: calling(doubling_functions(24)), errors.ModelTooComplex),
    "function chain": (lambda: calling(doubling_functions(200)), errors.ModelTooComplex),
    "recursive function": (lambda: calling(recursive(), "f"), errors.ModelMalformed),
    "function in an operator's place": (lambda: model(functions=[shadow("")]), errors.ModelUnsupported),
    "function in a vendor's place": (
        lambda: model(functions=[shadow("com.microsoft")], domains=["com.microsoft"]),
        errors.ModelUnsupported,
    ),
    "negative axis": (lambda: model(inputs=[value("x", [-5, 4])]), errors.ModelMalformed),
    "a thousand axes": (lambda: model(inputs=[value("x", [1] * 1000)]), errors.ModelUnsupported),
    "too many nodes": (many_nodes, errors.ModelTooComplex),
    "huge constant": (lambda: filled([1 << 20, 1 << 20]), errors.ModelTooComplex),
    "huge stated shape": (lambda: model(inputs=[value("x", [1 << 20, 1 << 20])]), errors.ModelTooComplex),
    "cyclic": (cyclic, errors.ModelMalformed),
    "dangling input": (lambda: model([helper.make_node("MatMul", ["nowhere", "w"], ["y"])]), errors.ModelMalformed),
    "value made twice": (twice_made, errors.ModelMalformed),
    "output made by none": (lambda: model(outputs=[value("other", None)]), errors.ModelMalformed),
    "output of maps": (with_zip_map, errors.ModelUnsupported),
    "doubled initializer": (lambda: model(initializers=[weight(), weight()]), errors.ModelMalformed),
    "short weights": (short_data, errors.ModelMalformed),
    "negative dimension": (
        lambda: model(initializers=[TensorProto(name="w", data_type=1, dims=[-4, 3])]),
        errors.ModelMalformed,
    ),
    "NaN weight": (lambda: model(initializers=[weight(fill=np.nan)]), errors.ModelNonfinite),
    "infinite weight": (lambda: model(initializers=[weight(fill=np.inf)]), errors.ModelNonfinite),
    "minus infinite weight": (lambda: model(initializers=[weight(fill=-np.inf)]), errors.ModelNonfinite),
    "float8 weights": (lambda: model(initializers=[half_float(TensorProto.FLOAT8E4M3FN)]), errors.ModelUnsupported),
    "no inputs": (lambda: model([helper.make_node("Identity", ["w"], ["y"])], inputs=[]), errors.ModelUnsupported),
    "no weights": (lambda: model([helper.make_node("Relu", ["x"], ["y"])], []), errors.NothingToCompress),
    "bad attribute": (
        lambda: model([helper.make_node("MatMul", ["x", "w"], ["y"], nonsense=3)]),
        errors.ModelMalformed,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_refusal_names_the_fault_when_the_file_is_no_model(name: str, tmp_path: Path) -> None:
    contents, kind = FILES[name]
    (tmp_path / "upload").write_bytes(contents)
    with pytest.raises(kind) as refusal:
        admit(tmp_path / "upload")
    assert str(tmp_path) not in refusal.value.detail


@pytest.mark.parametrize("name", MODELS)
def test_refusal_names_the_fault_when_the_model_breaks_a_rule(name: str, tmp_path: Path) -> None:
    build, kind = MODELS[name]
    (tmp_path / "upload").write_bytes(build().SerializeToString())
    with pytest.raises(kind) as refusal:
        admit(tmp_path / "upload")
    assert type(refusal.value) is kind
    assert str(tmp_path) not in refusal.value.detail


@pytest.mark.parametrize("opset", [7, 9, 13, 21, 25])
def test_model_is_admitted_when_its_opset_is_supported(opset: int, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(model(opset=opset).SerializeToString())
    assert admit(tmp_path / "upload").graph.node[0].op_type == "MatMul"


def test_infinite_values_are_admitted_when_they_mask_attention(tmp_path: Path) -> None:
    mask = numpy_helper.from_array(np.triu(np.full((3, 3), -np.inf, np.float32), 1), "mask")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("MatMul", ["p", "mask"], ["y"])]
    (tmp_path / "upload").write_bytes(model(nodes, [weight(), mask]).SerializeToString())
    assert admit(tmp_path / "upload").graph.node


def test_detail_is_escaped_and_cut_when_a_name_is_hostile(tmp_path: Path) -> None:
    name = "a\r\nSet-Cookie: x\x1b[31m\u202e" + "b" * 1000
    built = model([helper.make_node("Frobnicate", ["x"], ["y"], name=name)])
    (tmp_path / "upload").write_bytes(built.SerializeToString())
    with pytest.raises(errors.ModelUnsupported) as refusal:
        admit(tmp_path / "upload")
    assert refusal.value.detail.isprintable()
    assert len(refusal.value.detail) < 500
