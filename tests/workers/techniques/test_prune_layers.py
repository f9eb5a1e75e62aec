from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.prune_layers import PruneLayers
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import bert, cnn
from tests.workers.techniques.steps import take
from workers.compute.graph.model import Model
from workers.compute.graph.spans import spans


def layers(model: Model) -> list[str]:
    return sorted({name.split(".")[0] for name in model.graph.initializers if name.startswith("layer")})


@pytest.mark.parametrize(
    ("order", "keep", "expected"),
    [
        ("first", 2, ["layer0", "layer1"]),
        ("last", 2, ["layer3", "layer4"]),
        ("spread", 3, ["layer0", "layer2", "layer4"]),
        ("spread", 1, ["layer0"]),
    ],
)
def test_named_layers_stay_when_order_is_fixed(order: str, keep: int, expected: list[str], tmp_path: Path) -> None:
    spec = PruneLayers.model_validate({"keep": keep, "order": order, "epochs": 0})

    outcome = take(spec, bert(layers=5), tmp_path)

    assert layers(outcome.model) == expected


def test_harmless_layer_goes_first_when_damage_is_measured(tmp_path: Path) -> None:
    model = bert(layers=3, post_norm=False)
    # Layer 1 adds next to nothing to the residual stream.
    for name in ("layer1.attention.out.w", "layer1.attention.out.b", "layer1.mlp.down.w", "layer1.mlp.down.b"):
        model.write(name, model.read_floats(name) * np.float32(1e-6))

    outcome = take(PruneLayers(keep=2, epochs=0), model, tmp_path)

    assert layers(outcome.model) == ["layer0", "layer2"]
    assert "removed layer 2 of 3" in outcome.notes


def test_half_stays_when_nothing_is_said(tmp_path: Path) -> None:
    assert len(spans(take(PruneLayers(epochs=0), bert(layers=4), tmp_path).model)) == 2


def test_spread_is_used_and_said_when_there_is_no_data(tmp_path: Path) -> None:
    outcome = take(PruneLayers(keep=2), bert(layers=4), tmp_path, dataset=None)

    assert layers(outcome.model) == ["layer0", "layer3"]
    assert any("no data" in note for note in outcome.notes)


def test_nothing_changes_and_a_note_says_so_when_all_are_kept(tmp_path: Path) -> None:
    outcome = take(PruneLayers(keep=4), bert(layers=4), tmp_path)

    assert len(layers(outcome.model)) == 4
    assert "nothing was removed" in outcome.notes[0]


def test_last_layer_stays_and_a_note_says_so_when_more_are_to_be_kept(tmp_path: Path) -> None:
    outcome = take(PruneLayers(keep=2, epochs=0), cnn(blocks=1), tmp_path)

    assert len(spans(outcome.model)) == 1
    assert outcome.notes == ("the model has 1 removable layer, no more than the 2 to keep: nothing was removed",)


def test_refusal_says_what_was_found_when_there_are_no_layers(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="one removable layer"):
        take(PruneLayers(), cnn(blocks=1), tmp_path)


def test_retraining_follows_unless_the_next_step_trains(tmp_path: Path) -> None:
    trained = take(PruneLayers(keep=1, order="first"), bert(layers=2), tmp_path)
    untrained = take(PruneLayers(keep=1, order="first"), bert(layers=2), tmp_path, next_trains=True)

    assert trained.curve
    assert not untrained.curve


def test_refusal_names_the_cure_when_epochs_are_asked_for_without_data(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="attach a dataset"):
        take(PruneLayers(keep=1, epochs=2), bert(layers=2), tmp_path, dataset=None)


def test_layers_go_by_number(tmp_path: Path) -> None:
    outcome = take(PruneLayers(remove=[4, 2, 2], epochs=0), bert(layers=5), tmp_path, dataset=None)

    assert layers(outcome.model) == ["layer0", "layer2", "layer4"]
    assert outcome.notes[0] == "removed layers 2, 4 of 5"


@pytest.mark.parametrize(("remove", "why"), [([3], "there is no layer 3"), ([1, 2], "leave one")])
def test_layers_that_cannot_go_are_refused(remove: list[int], why: str, tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match=why):
        take(PruneLayers(remove=remove, epochs=0), bert(layers=2), tmp_path)


def test_numbers_and_a_count_are_refused_together() -> None:
    with pytest.raises(ValueError, match="leave out keep"):
        PruneLayers(remove=[1], keep=2)
