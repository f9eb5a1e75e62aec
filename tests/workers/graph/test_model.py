from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from app.errors import LimitReached
from tests.workers.graph.networks import Kind, Network, bert, cnn
from workers.compute.graph import model as module
from workers.compute.graph.model import Model, load, save


def test_bytes_are_the_same_when_saved_twice(tmp_path: Path) -> None:
    save(bert(1), tmp_path / "a.onnx")
    save(bert(1), tmp_path / "b.onnx")

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_metadata_is_gone_when_saved(tmp_path: Path) -> None:
    model = cnn()
    model.ir.producer_name, model.ir.doc_string = "someone", "made at noon"
    model.ir.metadata_props["when"] = "noon"
    node = model.graph.node(0)
    node.doc_string, node.metadata_props["file"] = "line 3", "/home/someone/model.py"

    save(model, tmp_path / "model.onnx")

    proto = onnx.load(tmp_path / "model.onnx")
    assert proto.producer_name == "modelpress"
    assert b"noon" not in (tmp_path / "model.onnx").read_bytes()
    assert b"someone" not in (tmp_path / "model.onnx").read_bytes()
    assert node.doc_string == "line 3"


def test_nodes_are_in_order_when_saved(tmp_path: Path) -> None:
    model = cnn()
    first = model.graph.node(0)
    model.graph.remove(first)
    model.graph.append(first)

    save(model, tmp_path / "model.onnx")

    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def test_file_is_valid_when_an_old_ir_version_had_initializers_as_inputs(tmp_path: Path) -> None:
    model = cnn(opset=9)
    model.ir.ir_version = 3
    model.graph.inputs.extend(model.graph.initializers.values())
    ir.save(model.ir, tmp_path / "old.onnx")

    save(load(tmp_path / "old.onnx"), tmp_path / "new.onnx")

    proto = onnx.load(tmp_path / "new.onnx")
    assert [value.name for value in proto.graph.input] == ["image"]
    onnx.checker.check_model(proto)


def test_graph_too_large_for_a_file_is_refused_when_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1_000)

    with pytest.raises(LimitReached, match="2 GiB"):
        save(cnn(), tmp_path / "model.onnx")

    assert not list(tmp_path.iterdir())


def test_scalar_stays_a_scalar_when_written() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 2])
    model = net.model(net.add("m", "Mul", x, net.constant("half", np.asarray(0.5, np.float32))), ["batch", 2])

    model.write("half", np.asarray(0.25, np.float32))

    assert model.read("half").shape == ()


def test_clone_is_independent_when_written() -> None:
    model: Model = cnn()
    before = model.read("head.w").copy()

    model.clone().write("head.w", np.zeros_like(before))

    np.testing.assert_array_equal(model.read("head.w"), before)
