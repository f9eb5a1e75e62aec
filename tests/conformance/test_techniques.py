"""Every technique found keeps the runner's promises, with its default options, on a CNN and on a BERT-like graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from app.contracts.steps import SPECS
from app.contracts.steps.retrain import Retrain
from tests.workers.graph.networks import answers, bert, cnn, dataset_for, rows_for
from workers.compute.graph.model import Model, load, save
from workers.compute.techniques import TECHNIQUES
from workers.compute.techniques.base import Context, Outcome

MODELS: dict[str, Callable[[], Model]] = {"cnn": cnn, "bert": lambda: bert(layers=2)}
TRAINABLE = sorted(stem for stem in TECHNIQUES if not SPECS[stem].lowers)


def context(model: Model, folder: Path, **changes: Any) -> Context:
    settings: dict[str, Any] = {"dataset": dataset_for(model), "threads": 1, **changes}
    return Context(original=model, scratch=folder, progress=lambda _share, _point: None, **settings)


def applied(stem: str, model: Model, folder: Path) -> Outcome:
    return TECHNIQUES[stem](model, SPECS[stem].model_validate({}), context(model, folder))


def saved(model: Model, folder: Path) -> bytes:
    save(model, folder / "model.onnx")
    return (folder / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem", TECHNIQUES)
def test_result_runs_at_any_batch_size_when_saved(stem: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name]()

    outcome = applied(stem, model, tmp_path)

    save(outcome.model, tmp_path / "result.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "result.onnx", providers=["CPUExecutionProvider"])
    for rows in (1, 5):
        (logits,) = session.run(None, dict(rows_for(model, rows).inputs))
        assert logits.shape == (rows, 3)
        assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem", TECHNIQUES)
def test_model_given_is_untouched_when_applied(stem: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    before, constraints = saved(model, tmp_path), dict(model.constraints)

    applied(stem, model, tmp_path)

    assert saved(model, tmp_path) == before
    assert model.constraints == constraints


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem", TECHNIQUES)
def test_inputs_and_outputs_stay_when_applied(stem: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name]()

    graph = applied(stem, model, tmp_path).model.graph

    for after, before in ((graph.inputs, model.graph.inputs), (graph.outputs, model.graph.outputs)):
        assert [(v.name, v.dtype, str(v.shape)) for v in after] == [(v.name, v.dtype, str(v.shape)) for v in before]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem", TECHNIQUES)
def test_bytes_are_the_same_when_applied_twice(stem: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name]()

    first, second = (saved(applied(stem, model, tmp_path).model, tmp_path) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem", TRAINABLE)
def test_constraints_hold_when_a_later_step_trains(stem: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    first = applied(stem, model, tmp_path)

    later = TECHNIQUES["retrain"](first.model, Retrain(epochs=1, learning_rate=0.01), context(model, tmp_path))

    assert later.model.constraints.keys() == first.model.constraints.keys()
    for tensor, constraint in later.model.constraints.items():
        assert constraint.holds(later.model.read_floats(tensor))
        assert constraint.holds(first.model.read_floats(tensor))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem", TRAINABLE)
def test_answers_change_or_a_note_says_so_when_applied(stem: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    rows = rows_for(model, 16)

    outcome = applied(stem, model, tmp_path)

    changed = not np.array_equal(answers(model, rows), answers(outcome.model, rows))
    # Training that never beat the state it began with gives that state back; its curve shows as much.
    assert changed or outcome.notes or outcome.curve


@pytest.mark.parametrize("stem", sorted(stem for stem in TECHNIQUES if not SPECS[stem].needs_data))
def test_data_is_not_needed_when_the_contract_says_so(stem: str, tmp_path: Path) -> None:
    model = cnn()

    outcome = TECHNIQUES[stem](model, SPECS[stem].model_validate({}), context(model, tmp_path, dataset=None))

    assert outcome.curve == ()
    assert answers(outcome.model, rows_for(model, 2)).shape == (2, 3)


@pytest.mark.parametrize("stem", TECHNIQUES)
def test_result_can_be_read_again_when_saved(stem: str, tmp_path: Path) -> None:
    model = cnn()
    outcome = applied(stem, model, tmp_path)

    content = saved(outcome.model, tmp_path)

    assert saved(load(tmp_path / "model.onnx"), tmp_path) == content
    assert str(tmp_path).encode() not in content
