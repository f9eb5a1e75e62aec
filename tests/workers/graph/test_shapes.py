import numpy as np
import onnx_ir as ir
import pytest

from tests.workers.graph.networks import Kind, Network, bert, cnn
from workers.compute.graph.shapes import batch_symbols, infer, infer_apart, symbols


def test_symbols_name_the_inputs_free_axes_when_asked() -> None:
    found = symbols(bert(1))

    assert found["tokens"] == [("input_ids", 1), ("attention_mask", 1)]
    assert batch_symbols(bert(1)) == {"batch"}


def test_nameless_axes_get_a_name_when_asked() -> None:
    model = cnn()
    model.graph.inputs[0].shape = ir.Shape([None, 1, 8, 8])

    assert batch_symbols(model) == {"image.0"}


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_every_shape_is_known_when_sizes_are_given(opset: int) -> None:
    model = cnn(opset=opset)

    shapes = infer(model, {"batch": 5})

    assert all(None not in shapes[str(value.name)] for node in model.graph for value in node.outputs)
    assert shapes["block1.relu_out"] == (5, 16, 8, 8)


def test_shapes_computed_in_the_graph_are_known_when_sizes_are_given() -> None:
    shapes = infer(bert(2), {"batch": 5, "tokens": 7})

    assert shapes["layer1.attention.merge_out"] == (5, 7, 16)
    assert shapes["layer1.attention.scores_out"] == (5, 2, 7, 7)


def test_size_is_none_when_it_is_not_given() -> None:
    assert infer(bert(1), {"tokens": 7})["words_out"] == (None, 7, 16)


def test_axes_differ_in_size_when_inferred_apart() -> None:
    _, shape = infer_apart(bert(1))["layer0.norm2.shift_out"]

    assert len(set(shape)) == 3


def test_small_sizes_are_tried_when_large_ones_do_not_fit() -> None:
    # The position table has 32 rows, so 61 tokens cannot be.
    types = infer_apart(bert(1))

    assert types["embedded_out"][1] == (5, 7, 16) or types["embedded_out"][1] == (7, 5, 16)


def test_huge_constants_are_not_computed_when_the_graph_asks_for_them() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 4])
    vast = net.add("vast", "ConstantOfShape", net.numbers("size", 2**40))
    total = net.add("total", "ReduceSum", vast, keepdims=0)
    model = net.model(net.add("sum", "Add", x, total), ["batch", 4])

    assert infer(model, {"batch": 2})["vast_out"] == (2**40,)


def test_model_given_is_untouched_when_inferred() -> None:
    model = bert(1)
    before = [value.shape for node in model.graph for value in node.outputs]

    infer(model, {"batch": 2, "tokens": 3})

    assert [value.shape for node in model.graph for value in node.outputs] == before
    assert model.read("words.w").dtype == np.float32
