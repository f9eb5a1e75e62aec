from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.share_weights import ShareWeights
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import answers, bert, cnn, dense, rows_for
from tests.workers.techniques.steps import take
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Codebook, shrink, with_zeros
from workers.compute.graph.readers import matrices


@pytest.mark.parametrize("init", ["linear", "density", "kmeans++"])
@pytest.mark.parametrize("epochs", [0, 2])
def test_tensor_has_few_values_when_shared(init: str, epochs: int, tmp_path: Path) -> None:
    spec = ShareWeights.model_validate({"clusters": 16, "init": init, "epochs": epochs, "min_size": 512})

    model = take(spec, bert(layers=1), tmp_path).model

    assert set(model.constraints) == {name for name in matrices(model) if model.read(name).size >= 512}
    assert all(np.unique(model.read(name)).size <= 16 for name in model.constraints)


def test_centroids_move_when_retrained(tmp_path: Path) -> None:
    model = cnn()
    plain = take(ShareWeights(clusters=4, epochs=0), model, tmp_path).model

    trained = take(ShareWeights(clusters=4, epochs=4, learning_rate=0.01), model, tmp_path)

    before, after = plain.read("block0.a.w"), trained.model.read("block0.a.w")
    assert trained.curve
    assert np.unique(after).size <= 4
    assert not np.array_equal(before, after)


def test_zeros_stay_zero_when_shared_after_pruning(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.8, epochs=0), cnn(), tmp_path).model

    shared = take(ShareWeights(clusters=8, epochs=2, learning_rate=0.01), pruned, tmp_path).model

    weights, promise = shared.read("block1.b.w"), shared.constraints["block1.b.w"]
    assert isinstance(promise, Codebook)
    assert promise.zero is not None
    assert not weights[pruned.read("block1.b.w") == 0].any()
    assert np.unique(weights).size <= 8
    assert pack(shared).tensors[1].encoding != "dense"


def test_weights_change_their_cluster_when_assignments_are_learned(tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.5, epochs=0), cnn(), tmp_path).model
    options = {"clusters": 4, "epochs": 6, "learning_rate": 0.01, "patience": 100, "min_size": 256}
    before = take(ShareWeights(**options | {"epochs": 0}), pruned, tmp_path).model.read("block1.b.w")

    fixed = take(ShareWeights(**options), pruned, tmp_path)
    learned = take(ShareWeights(**options, assignment="learned"), pruned, tmp_path)

    assert partition(fixed.model.read("block1.b.w")) == partition(before)
    weights, promise = learned.model.read("block1.b.w"), learned.model.constraints["block1.b.w"]
    assert partition(weights) != partition(before)
    assert np.unique(weights).size <= 4
    assert not weights[pruned.read("block1.b.w") == 0].any()
    assert isinstance(promise, Codebook)
    assert promise.holds(weights)
    assert promise.latent is None
    best = [min(point.validation_loss or 9 for point in outcome.curve) for outcome in (learned, fixed)]
    assert best[0] < best[1]


def partition(weights: np.ndarray) -> list[int]:
    """Return which weights share a value, whatever it is."""
    values, numbers = np.unique(weights, return_inverse=True)
    first: dict[int, int] = {}
    return [first.setdefault(int(number), len(first)) for number in numbers.reshape(-1)] + [len(values)]


def test_few_weights_that_pruning_left_nothing_of_are_shared(tmp_path: Path) -> None:
    model = cnn()
    model.write("block1.b.w", np.zeros_like(model.read("block1.b.w")))

    learned = take(ShareWeights(clusters=4, epochs=1, learning_rate=0.01, assignment="learned"), model, tmp_path).model

    assert not learned.read("block1.b.w").any()


@pytest.mark.parametrize("options", [{"dimension": 2}, {"scope": "block"}])
def test_assignments_of_runs_and_blocks_are_not_learned(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="leave dimension and scope out"):
        ShareWeights.model_validate({"assignment": "learned", **options})


def test_many_clusters_answer_almost_the_same_when_shared(tmp_path: Path) -> None:
    model = bert(layers=1)
    rows = rows_for(model, 8)

    shared = take(ShareWeights(clusters=256, epochs=0, init="density"), model, tmp_path).model

    assert np.abs(answers(shared, rows) - answers(model, rows)).mean() < 0.1


def test_ternary_rows_stay_and_a_note_says_so_when_shared_later(tmp_path: Path) -> None:
    ternary = take(Ternarize(epochs=0, min_size=1000), bert(layers=1), tmp_path).model

    outcome = take(ShareWeights(clusters=4, min_size=512, epochs=2), ternary, tmp_path)

    kinds = {name: promise.kind for name, promise in outcome.model.constraints.items()}
    assert kinds["words.w"] == "ternary"
    assert kinds["layer0.mlp.up.w"] == "shared"
    assert outcome.model.constraints["words.w"].holds(outcome.model.read_floats("words.w"))
    assert any("fewer values" in note for note in outcome.notes)


def test_refusal_names_the_cure_when_every_tensor_is_small(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="min_size"):
        take(ShareWeights(min_size=10**6), cnn(), tmp_path)


TRAINED = {"epochs": 2, "learning_rate": 0.01, "min_size": 256}


def kinds(matrix: np.ndarray, width: int) -> int:
    """Return how many different runs of `width` the rows hold."""
    return len(np.unique(matrix.reshape(-1, width), axis=0))


@pytest.mark.parametrize("dimension", [1, 2, 4, 8])
@pytest.mark.parametrize("scope", ["tensor", "block"])
def test_runs_along_the_input_are_few_when_they_are_shared(scope: str, dimension: int, tmp_path: Path) -> None:
    options = {"clusters": 5, "scope": scope, "block": 16, "dimension": dimension, **TRAINED}

    outcome = take(ShareWeights.model_validate(options), bert(layers=1), tmp_path)

    assert outcome.curve
    for name, outputs_first in (("layer0.mlp.up.w", False), ("words.w", True)):
        weights = outcome.model.read(name)
        matrix = weights if outputs_first else weights.T
        blocks = [matrix] if scope == "tensor" else [matrix[at : at + 16] for at in range(0, len(matrix), 16)]
        assert all(kinds(block, dimension) <= 5 for block in blocks)
        assert kinds(matrix, dimension) > 5 or scope == "tensor"
        assert outcome.model.constraints[name].holds(outcome.model.read_floats(name))


@pytest.mark.parametrize("dimension", [1, 4])
@pytest.mark.parametrize("scope", ["tensor", "block"])
def test_kernels_share_and_keep_their_zeros_when_they_were_pruned(scope: str, dimension: int, tmp_path: Path) -> None:
    pruned = take(PruneWeights(sparsity=0.5, epochs=0), cnn(), tmp_path).model
    options = {"clusters": 8, "scope": scope, "block": 16, "dimension": dimension, **TRAINED}

    outcome = take(ShareWeights.model_validate(options), pruned, tmp_path)

    before, after = pruned.read("block1.b.w"), outcome.model.read("block1.b.w")
    assert outcome.curve
    assert not after[before == 0].any()
    assert (after != 0).sum() > 0.9 * (before != 0).sum()
    assert np.unique(after).size <= 8 * dimension + (dimension > 1)
    assert outcome.model.constraints["block1.b.w"].holds(after)


def test_runs_are_shorter_when_they_do_not_divide_the_input(tmp_path: Path) -> None:
    options = {"clusters": 16, "dimension": 8, "epochs": 0, "min_size": 100}

    shared = take(ShareWeights.model_validate(options), cnn(), tmp_path).model  # the stem has 9 inputs

    assert np.unique(shared.read("stem.w")).size <= 16
    assert kinds(shared.read("block0.a.w").reshape(16, -1), 8) <= 16


def test_the_rest_shares_as_before_when_runs_and_blocks_are_cut(tmp_path: Path) -> None:
    options = {"clusters": 4, "scope": "block", "block": 16, "dimension": 4, "epochs": 0, "min_size": 256}
    shared = take(ShareWeights.model_validate(options), bert(layers=1), tmp_path).model
    weights, promise = shared.read_floats("layer0.mlp.up.w"), shared.constraints["layer0.mlp.up.w"]
    left = [np.delete(np.arange(16), [1, 6]), np.delete(np.arange(48), [3, 20, 21])]

    cut = shrink(promise, left)

    kept = np.asarray(weights[np.ix_(*left)])
    assert cut.holds(kept)
    kept[0, 0] += 1
    assert not cut.holds(kept)


def test_codebooks_stay_when_weights_are_pruned_later(tmp_path: Path) -> None:
    options = {"clusters": 256, "scope": "block", "block": 16, "dimension": 1, "epochs": 0, "min_size": 256}
    shared = take(ShareWeights.model_validate(options), bert(layers=1), tmp_path).model
    weights, promise = shared.read_floats("layer0.mlp.up.w"), shared.constraints["layer0.mlp.up.w"]
    kept = np.abs(weights) > np.median(np.abs(weights))

    combined = with_zeros(promise, weights, kept)

    np.testing.assert_array_equal(combined.project(weights), np.where(kept, weights, 0))


@pytest.mark.parametrize(("scope", "dimension", "most"), [("block", 1, 4.3), ("tensor", 4, 1.4), ("block", 4, 2)])
def test_file_takes_the_bits_of_the_entries_when_packed(
    scope: str, dimension: int, most: float, tmp_path: Path
) -> None:
    options = {"clusters": 16, "scope": scope, "block": 128, "dimension": dimension, "epochs": 0}
    shared = take(ShareWeights.model_validate(options), dense(256, 384), tmp_path, dataset=None).model

    report = pack(shared).tensors[0]

    assert report.bits_per_weight < most
