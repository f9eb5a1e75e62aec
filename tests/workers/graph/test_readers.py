import pytest

from tests.workers.graph.networks import Kind, Network, bert, cnn
from workers.compute.graph.readers import input_axis, matrices


def test_only_matrices_kernels_and_tables_are_named_when_asked() -> None:
    assert set(matrices(cnn())) == {"stem.w", "block0.a.w", "block0.b.w", "block1.a.w", "block1.b.w", "head.w"}
    assert "positions.w" not in matrices(bert(1))
    assert {"words.w", "layer0.attention.q.w", "head.w"} <= matrices(bert(1)).keys()


@pytest.mark.parametrize(
    ("operator", "attributes", "axis"), [("MatMul", {}, 0), ("Gemm", {}, 0), ("Gemm", {"transB": 1}, 1)]
)
def test_input_axis_is_the_one_summed_over_when_multiplied(
    operator: str, attributes: dict[str, int], axis: int
) -> None:
    net = Network(13)
    inputs = [net.given("x", Kind.FLOAT, ["batch", 6]), net.weight("w", 6, 6)]
    if operator == "Gemm":
        inputs.append(net.weight("b", 6))
    model = net.model(net.add("product", operator, *inputs, **attributes), ["batch", 6])

    assert input_axis(matrices(model)["w"]) == axis


def test_input_axis_follows_a_transpose_when_there_is_one_on_the_way() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 6])
    turned = net.add("turn", "Transpose", net.weight("w", 10, 6))
    model = net.model(net.add("product", "MatMul", x, turned), ["batch", 10])

    assert input_axis(matrices(model)["w"]) == 1


def test_input_axis_is_unknown_when_a_reshape_mixes_the_axes() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 6])
    shaped = net.add("shaped", "Reshape", net.weight("w", 60), net.numbers("to", 6, 10))
    flat = net.add(
        "product", "MatMul", x, net.add("again", "Reshape", net.weight("v", 10, 6), net.numbers("as", 6, 10))
    )
    model = net.model(net.add("sum", "Add", flat, net.add("other", "MatMul", x, shaped)), ["batch", 10])

    assert input_axis(matrices(model)["v"]) is None
    assert "w" not in matrices(model)
