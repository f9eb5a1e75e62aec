from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from app.contracts.steps.quantize_int8 import QuantizeInt8
from tests.workers.graph.networks import Kind, Network, bert, cnn
from tests.workers.techniques.steps import take
from workers.compute.graph.costs import cost
from workers.compute.graph.model import Model


def product(opset: int = 13, **attributes: int) -> Model:
    net = Network(opset)
    x = net.given("x", Kind.FLOAT, ["batch", 6])
    shape = (10, 6) if attributes.get("transB") else (6, 10)
    inputs = [x, net.weight("w", *shape), net.weight("b", 10)]
    return net.model(net.add("dense", "Gemm", *inputs, **attributes), ["batch", 10])


@pytest.mark.parametrize("transposed", [0, 1])
def test_macs_are_rows_times_columns_when_dense(transposed: int) -> None:
    assert cost(product(transB=transposed)).macs == 60


def test_macs_are_for_one_row_when_the_batch_is_fixed() -> None:
    model = product()
    model.graph.inputs[0].shape = ir.Shape([4, 6])

    assert cost(model).macs == 60


def test_macs_follow_the_kernel_when_convolved() -> None:
    # stem 1·16·9, two blocks of two 16·16·9, each at 8·8 places, and the head
    assert cost(cnn()).macs == 64 * 9 * 16 + 4 * 64 * 9 * 16 * 16 + 16 * 3


def test_macs_are_none_when_a_length_is_unknown() -> None:
    assert cost(bert(1)).macs is None


def test_macs_of_attention_are_counted_when_the_length_is_known() -> None:
    width, hidden, tokens = 16, 48, 10
    layer = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width

    assert cost(bert(2), {"tokens": tokens}).macs == 2 * layer + width * width + width * 3


def test_recurrent_macs_are_counted_when_there_is_an_lstm() -> None:
    net = Network(14)
    x = net.given("x", Kind.FLOAT, [5, "batch", 3])
    x = net.add("lstm", "LSTM", x, net.weight("w", 1, 16, 3), net.weight("r", 1, 16, 4), hidden_size=4)
    model = net.model(net.add("flat", "Flatten", x), [5, "lanes"])

    # Time comes first here, so the batch is given by hand: 5 steps · 4 gates · 4 hidden · (3 + 4).
    assert cost(model, {"batch": 1}).nodes[0].macs == 16 * (3 + 4)


def test_zeros_are_told_apart_when_counted() -> None:
    model = product()
    model.write("w", np.where(np.arange(60).reshape(6, 10) % 2, np.float32(0), np.float32(1)))

    found = cost(model)

    assert (found.parameters, found.nonzeros) == (70, 40)


def test_shared_weights_count_once_when_read_twice() -> None:
    net = Network(13)
    x, weight = net.given("x", Kind.FLOAT, ["batch", 6]), net.weight("w", 6, 6)
    model = net.model(net.add("two", "MatMul", net.add("one", "MatMul", x, weight), weight), ["batch", 6])

    assert cost(model).parameters == 36
    assert cost(model).macs == 72


@pytest.mark.parametrize("model", [bert(2), cnn()], ids=["bert", "cnn"])
def test_parameters_are_all_floats_among_the_initializers(model: Model) -> None:
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in ir.to_proto(model.ir).graph.initializer]
    floats = [array for array in arrays if array.dtype.kind == "f" and array.size > 1]

    assert cost(model).parameters == sum(array.size for array in floats)
    assert cost(model).nonzeros == sum(np.count_nonzero(array) for array in floats)


STORED = [
    QuantizeInt8(),
    QuantizeInt8(per_channel=False),
    QuantizeInt8(mode="static"),
]


@pytest.mark.parametrize("spec", STORED, ids=str)
@pytest.mark.parametrize("kind", ["cnn", "bert"])
def test_parameters_stay_the_same_when_only_their_storage_changes(
    kind: str, spec: QuantizeInt8, tmp_path: Path
) -> None:
    model = cnn() if kind == "cnn" else bert(2)

    stored = take(spec, model, tmp_path).model

    assert cost(stored).parameters == cost(model).parameters
    assert cost(stored).nonzeros <= cost(model).nonzeros


def test_what_stands_for_zero_is_not_counted_when_the_zero_point_is_another_number() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 4])
    stored = net.constant("w", np.array([[128, 128], [1, 0], [128, 128], [255, 7]], np.uint8))
    scale, point = net.constant("s", np.array(0.1, np.float32)), net.constant("p", np.array(128, np.uint8))
    weight = net.add("decoded", "DequantizeLinear", stored, scale, point)
    found = cost(net.model(net.add("dense", "MatMul", x, weight), ["batch", 2]))

    assert (found.parameters, found.nonzeros) == (8, 4)
