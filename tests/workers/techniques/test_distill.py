"""distill with hidden states and attention; with answers alone it is in test_training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.contracts.steps.distill import Distill
from app.errors import TechniqueNotApplicable
from tests.workers.graph import networks
from tests.workers.graph.networks import answers, bert, cnn, dataset_for, rows_for
from tests.workers.techniques.steps import take
from tests.workers.techniques.test_training import TEACHER, unlabelled
from workers.compute.autograd.prediction import predict
from workers.compute.graph.constraints import Mask
from workers.compute.graph.model import Model
from workers.compute.graph.spans import remove, spans
from workers.compute.techniques.base import Outcome

QUICK = Distill(alpha=0, epochs=6, learning_rate=3e-3, batch_size=16)
LAST = {"hidden": "layer5.norm2.shift_out", "attention": "layer5.attention.softmax_out"}


def shallow(teacher: Model) -> Model:
    """Return the first and the last layer alone."""
    return remove(teacher, spans(teacher)[1:-1])


def distilled(spec: Distill, folder: Path, student: Model | None = None) -> Outcome:
    teacher = bert(6)
    return take(spec, student or shallow(teacher), folder, original=teacher, dataset=unlabelled(teacher))


def apart(student: Model, kind: str) -> float:
    """Return how far the last layer's inner values are from the teacher's, on unseen rows without padding."""
    teacher, rows = bert(6), rows_for(bert(6), 64, seed=9)
    rows.inputs["attention_mask"][:] = 1
    found = [predict(model, rows, threads=1, capture=[LAST[kind]])[LAST[kind]] for model in (student, teacher)]
    return float(np.square(found[0].astype(np.float64) - found[1]).mean())


@pytest.mark.parametrize("kind", ["hidden", "attention"])
def test_student_is_nearer_inside_when_that_is_matched(kind: str, tmp_path: Path) -> None:
    plain = distilled(QUICK, tmp_path)

    guided = distilled(QUICK.model_copy(update={kind: 10.0}), tmp_path)

    assert apart(guided.model, kind) < 0.8 * apart(plain.model, kind)


def test_loss_decreases_when_both_are_matched(tmp_path: Path) -> None:
    curve = distilled(QUICK.model_copy(update={"hidden": 1.0, "attention": 1.0}), tmp_path).curve

    losses = [point.loss for point in curve if point.loss is not None]
    assert losses[-1] < 0.8 * losses[0]


def test_notes_say_what_was_matched_to_what(tmp_path: Path) -> None:
    spec = QUICK.model_copy(update={"hidden": 1.0, "attention": 1.0, "epochs": 0.5})

    notes = distilled(spec, tmp_path).notes

    assert any("hidden states" in note and note.endswith(": 0 to 0, 1 to 1, 2 to 6") for note in notes)
    assert any("attention" in note and note.endswith(": 1 to 1, 2 to 6") for note in notes)


def test_same_bits_when_run_twice(tmp_path: Path) -> None:
    spec = QUICK.model_copy(update={"hidden": 1.0, "attention": 1.0, "epochs": 1.0})

    one, two = (distilled(spec, tmp_path).model for _ in range(2))

    assert all(one.read(name).tobytes() == two.read(name).tobytes() for name in one.weights())


def test_narrow_student_learns_from_a_wide_teacher_and_keeps_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = bert(6)
    monkeypatch.setattr(networks, "WIDTH", 8)
    student = bert(2)
    spec = QUICK.model_copy(update={"teacher": TEACHER, "hidden": 1.0, "attention": 1.0})

    outcome = take(spec, student, tmp_path, models={TEACHER: teacher}, dataset=unlabelled(teacher))

    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert losses[-1] < 0.9 * losses[0]
    assert {name: outcome.model.read(name).shape for name in outcome.model.weights()} == {
        name: student.read(name).shape for name in student.weights()
    }
    assert any(note.endswith(": 0 to 0, 1 to 3, 2 to 6") for note in outcome.notes)


def test_masks_hold_when_hidden_states_are_matched(tmp_path: Path) -> None:
    student = shallow(bert(6))
    weights = student.read("layer0.mlp.up.w")
    mask = student.constraints["layer0.mlp.up.w"] = Mask(np.abs(weights) > np.median(np.abs(weights)))
    student.write("layer0.mlp.up.w", mask.project(weights))

    model = distilled(QUICK.model_copy(update={"hidden": 1.0, "epochs": 1.0}), tmp_path, student).model

    assert mask.holds(model.read("layer0.mlp.up.w"))
    assert not np.array_equal(model.read("layer0.mlp.up.w"), student.read("layer0.mlp.up.w"))


def test_labels_alone_can_teach_the_answers_beside_hidden_states(tmp_path: Path) -> None:
    teacher = bert(6)
    rows = dataset_for(teacher)
    rows = replace(rows, validation=rows.validation.take(slice(0, 0)))  # so that the last state is kept
    plain, guided = (
        take(
            QUICK.model_copy(update={"alpha": 1.0, "hidden": hidden}),
            shallow(teacher),
            tmp_path,
            original=teacher,
            dataset=rows,
        ).model
        for hidden in (0.0, 10.0)
    )

    assert apart(guided, "hidden") < 0.8 * apart(plain, "hidden")


@pytest.mark.parametrize(("kind", "model"), [("hidden", bert(0)), ("attention", bert(0)), ("attention", cnn())])
def test_refusal_names_the_cure_when_there_is_nothing_to_match(kind: str, model: Model, tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match=f"{kind} needs layers.*set {kind} to 0"):
        take(Distill(epochs=1).model_copy(update={kind: 1.0}), model, tmp_path)


def test_blocks_of_an_image_model_are_matched(tmp_path: Path) -> None:
    teacher = cnn(4)
    student = remove(teacher, spans(teacher)[1:3])

    outcome = take(
        Distill(alpha=0, hidden=1.0, epochs=1), student, tmp_path, original=teacher, dataset=unlabelled(teacher)
    )

    assert any(note.endswith(": 0 to 0, 1 to 1, 2 to 4") for note in outcome.notes)


STUDENT = "mdl_11111111111111111111111111"


def test_student_takes_the_place_of_the_upload(tmp_path: Path) -> None:
    teacher, student = bert(6), bert(2)
    student.write("head.w", np.zeros_like(student.read("head.w")))
    spec = QUICK.model_copy(update={"student": STUDENT})

    outcome = take(spec, teacher, tmp_path, models={STUDENT: student}, dataset=unlabelled(teacher))

    assert outcome.model.weights().keys() == student.weights().keys()
    assert outcome.model.read("head.w").any()
    assert not student.read("head.w").any()
    assert outcome.notes[0].startswith("the student took the upload's place: parameters from")


def test_layers_of_a_student_are_spread_though_their_names_are_the_teachers(tmp_path: Path) -> None:
    teacher = bert(6)
    spec = QUICK.model_copy(update={"student": STUDENT, "hidden": 1.0, "epochs": 0.5})

    student = take(spec, teacher, tmp_path, models={STUDENT: bert(2)}, dataset=unlabelled(teacher))
    spec = QUICK.model_copy(update={"hidden": 1.0, "epochs": 0.5})
    later = take(spec, student.model, tmp_path, original=teacher, replaced=True, dataset=unlabelled(teacher))

    assert any(note.endswith(": 0 to 0, 1 to 3, 2 to 6") for note in student.notes)
    assert any(note.endswith(": 0 to 0, 1 to 3, 2 to 6") for note in later.notes)


def test_refusal_names_what_sets_a_student_apart(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="its inputs are image, those of the model input_ids"):
        take(Distill(student=STUDENT), bert(2), tmp_path, models={STUDENT: cnn()})


def test_refusal_when_the_student_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="leave student out"):
        take(Distill(student=STUDENT), bert(2), tmp_path)


@pytest.mark.parametrize("replaced", [False, True])
def test_assistant_teaches_instead_of_the_upload(tmp_path: Path, *, replaced: bool) -> None:
    upload = bert(6)
    assistant = remove(upload, spans(upload)[1:3])  # keeps layers 0, 3, 4 and 5
    assistant.write("head.w", -assistant.read("head.w"))
    student = remove(assistant, spans(assistant)[1:-1])
    spec = QUICK.model_copy(update={"assistant": True, "hidden": 1.0})

    outcome = take(
        spec,
        student,
        tmp_path,
        original=upload,
        assistant=assistant,
        replaced=replaced,
        dataset=unlabelled(upload),
    )

    rows = rows_for(upload, 64, seed=9)
    apart_from = [np.abs(answers(outcome.model, rows) - answers(other, rows)).mean() for other in (assistant, upload)]
    assert apart_from[0] < 0.5 * apart_from[1]
    assert any(note.endswith(": 0 to 0, 1 to 1, 2 to 4") for note in outcome.notes)


def test_refusal_when_there_is_no_assistant(tmp_path: Path) -> None:
    with pytest.raises(TechniqueNotApplicable, match="leave assistant out"):
        take(Distill(assistant=True), bert(2), tmp_path)
