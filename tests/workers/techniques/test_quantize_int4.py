from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.quantize_int4 import QuantizeInt4
from app.contracts.steps.retrain import Retrain
from app.contracts.steps.share_weights import ShareWeights
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Kind, Network, answers, bert, cnn, dataset_for, rows_for
from tests.workers.techniques.steps import take
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Grid
from workers.compute.graph.model import Model


def options(**changes: object) -> QuantizeInt4:
    return QuantizeInt4.model_validate(changes)


def wide(kind: type[np.floating] = np.float32) -> Model:
    """Return two products, of 128 inputs (four blocks) and of 200 (none)."""
    net = Network(13)
    x = net.given("x", Kind.FLOAT if kind is np.float32 else Kind.FLOAT16, ["batch", 128])
    weights = (np.random.default_rng(0).normal(size=shape).astype(kind) for shape in ((128, 200), (200, 8)))
    first = net.add("first", "MatMul", x, net.constant("w1", next(weights)))
    return net.model(net.add("second", "MatMul", first, net.constant("w2", next(weights))), ["batch", 8])


def grid(model: Model, name: str) -> Grid:
    found = model.constraints[name]
    assert isinstance(found, Grid)
    return found


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("epochs", [0, 3])
def test_blocks_have_sixteen_values_when_quantized(epochs: int, tmp_path: Path, *, symmetric: bool) -> None:
    spec = options(symmetric=symmetric, epochs=epochs, learning_rate=0.01, block=16, min_size=256)

    model = take(spec, bert(layers=1), tmp_path).model

    steps = grid(model, "layer0.mlp.down.w").steps
    blocks = model.read_floats("layer0.mlp.down.w").reshape(3, 16, 16)  # 48 inputs, 16 outputs
    numbers = blocks / steps.scale + steps.zero
    np.testing.assert_array_equal(numbers, np.rint(numbers))
    assert numbers.max() - numbers.min() <= 15
    assert all(promise.holds(model.read_floats(name)) for name, promise in model.constraints.items())
    assert {promise.kind for promise in model.constraints.values()} == {"grid"}


def test_blocks_lie_along_the_input_when_they_divide_it(tmp_path: Path) -> None:
    outcome = take(options(epochs=0), wide(), tmp_path, dataset=None)

    assert grid(outcome.model, "w1").view == (4, 32, 200)
    assert grid(outcome.model, "w2").view == (200, 8)
    assert any("scale per output channel" in note for note in outcome.notes)


@pytest.mark.parametrize(("symmetric", "bits"), [(True, 4.6), (False, 4.7)])
def test_file_has_about_four_bits_a_weight_when_packed(bits: float, tmp_path: Path, *, symmetric: bool) -> None:
    net = Network(13)
    x = net.given("x", Kind.FLOAT, ["batch", 512])
    large = net.model(net.add("dense", "MatMul", x, net.weight("w", 512, 512)), ["batch", 512])

    model = take(options(epochs=0, symmetric=symmetric), large, tmp_path, dataset=None).model

    (report,) = pack(model).tensors
    assert report.encoding == "block_scales"
    assert report.bits_per_weight < bits


def test_answers_stay_close_when_quantized(tmp_path: Path) -> None:
    model = bert(layers=2)
    rows = rows_for(model, 32)

    for symmetric in (False, True):
        quantized = take(options(symmetric=symmetric, epochs=0, min_size=2), model, tmp_path).model
        before, after = answers(model, rows), answers(quantized, rows)
        assert np.square(before - after).mean() / np.square(before - before.mean()).mean() < 0.1


def test_accuracy_recovers_when_retrained(tmp_path: Path) -> None:
    start = bert(layers=1)
    rows = dataset_for(start, 256)
    model = take(Retrain(epochs=6, learning_rate=0.01, batch_size=16), start, tmp_path, dataset=rows).model

    trained = take(options(epochs=3, min_size=2, batch_size=16), model, tmp_path, dataset=rows).model

    found = [(answers(each, rows.test).argmax(-1) == rows.test.labels).mean() for each in (model, trained)]
    assert found[0] > 0.9
    assert found[1] > found[0] - 0.02


def test_numbers_move_on_the_same_grid_when_retrained(tmp_path: Path) -> None:
    plain, trained = (take(options(epochs=epochs, learning_rate=0.01), cnn(), tmp_path) for epochs in (0, 3))

    values = trained.model.read_floats("block0.a.w")
    assert trained.curve
    assert not np.array_equal(values, plain.model.read("block0.a.w"))
    assert grid(plain.model, "block0.a.w").holds(values)


def test_grid_stays_when_later_steps_train_prune_and_share(tmp_path: Path) -> None:
    quantized = take(options(epochs=0), cnn(), tmp_path).model

    pruned = take(PruneWeights(sparsity=0.5, epochs=1), quantized, tmp_path).model
    shared = take(ShareWeights(clusters=4, min_size=2), pruned, tmp_path).model
    trained = take(Retrain(epochs=2, learning_rate=0.01), shared, tmp_path).model

    values = trained.read_floats("block0.a.w")
    assert grid(quantized, "block0.a.w").holds(values)
    assert not values[pruned.read("block0.a.w") == 0].any()
    assert (values == 0).mean() > 0.3
    assert not np.array_equal(values, pruned.read("block0.a.w"))


def test_pruned_weights_stay_zero_when_quantized(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.8, epochs=0), cnn(), tmp_path).model

    quantized = take(options(epochs=2, learning_rate=0.01, symmetric=False), pruned, tmp_path).model

    assert not quantized.read("block1.b.w")[pruned.read("block1.b.w") == 0].any()


def test_ternary_channels_stay_and_a_note_says_so(tmp_path: Path) -> None:
    ternary = take(Ternarize(epochs=0, min_size=1000), bert(layers=1), tmp_path).model

    outcome = take(options(epochs=0), ternary, tmp_path)

    np.testing.assert_array_equal(outcome.model.read("words.w"), ternary.read("words.w"))
    assert outcome.model.constraints["layer0.mlp.up.w"].kind == "grid"
    assert any("fewer values" in note for note in outcome.notes)


def test_nothing_changes_and_a_note_says_so_when_every_tensor_is_ternary(tmp_path: Path) -> None:
    ternary = take(Ternarize(epochs=0), cnn(), tmp_path).model

    outcome = take(options(), ternary, tmp_path)

    assert outcome.notes == ("4 tensors keep the fewer values that an earlier step gave each of their channels",)
    np.testing.assert_array_equal(outcome.model.read("block0.a.w"), ternary.read("block0.a.w"))
    assert not outcome.curve


def test_refusal_names_the_cure_when_the_weights_are_in_half_precision(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="in float32"):
        take(options(), wide(np.float16), tmp_path, dataset=None)


def test_refusal_names_the_cure_when_every_tensor_is_small(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="min_size"):
        take(options(min_size=10**6), cnn(), tmp_path)
