from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from workers.compute.graph.axes import plain
from workers.compute.importers.summary import summarize


@pytest.mark.parametrize(
    ("written", "read"), [(8, 8), (0, 0), ("rows", "rows"), (None, None), (-1, None), ("?", None), ("", None)]
)
def test_axis_without_size_and_name_is_free(written: int | str | None, read: int | str | None) -> None:
    assert plain(written) == read


def test_model_with_free_axes_as_paddle_writes_them_is_described(tmp_path: Path) -> None:
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 3, "?", "?"])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, 2, "?", "?"])
    graph = helper.make_graph([helper.make_node("Conv", ["x", "kernel"], ["y"])], "g", [picture], [answer], [kernel])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)

    found = summarize(path, path, proto, classes=[], has_tokenizer=False)

    assert found.inputs[0].shape == [None, 3, None, None]
    assert found.macs == 6 * 224 * 224
