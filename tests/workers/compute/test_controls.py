"""Controls: the same steps again from the upload, beside a result that they do not touch."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.contracts.recipe import Recipe
from app.contracts.report import Report
from app.contracts.tasks import MESSAGE, CompressOrder, Done, Failed, Progress
from app.errors import TechniqueNotApplicable
from tests.workers.compute.orders import compress, digits_npz, mlp
from workers.compute import controls
from workers.compute.__main__ import perform
from workers.compute.channel import Channel
from workers.compute.checkpoints import Checkpoints
from workers.compute.courses import control_courses, main_course, stages_of

BINARY: dict[str, object] = {"technique": "binarize", "min_size": 2, "epochs": 2}
STEPS = [BINARY, {"technique": "retrain", "epochs": 1}, {"technique": "share_weights", "clusters": 16}]
BOTH = ["without_retraining", "without_teacher"]


@dataclass(frozen=True)
class Told:
    """What was said on the way, and the last message."""

    messages: list[Progress]
    last: Done | Failed

    @property
    def report(self) -> Report:
        assert self.last.report is not None, self.last
        return self.last.report


def run(folder: Path, *, labelled: bool = True, **changes: object) -> Told:
    """Do an order in this process: a child of its own would import torch anew."""
    folder.mkdir(exist_ok=True)
    mlp(folder / "model.onnx")
    digits_npz(folder / "digits.npz", labelled=labelled)
    (folder / "order.json").write_text(json.dumps(compress() | changes))
    stream = io.StringIO()
    last = perform(folder, Channel(stream))
    messages = [MESSAGE.validate_json(line) for line in stream.getvalue().splitlines()]
    return Told([message for message in messages if isinstance(message, Progress)], last)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Three steps with both controls."""
    return run(tmp_path_factory.mktemp("controls"), recipe={"steps": STEPS, "controls": BOTH})


def test_result_stays_the_same_when_controls_run_beside_it(told: Told, tmp_path: Path) -> None:
    alone = run(tmp_path, recipe={"steps": STEPS}).report

    assert told.report.digests == alone.digests
    assert told.report.after.quality == alone.after.quality
    assert alone.controls == []


def test_report_shows_each_control_beside_the_result(told: Told) -> None:
    report = told.report
    assert [control.kind for control in report.controls] == BOTH
    untrained, untaught = report.controls
    assert [step.technique for step in untrained.steps] == ["binarize", "share_weights"]
    assert [bool(step.curve) for step in untrained.steps] == [False, False]
    assert [step.technique for step in untaught.steps] == [step.technique for step in report.steps]
    assert len(untaught.steps[0].curve) > 2
    assert untaught.steps[0].curve[0].validation_loss != report.steps[0].curve[0].validation_loss  # another loss
    result = report.after.quality
    assert result is not None
    for control in report.controls:
        assert (control.quality.split, control.quality.samples) == ("test", result.samples)
        difference = control.differences["accuracy"]
        told = result.scores["accuracy"].value - control.quality.scores["accuracy"].value
        assert difference.value == pytest.approx(told)
        assert difference.low < difference.value < difference.high
        assert 1000 < control.file_bytes < report.before.file_bytes
    assert untrained.differences["accuracy"].low > 0.05  # binary weights without any training are bad
    assert untaught.differences["accuracy"].value != untrained.differences["accuracy"].value


def test_progress_rises_and_names_the_control_when_one_runs(told: Told) -> None:
    assert list(dict.fromkeys(message.stage for message in told.messages)) == [
        "measuring the original",
        *("1/3 binarize", "2/3 retrain", "3/3 share_weights"),
        *("control without retraining 1/2 binarize", "control without retraining 2/2 share_weights"),
        *("control without teacher 1/3 binarize", "control without teacher 2/3 retrain"),
        "control without teacher 3/3 share_weights",
        "measuring the result",
    ]
    assert [message.progress for message in told.messages] == sorted(message.progress for message in told.messages)


def test_controls_do_not_run_when_the_guard_is_not_met(tmp_path: Path) -> None:
    step = {**BINARY, "epochs": 0.02}
    told = run(
        tmp_path,
        recipe={"steps": [step], "controls": ["without_teacher"]},
        guard={"metric": "accuracy", "max_drop": 0.0001},
    )

    assert isinstance(told.last, Failed)
    assert told.report.controls == []
    assert "The controls were not run: the guard was not met." in told.report.notes
    assert not any("control" in message.stage for message in told.messages)
    assert told.messages[-1].stage == "measuring the result"


def test_refusal_comes_before_any_step_when_there_are_no_labels(tmp_path: Path) -> None:
    told = run(tmp_path, labelled=False, task="match", recipe={"steps": [BINARY], "controls": ["without_teacher"]})

    assert isinstance(told.last, Failed)
    assert told.last.problem.name == "technique-not-applicable"
    assert told.last.problem.errors[0].pointer == "/recipe/controls/0"
    assert {message.stage for message in told.messages} == {"measuring the original"}


def test_courses_repeat_what_the_recipe_does() -> None:
    recipe = Recipe.model_validate({"steps": STEPS, "controls": BOTH})
    own, (untrained, untaught) = main_course(recipe), control_courses(recipe).values()

    assert (own.steps, own.taught) == (untaught.steps, True)
    assert (untaught.taught, untrained.taught) == (False, True)
    assert len({course.folder("step-0") for course in (own, untrained, untaught)}) == 3
    assert [own.next_trains(index) for index in range(3)] == [True, False, False]
    assert len(stages_of(recipe)) == 2 + 3 + 2 + 3


def test_result_is_not_lost_when_a_control_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_arguments: object) -> None:
        raise TechniqueNotApplicable("training diverged at learning rate 1; use a smaller one")

    monkeypatch.setattr(controls, "walk", diverge)
    recipe = Recipe.model_validate({"steps": STEPS, "controls": ["without_teacher"]})
    order = CompressOrder.model_validate(compress() | {"recipe": recipe})
    bench: Any = SimpleNamespace(order=order, checkpoints=Checkpoints(order, tmp_path, Channel(io.StringIO())))

    ran, failures = controls.run_controls(bench, tmp_path)

    assert ran == []
    assert failures == [
        "The control without teacher could not be run: training diverged at learning rate 1; use a smaller one"
    ]
