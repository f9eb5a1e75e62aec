"""Controls that would show nothing are refused at submit, with what to do instead."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.contracts.recipe import Recipe

TERNARY: dict[str, Any] = {"technique": "ternarize"}
INT8: dict[str, Any] = {"technique": "quantize_int8"}


def recipe(*steps: dict[str, Any], controls: list[str]) -> Recipe:
    return Recipe.model_validate({"steps": list(steps), "controls": controls})


@pytest.mark.parametrize(
    ("steps", "control", "cure"),
    [
        ([INT8], "without_retraining", "let a step retrain"),
        ([INT8], "without_teacher", "let a step retrain"),
        ([{**TERNARY, "epochs": 0}], "without_retraining", "epochs above 0"),
        ([{**TERNARY, "epochs": 0}, {"technique": "retrain"}], "without_teacher", "leave without_teacher out"),
        ([INT8 | {"mode": "static"}], "without_teacher", "leave without_teacher out"),
        ([{"technique": "distill", "alpha": 1}], "without_teacher", "leave without_teacher out"),
        ([{"technique": "distill"}, {"technique": "retrain"}], "without_retraining", "add a step that changes"),
    ],
)
def test_control_is_refused_when_it_would_show_nothing(steps: list[dict[str, Any]], control: str, cure: str) -> None:
    with pytest.raises(ValidationError, match=cure) as refused:
        recipe(*steps, controls=[control])

    assert refused.value.errors()[0]["loc"] == ("controls",)


def test_control_is_refused_when_it_is_asked_for_twice() -> None:
    with pytest.raises(ValidationError, match="leave the second one"):
        recipe(TERNARY, controls=["without_teacher", "without_teacher"])


@pytest.mark.parametrize(
    "step",
    [TERNARY, {"technique": "distill"}, {"technique": "distill", "alpha": 1, "hidden": 1}, INT8 | {"mode": "qat"}],
)
def test_control_is_taken_when_a_step_learns_from_a_teacher(step: dict[str, Any]) -> None:
    assert recipe(step, controls=["without_teacher"]).control_steps("without_teacher")[0].may_be_taught


def test_steps_lose_their_training_and_nothing_else() -> None:
    steps = ({**TERNARY, "threshold": 0.5, "epochs": 3}, {"technique": "distill"}, {"technique": "retrain"}, INT8)

    left = recipe(*steps, controls=["without_retraining"]).control_steps("without_retraining")

    assert [step.model_dump(exclude_defaults=True) for step in left] == [{"threshold": 0.5, "epochs": 0}, {"epochs": 0}]
