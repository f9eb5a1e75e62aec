from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest

from tests.workers.graph.networks import Kind, Network, answers, bert, cnn, rows_for
from workers.compute.graph.model import Model
from workers.compute.graph.spans import remove, spans


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_blocks_are_found_when_residual(opset: int) -> None:
    found = spans(cnn(blocks=3, opset=opset))

    assert [(span.entry, span.exit) for span in found] == [
        ("stem_relu_out", "block0.relu_out"),
        ("block0.relu_out", "block1.relu_out"),
        ("block1.relu_out", "block2.relu_out"),
    ]
    assert {span.group for span in found} == {0}


def test_whole_layers_are_found_when_norms_follow() -> None:
    found = spans(bert(layers=3))

    assert [span.exit for span in found] == [f"layer{layer}.norm2.shift_out" for layer in range(3)]
    assert all(name.startswith("layer1.") for name in found[1].weights)
    assert "layer1.attention.q.w" in found[1].weights


def test_whole_layers_are_found_when_norms_precede() -> None:
    found = spans(bert(layers=3, post_norm=False))

    assert [span.exit for span in found] == [f"layer{layer}.add2_out" for layer in range(3)]


def test_single_block_is_found_when_residual() -> None:
    assert [span.exit for span in spans(cnn(blocks=1))] == ["block0.add_out"]


def test_nothing_is_found_when_no_layer_repeats_or_is_skipped() -> None:
    assert spans(_chain(8, 16, 4)) == ()


def test_repeats_are_found_when_nothing_skips_them() -> None:
    assert len(spans(_chain(8, 16, 16, 16, 16, 4))) == 3


def test_layers_stay_when_another_output_reads_inside_them() -> None:
    model = bert(layers=3)
    inner = next(value for node in model.graph for value in node.outputs if value.name == "layer1.mlp.relu_out")
    inner.type, inner.shape = ir.TensorType(Kind.FLOAT), ir.Shape(["batch", "tokens", 48])
    model.graph.outputs.append(inner)

    assert "layer1.norm2.shift_out" not in {span.exit for span in spans(model)}


@pytest.mark.parametrize("post_norm", [True, False])
@pytest.mark.parametrize("removed", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]])
def test_answers_equal_a_shallower_model_when_layers_are_removed(removed: list[int], *, post_norm: bool) -> None:
    model = bert(layers=3, post_norm=post_norm)
    found = spans(model)
    rows = rows_for(model, 4)

    smaller = remove(model, [found[index] for index in removed])

    expected = _without(model, [found[index].weights for index in removed], removed, post_norm=post_norm)
    np.testing.assert_allclose(answers(smaller, rows), answers(expected, rows), rtol=1e-4, atol=1e-5)
    assert len(smaller.graph.initializers) < len(model.graph.initializers)


def test_other_lengths_still_run_when_layers_are_removed() -> None:
    model = bert(layers=3)

    smaller = remove(model, spans(model)[:2])

    assert answers(smaller, rows_for(model, 2, length=11)).shape == (2, 3)


def test_model_given_keeps_its_layers_when_removed() -> None:
    model = bert(layers=2)
    names = list(model.graph.initializers)

    remove(model, spans(model))

    assert list(model.graph.initializers) == names


def test_output_keeps_its_name_when_the_last_layer_is_removed() -> None:
    model = _chain(16, 16, 16, 16)

    smaller = remove(model, spans(model))

    assert [value.name for value in smaller.graph.outputs] == ["logits"]


def test_removing_is_quick_when_the_model_is_deep() -> None:
    assert len(spans(bert(layers=48))) == 48


def _chain(*widths: int) -> Model:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", widths[0]])
    for index, (rows, columns) in enumerate(pairwise(widths)):
        x = net.add(f"dense{index}", "MatMul", x, net.weight(f"w{index}", rows, columns))
        x = net.add(f"relu{index}", "Relu", x)
    return net.model(x, ["batch", widths[-1]])


def _without(model: Model, weights: list[tuple[str, ...]], removed: list[int], *, post_norm: bool) -> Model:
    """Return a shallower model built from scratch, with the weights of the layers that stay."""
    shallow = bert(layers=3 - len(removed), post_norm=post_norm)
    kept = [layer for layer in range(3) if layer not in removed]
    gone = {name for names in weights for name in names}
    for name in shallow.graph.initializers:
        prefix, _, rest = name.partition(".")
        source = f"layer{kept[int(prefix[5:])]}.{rest}" if prefix.startswith("layer") else name
        assert source not in gone
        shallow.write(name, model.read(source))
    return shallow
