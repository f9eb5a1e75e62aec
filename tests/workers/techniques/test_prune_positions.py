from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from app.contracts.steps.distill import Distill
from app.contracts.steps.prune_positions import PrunePositions
from tests.workers.autograd import graphs
from tests.workers.graph.networks import Network, answers, bert, cnn, dataset_for
from tests.workers.techniques.steps import take
from workers.compute.datasets.samples import Samples
from workers.compute.graph.costs import Cost, cost
from workers.compute.graph.dimensions import couple, remove_units
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import pairs_of
from workers.compute.graph.shapes import symbols

WIDTH, LENGTH = 8, 6


def narrowed(model: Model, folder: Path) -> Model:
    return take(PrunePositions(), model, folder, dataset=None).model


def feeds(model: Model) -> Samples:
    """Return rows for the model, of 7 positions where their number is free."""
    rng = np.random.default_rng(1)
    found: dict[str, np.ndarray] = {}
    for value in model.graph.inputs:
        shape = [size if isinstance(size, int) else 7 for size in value.shape]
        draw = rng.integers(0, 2 if value.name == "attention_mask" else 40, shape)
        found[str(value.name)] = draw.astype(value.dtype.numpy())
    return Samples(found, None)


def costs(model: Model) -> Cost:
    return cost(model, dict.fromkeys(symbols(model), 7))


def macs(model: Model) -> int:
    found = costs(model).macs
    assert found is not None
    return found


def same_answers(model: Model, small: Model) -> None:
    given = feeds(model)
    np.testing.assert_allclose(answers(small, given), answers(model, given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_the_last_layer_of_an_encoder_asks_for_one_token(opset: int, tmp_path: Path) -> None:
    model = graphs.model(graphs.encoder(opset))

    small = narrowed(model, tmp_path)

    same_answers(model, small)
    assert macs(small) < 0.75 * macs(model)
    assert [value.name for value in small.graph.outputs] == ["logits"]


@pytest.mark.parametrize("post_norm", [True, False])
def test_only_keys_and_values_are_computed_for_all(post_norm: bool, tmp_path: Path) -> None:
    model = bert(layers=1, post_norm=post_norm)

    small = narrowed(model, tmp_path)

    same_answers(model, small)
    whole, few = ({node.name: node.macs for node in costs(each).nodes if node.macs} for each in (model, small))
    unchanged = [name for name in few if few[name] == whole.get(name) and name.startswith("layer0")]
    assert sorted(unchanged) == ["layer0.attention.k.matmul", "layer0.attention.v.matmul"]


def test_layers_go_on_being_cut_and_pruned(tmp_path: Path) -> None:
    small = narrowed(bert(layers=2), tmp_path)
    coupling = couple(small)
    removed = {group.name: list(range(group.units // 2)) for group in coupling.groups if group.units > 1}

    assert set(removed) == {group.name for group in couple(bert(layers=2)).groups if group.units > 1}
    smaller = remove_units(small, coupling, removed)
    assert macs(smaller) < macs(small)


def test_a_narrowed_layer_is_matched_to_no_whole_one(tmp_path: Path) -> None:
    teacher = bert(layers=3)
    student = narrowed(teacher, tmp_path)

    pairs = pairs_of(student, teacher, related=True)

    assert [pair.places for pair in pairs.hidden] == [(0, 0), (1, 1), (2, 2)]
    assert [pair.places for pair in pairs.attention] == [(0, 0), (1, 1)]
    took = take(
        Distill(epochs=1, hidden=1.0, attention=1.0), student, tmp_path, original=teacher, dataset=dataset_for(teacher)
    )
    assert took.curve


def sequence(*reads: tuple[str, object]) -> Model:
    """Scale a sequence by a matrix, read positions of it and add what was read."""
    net = Network(13)
    x = net.given("x", ir.DataType.FLOAT, ["batch", LENGTH, WIDTH])
    x = net.add("product", "MatMul", x, net.weight("w", WIDTH, WIDTH))
    parts = []
    for number, (kind, places) in enumerate(reads):
        name = f"read{number}"
        if kind == "Gather":
            parts.append(net.add(name, "Gather", x, net.constant(f"{name}.p", np.asarray(places, np.int64)), axis=1))
        elif kind == "Slice":
            bounds = [net.numbers(f"{name}.{edge}", number) for edge, number in zip("sea", places, strict=True)]
            parts.append(net.add(name, "Slice", x, *bounds))
        else:
            parts.append(net.add(name, "ReduceMean", x, axes=[1], keepdims=0))
    x = parts[0] if len(parts) == 1 else net.add("sum", "Add", *parts)
    x = net.add("twice", "Add", x, x)
    return net.model(x, ["batch"] + [None] * (2 if reads[0][0] == "Slice" else 1))


@pytest.mark.parametrize(
    ("reads", "positions"),
    [
        ([("Gather", 0)], 1),
        ([("Gather", -1)], 1),
        ([("Gather", [1, 4])], 2),
        ([("Gather", 2), ("Gather", 2)], 1),
        ([("Slice", (0, 2, 1))], 2),
        ([("Slice", (-2, 2**63 - 1, 1))], 2),
        ([("Slice", (-3, -1, -2))], 2),
    ],
)
def test_what_is_not_read_is_not_computed(reads: list[tuple[str, object]], positions: int, tmp_path: Path) -> None:
    model = sequence(*reads)

    small = narrowed(model, tmp_path)

    same_answers(model, small)
    assert macs(small) == positions * WIDTH * WIDTH


@pytest.mark.parametrize(
    "reads",
    [
        [("Gather", 0), ("Gather", 1)],
        [("Gather", 0), ("Mean", None)],
        [("Gather", list(range(LENGTH)))],
        [("Gather", [0, -1])],
        [("Slice", (1, -1, 1))],
    ],
)
def test_what_is_read_is_computed(reads: list[tuple[str, object]], tmp_path: Path) -> None:
    model = sequence(*reads)

    outcome = take(PrunePositions(), model, tmp_path, dataset=None)

    same_answers(model, outcome.model)
    assert macs(outcome.model) == macs(model)
    assert "nothing changed" in outcome.notes[0]


def test_pictures_are_read_whole(tmp_path: Path) -> None:
    model = cnn()

    assert macs(narrowed(model, tmp_path)) == macs(model)
