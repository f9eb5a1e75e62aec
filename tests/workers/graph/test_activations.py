from collections.abc import Mapping

import onnx_ir as ir
import pytest

from tests.workers.graph.networks import Kind, Network, bert, cnn
from workers.compute.graph.costs import cost
from workers.compute.graph.model import Model


def diamond() -> Model:
    """Return x → wide → two halves of it → their sum: the wide value dies when both halves are there."""
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 4])
    wide = net.add("wide", "MatMul", x, net.weight("w", 4, 8))
    left = net.add("left", "Relu", wide)
    right = net.add("right", "Neg", wide)
    return net.model(net.add("joined", "Add", left, right), ["batch", 8])


def bytes_of(model: Model, sizes: Mapping[str, int] | None = None) -> dict[str, int | None]:
    return {node.name: node.activation_bytes for node in cost(model, sizes).nodes}


def test_activation_bytes_are_those_of_the_nodes_outputs() -> None:
    assert bytes_of(diamond()) == {"wide": 32, "left": 32, "right": 32, "joined": 32}
    assert cost(diamond()).activation_bytes == 128


def test_peak_counts_what_is_alive_together() -> None:
    # At `right`: wide, left and right; x is dead. At `joined`: left, right and the result.
    assert cost(diamond()).peak_activation_bytes == 96


def test_activation_bytes_are_for_one_row_when_the_batch_is_fixed() -> None:
    model = diamond()
    model.graph.inputs[0].shape = ir.Shape([10, 4])

    assert (cost(model).activation_bytes, cost(model).peak_activation_bytes) == (128, 96)


def test_what_is_computed_from_weights_alone_is_no_activation() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 4])
    turned = net.add("turned", "Transpose", net.weight("w", 8, 4))
    model = net.model(net.add("dense", "MatMul", x, turned), ["batch", 8])

    assert bytes_of(model) == {"turned": 0, "dense": 32}
    assert cost(model).peak_activation_bytes == 16 + 32


def test_result_that_nobody_reads_lives_for_its_node_alone() -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 4])
    net.add("dead", "Relu", x)
    model = net.model(net.add("alive", "Neg", x), ["batch", 4])

    assert cost(model).peak_activation_bytes == 32


def test_four_bits_are_half_a_byte() -> None:
    net = Network(21)
    x = net.given("x", Kind.FLOAT, ["batch", 7])
    nibbles = net.add("nibbles", "Cast", x, to=Kind.UINT4.value)
    model = net.model(net.add("floats", "Cast", nibbles, to=1), ["batch", 7])

    assert bytes_of(model) == {"nibbles": 4, "floats": 28}


@pytest.mark.parametrize("model", [bert(1), cnn()], ids=["bert", "cnn"])
def test_peak_is_part_of_the_whole_and_no_less_than_any_node(model: Model) -> None:
    found = cost(model, {"tokens": 6})
    sizes = [node.activation_bytes for node in found.nodes if node.activation_bytes is not None]

    assert found.activation_bytes == sum(sizes)
    assert found.peak_activation_bytes is not None
    assert max(sizes) <= found.peak_activation_bytes < sum(sizes)


def test_activation_bytes_are_none_when_a_length_is_unknown() -> None:
    assert (cost(bert(1)).activation_bytes, cost(bert(1)).peak_activation_bytes) == (None, None)
