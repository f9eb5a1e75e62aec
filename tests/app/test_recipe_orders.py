"""Orders of steps that cannot work are refused at submit, with the reason and what would work."""

import pytest
from pydantic import ValidationError

from app.contracts.recipe import Recipe
from app.contracts.steps import SPECS

REFUSED = [
    ("quantize_int8", "ternarize", "make quantize_int8 the last step"),
    ("quantize_int8", "binarize", "make quantize_int8 the last step"),
    ("binarize", "ternarize", "put ternarize before binarize"),
    ("quantize_int4", "quantize_int8", "leave one of the two out"),
]
ALLOWED = [
    ("prune_weights", "ternarize", "retrain"),
    ("ternarize", "prune_weights", "binarize"),
    ("ternarize", "share_weights", "quantize_int8"),
    ("share_weights", "binarize", "distill"),
    ("quantize_int4", "prune_weights", "share_weights", "retrain"),
    ("ternarize", "quantize_fp16", "quantize_int8"),
]


def recipe(*techniques: str) -> Recipe:
    return Recipe.model_validate({"steps": [{"technique": technique} for technique in techniques]})


@pytest.mark.parametrize(("first", "second", "cure"), REFUSED)
def test_order_is_refused_with_the_cure_when_it_cannot_work(first: str, second: str, cure: str) -> None:
    with pytest.raises(ValidationError, match=cure):
        recipe("prune_weights", first, "retrain", second)


@pytest.mark.parametrize("techniques", ALLOWED)
def test_order_is_taken_when_it_can_work(techniques: tuple[str, ...]) -> None:
    assert [step.technique for step in recipe(*techniques).steps] == list(techniques)


def test_reasons_name_techniques_that_exist() -> None:
    assert {earlier for spec in SPECS.values() for earlier in spec.cannot_follow} <= SPECS.keys()


STUDENT = {"technique": "distill", "student": "mdl_00000000000000000000000000"}
ASSISTED = {"technique": "distill", "assistant": True}


def test_student_is_refused_when_it_throws_steps_away() -> None:
    with pytest.raises(ValidationError, match="make it the first step, or leave student out"):
        Recipe.model_validate({"steps": [{"technique": "prune_layers"}, STUDENT]})


@pytest.mark.parametrize(
    "before",
    [
        [],
        [{"technique": "prune_layers"}],  # leaves the training to the next step
        [{"technique": "prune_layers", "epochs": 0}, {"technique": "share_weights"}],
        [{"technique": "prune_weights", "epochs": 0}],
    ],
)
def test_assistant_is_refused_when_no_step_before_trains(before: list[dict[str, object]]) -> None:
    with pytest.raises(ValidationError, match="leave assistant out"):
        Recipe.model_validate({"steps": [*before, ASSISTED]})


@pytest.mark.parametrize(
    "before",
    [
        [STUDENT],
        [{"technique": "distill"}, {"technique": "prune_layers"}],
        [{"technique": "prune_layers", "epochs": 0.5}],
        [{"technique": "prune_weights", "importance": "movement"}],
        [{"technique": "share_weights"}, {"technique": "prune_layers"}],
    ],
)
def test_assistant_is_taken_when_a_step_before_trains(before: list[dict[str, object]]) -> None:
    assert Recipe.model_validate({"steps": [*before, ASSISTED]}).steps[-1].needs_trained


def test_assistant_is_refused_beside_a_teacher() -> None:
    with pytest.raises(ValidationError, match="leave one of them out"):
        SPECS["distill"].model_validate({"assistant": True, "teacher": STUDENT["student"]})


def test_models_of_a_recipe_are_named_once() -> None:
    other = "mdl_11111111111111111111111111"
    steps = [STUDENT | {"teacher": other}, {"technique": "distill", "teacher": other}]

    assert Recipe.model_validate({"steps": steps}).models == [STUDENT["student"], other]
