from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.share_weights import ShareWeights
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import answers, bert, cnn, rows_for
from tests.workers.techniques.steps import take
from workers.compute.encodings.packer import pack
from workers.compute.graph.constraints import Codebook
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
