from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.ternarize import Ternarize
from app.contracts.steps.trim_vocabulary import TrimVocabulary
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import Network, answers
from tests.workers.techniques.steps import take
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Mask
from workers.compute.graph.model import Model

WORDS, LENGTH, WIDTH = 500, 6, 16
USED = np.asarray([0, 7, 9, 40, 101, 230, 499])
ALONE = {"keep": [0], "epochs": 0}


def text(length: int | str = "tokens", positions: int = 32, tables: int = 1, opset: int = 13) -> Model:
    """Ids looked up in one or two tables, positions added, mean, classifier."""
    net = Network(opset)
    ids = net.given("ids", ir.DataType.INT64, ["batch", length])
    x = net.add("words", "Gather", net.weight("words.w", WORDS, WIDTH), ids)
    if tables > 1:
        same = net.add("same", "Cast", ids, to=6)
        x = net.add("both", "Add", x, net.add("senses", "Gather", net.weight("senses.w", WORDS, WIDTH), same))
    size = net.add("size", "Gather", net.add("shape", "Shape", ids), net.numbers("one", 1))
    zero = net.numbers("zero", 0)
    table = net.weight("positions.w", positions, WIDTH)
    x = net.add("placed", "Add", x, net.add("positions", "Slice", table, zero, size, zero))
    x = net.add("mean", "ReduceMean", x, axes=[1], keepdims=0)
    return net.model(net.add("head", "MatMul", x, net.weight("head.w", WIDTH, 3)), ["batch", 3])


def rows(ids: np.ndarray, count: int = 40, seed: int = 0) -> Samples:
    random = np.random.default_rng(seed)
    return Samples({"ids": random.choice(ids, (count, LENGTH)).astype(np.int64)}, random.integers(0, 3, count))


def data(ids: np.ndarray = USED) -> Dataset:
    train, validation, test = (rows(ids, seed=seed) for seed in range(3))
    return Dataset(train, validation, test, task="classification", classes=("a", "b", "c"))


def trimmed(model: Model, folder: Path, dataset: Dataset | None = None, **options: object) -> Model:
    spec = TrimVocabulary.model_validate({**ALONE, **options})
    return take(spec, model, folder, dataset=dataset or data()).model


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("tables", [1, 2])
def test_answers_are_the_same_when_ids_are_kept(tables: int, opset: int, tmp_path: Path) -> None:
    model = text(tables=tables, opset=opset)

    small = trimmed(model, tmp_path)

    assert small.read("words.w").shape == (len(USED) + 1, WIDTH)
    np.testing.assert_array_equal(answers(small, rows(USED, seed=9)), answers(model, rows(USED, seed=9)))


def test_any_old_id_is_accepted_and_finds_the_mean_when_it_was_removed(tmp_path: Path) -> None:
    model = text()

    small = trimmed(model, tmp_path)

    gone = np.setdiff1d(np.arange(WORDS), USED)
    assert np.isfinite(answers(small, rows(np.arange(WORDS)))).all()
    np.testing.assert_allclose(small.read("words.w")[-1], model.read("words.w")[gone].mean(axis=0), rtol=1e-5)
    assert np.ptp(answers(small, Samples({"ids": np.repeat(gone[:, None], LENGTH, axis=1)})), axis=0).max() == 0


def test_removed_ids_find_the_unknown_row_when_it_is_named(tmp_path: Path) -> None:
    model = text()

    small = trimmed(model, tmp_path, unknown=230)

    assert small.read("words.w").shape == (len(USED), WIDTH)
    unknown, gone = (Samples({"ids": np.full((1, LENGTH), id_)}) for id_ in (230, 300))
    np.testing.assert_array_equal(answers(small, gone), answers(model, unknown))


def test_negative_ids_count_from_the_end_when_mapped(tmp_path: Path) -> None:
    model = text()
    last = Samples({"ids": np.full((1, LENGTH), -1)})

    np.testing.assert_array_equal(answers(trimmed(model, tmp_path), last), answers(model, last))


def test_rare_ids_go_and_special_ones_stay_when_options_say_so(tmp_path: Path) -> None:
    dataset = data()
    dataset.train.inputs["ids"][0, 0] = 333

    kept = trimmed(text(), tmp_path, dataset)
    rare = trimmed(text(), tmp_path, dataset, min_count=2, keep=[1, 2, 3, 9999])

    assert len(kept.read("words.w")) == len(USED) + 2
    assert len(rare.read("words.w")) == len(USED) + 3 + 1


def test_tables_share_one_map_when_they_keep_the_same_ids(tmp_path: Path) -> None:
    small = trimmed(text(tables=2), tmp_path)

    maps = [name for name, value in small.graph.initializers.items() if value.dtype == ir.DataType.INT32]
    assert maps == ["words.w.rows"]


def test_model_is_trained_when_rows_were_removed(tmp_path: Path) -> None:
    spec = TrimVocabulary.model_validate({"keep": [0], "epochs": 2, "learning_rate": 0.01})

    outcome = take(spec, text(), tmp_path, dataset=data())

    assert outcome.curve
    assert "keeps 7 of 500 rows" in outcome.notes[0]
    assert "0.00% of the ids in the validation rows" in outcome.notes[0]


def test_missed_ids_are_told_when_validation_rows_hold_them(tmp_path: Path) -> None:
    dataset = replace(data(), validation=rows(np.asarray([0, 300])))

    note = take(TrimVocabulary.model_validate(ALONE), text(), tmp_path, dataset=dataset).notes[0]

    assert 40 < float(note.split(". ")[1].split("%")[0]) < 60


@pytest.mark.parametrize("first", [PruneWeights(sparsity=0.5, epochs=0), Ternarize(epochs=0)])
def test_promises_hold_when_rows_of_a_table_are_removed(first: PruneWeights | Ternarize, tmp_path: Path) -> None:
    before = take(first, text(), tmp_path, dataset=data()).model

    small = trimmed(before, tmp_path)

    promise = small.constraints["words.w"]
    assert isinstance(promise, Mask) == isinstance(first, PruneWeights)
    assert small.read("words.w").shape == (len(USED), WIDTH)
    assert promise.holds(small.read_floats("words.w"))
    np.testing.assert_array_equal(answers(small, rows(USED)), answers(before, rows(USED)))


def test_tied_tables_are_refused(tmp_path: Path) -> None:
    net = Network(13)
    ids = net.given("ids", ir.DataType.INT64, ["batch", LENGTH])
    table = net.weight("words.w", WORDS, WIDTH)
    x = net.add("mean", "ReduceMean", net.add("words", "Gather", table, ids), axes=[1], keepdims=0)
    scores = net.add("scores", "MatMul", x, net.add("turned", "Transpose", table, perm=[1, 0]))
    model = net.model(scores, ["batch", WORDS])

    with pytest.raises(TechniqueNotApplicable, match="scores its whole vocabulary"):
        trimmed(model, tmp_path)


def test_positions_are_cut_when_the_length_is_fixed(tmp_path: Path) -> None:
    model = text(length=LENGTH)

    small = trimmed(model, tmp_path, positions=True)

    assert small.read("positions.w").shape == (LENGTH, WIDTH)
    np.testing.assert_array_equal(answers(small, rows(USED)), answers(model, rows(USED)))


def test_positions_stay_when_the_length_is_free(tmp_path: Path) -> None:
    outcome = take(TrimVocabulary.model_validate({**ALONE, "positions": True}), text(), tmp_path, dataset=data())

    assert outcome.model.read("positions.w").shape == (32, WIDTH)
    assert "length is free" in outcome.notes[-1]


def test_map_takes_a_bit_for_each_id_when_packed(tmp_path: Path) -> None:
    model = text()
    model.write("words.w", np.random.default_rng(0).normal(size=(8000, WIDTH)).astype(np.float32))
    every_fifth = Samples({"ids": np.arange(0, 8000, 5).reshape(-1, 4)})
    dataset = Dataset(every_fifth, every_fifth, every_fifth)

    tensors = {tensor.name: tensor for tensor in pack(trimmed(model, tmp_path, dataset)).tensors}

    assert tensors["words.w.rows"].encoding == "ranks"
    assert tensors["words.w.rows"].packed_bytes < 8000 / 8 + 1100
