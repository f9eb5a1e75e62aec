"""distill and retrain."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.contracts.steps.distill import Distill
from app.contracts.steps.prune_weights import PruneWeights
from app.contracts.steps.retrain import Retrain
from app.contracts.steps.ternarize import Ternarize
from app.errors import TechniqueNotApplicable
from tests.workers.graph.networks import answers, cnn, dataset_for, rows_for
from tests.workers.techniques.steps import take
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph.model import Model
from workers.compute.techniques.base import LEAST_STEPS, lasting

TEACHER = "mdl_00000000000000000000000000"


def damaged() -> Model:
    model = cnn()
    model.write("head.w", np.zeros_like(model.read("head.w")))
    return model


def unlabelled(model: Model) -> Dataset:
    full = dataset_for(model)
    train, validation, test = (Samples(split.inputs) for split in (full.train, full.validation, full.test))
    return Dataset(train, validation, test)


def distance(model: Model, teacher: Model) -> float:
    rows = rows_for(teacher, 64, seed=9)
    return float(np.abs(_centred(answers(model, rows)) - _centred(answers(teacher, rows))).mean())


def _centred(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = logits - logits.mean(axis=-1, keepdims=True)
    return centred


def test_student_answers_like_the_upload_when_distilled_without_labels(tmp_path: Path) -> None:
    student, teacher = damaged(), cnn()
    spec = Distill(alpha=0, epochs=6, learning_rate=0.01, batch_size=16)

    outcome = take(spec, student, tmp_path, original=teacher, dataset=unlabelled(teacher))

    assert distance(outcome.model, teacher) < 0.5 * distance(student, teacher)


def test_note_says_so_when_labels_were_wanted_and_there_are_none(tmp_path: Path) -> None:
    outcome = take(Distill(epochs=1), cnn(), tmp_path, dataset=unlabelled(cnn()))

    assert any("no labels" in note for note in outcome.notes)


def test_named_teacher_is_used_when_given(tmp_path: Path) -> None:
    student, teacher = damaged(), cnn()
    spec = Distill(teacher=TEACHER, alpha=0, epochs=6, learning_rate=0.01, batch_size=16)

    outcome = take(spec, student, tmp_path, models={TEACHER: teacher})

    assert distance(outcome.model, teacher) < 0.5 * distance(student, teacher)


def test_labels_alone_are_learned_when_there_is_no_teacher(tmp_path: Path) -> None:
    spec = Distill(teacher=TEACHER, alpha=0, hidden=1, epochs=1, batch_size=16)
    by_labels = Distill(alpha=1, epochs=1, batch_size=16)

    untaught = take(spec, damaged(), tmp_path, taught=False)
    expected = take(by_labels, damaged(), tmp_path)

    np.testing.assert_array_equal(untaught.model.read("head.w"), expected.model.read("head.w"))


def test_labels_alone_repair_a_technique_when_there_is_no_teacher(tmp_path: Path) -> None:
    spec = Ternarize(epochs=1, batch_size=16, min_size=2)
    other = Distill(alpha=1, epochs=1, batch_size=16)

    taught, untaught = (take(spec, cnn(), tmp_path, taught=taught).curve for taught in (True, False))
    damaged_alike = take(Ternarize(epochs=0, min_size=2), cnn(), tmp_path).model

    assert untaught[0].validation_loss == take(other, damaged_alike, tmp_path).curve[0].validation_loss
    assert taught[0].validation_loss != untaught[0].validation_loss


def test_refusal_when_the_teacher_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="was not given"):
        take(Distill(teacher=TEACHER), cnn(), tmp_path)


def test_accuracy_rises_when_retrained_on_labels(tmp_path: Path) -> None:
    model = damaged()
    rows = rows_for(model, 64, seed=9)

    outcome = take(Retrain(epochs=6, learning_rate=0.01, batch_size=16), model, tmp_path)

    assert rows.labels is not None
    assert (answers(outcome.model, rows).argmax(-1) == rows.labels).mean() > 0.6
    assert outcome.curve[-1].validation_score is not None


@pytest.mark.parametrize("spec", [Distill(patience=100), Retrain(patience=100), PruneWeights(patience=100)])
def test_few_rows_are_seen_often_unless_epochs_are_given(
    spec: Distill | Retrain | PruneWeights, tmp_path: Path
) -> None:
    rows = len(dataset_for(damaged()).train)

    by_default, as_asked = (
        take(each, damaged(), tmp_path).curve for each in (spec, spec.model_copy(update={"epochs": 1.0}))
    )

    assert as_asked[-1].step == -(-rows // spec.batch_size)
    assert by_default[-1].step >= LEAST_STEPS
    validated = [point.step for point in by_default if point.validation_score is not None]
    assert min(np.diff(validated)) >= 20


def test_a_default_stays_what_it_is_when_one_epoch_has_many_steps() -> None:
    plenty = Samples({"x": np.zeros((LEAST_STEPS * 32, 1), np.float32)})
    assert lasting(1.0, 32, Dataset(plenty, plenty.take(slice(8)), plenty.take(slice(8)))) == 1.0


@pytest.mark.parametrize("spec", [Distill(), Retrain()])
def test_refusal_names_the_cure_when_there_is_no_data(spec: Distill | Retrain, tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="attach a dataset"):
        take(spec, cnn(), tmp_path, dataset=None)


def test_refusal_names_distill_when_there_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="distill"):
        take(Retrain(), cnn(), tmp_path, dataset=unlabelled(cnn()))


def test_weights_differ_when_the_seed_differs(tmp_path: Path) -> None:
    one, two = (take(Retrain(epochs=1, batch_size=16), damaged(), tmp_path, seed=seed).model for seed in (1, 2))

    assert not np.array_equal(one.read("head.w"), two.read("head.w"))
