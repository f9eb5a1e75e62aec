import pytest

from app.contracts.steps import SPECS
from modelpress import InvalidInput
from modelpress.steps import parse_step, recipe_of, recipe_of_json


@pytest.mark.parametrize("name", sorted(SPECS))
def test_parse_step_when_bare(name: str) -> None:
    assert parse_step(name) == SPECS[name]()


def test_parse_step_when_options_of_every_kind() -> None:
    step = parse_step('quantize_int8:mode=static,per_channel=false,calibration_rows=8,exclude=["a,b","c"]')
    assert step.model_dump(exclude_defaults=True) == {
        "mode": "static",
        "per_channel": False,
        "calibration_rows": 8,
        "exclude": ["a,b", "c"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prune_layer:keep=2", "did you mean 'prune_layers'"),
        ("prune_layers:kep=2", "did you mean 'keep'"),
        ("prune_layers:keep=0", "greater than or equal to 1"),
        ("prune_layers:keep", "keep=<value>"),
        ("prune_layers:order=best", "'damage', 'spread', 'first' or 'last'"),
    ],
)
def test_parse_step_when_wrong(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match="prune_layer") as refusal:
        parse_step(text)
    assert said in str(refusal.value)


def test_recipe_of_when_a_step_follows_lowering() -> None:
    with pytest.raises(InvalidInput, match="make quantize_int8 the last step"):
        recipe_of(["quantize_int8", "distill"])


def test_recipe_of_json_when_a_bare_list() -> None:
    assert recipe_of_json('[{"technique": "distill"}]').steps == [SPECS["distill"]()]


@pytest.mark.parametrize("text", ["{", '{"steps": []}', '[{"technique": "nothing"}]'])
def test_recipe_of_json_when_wrong(text: str) -> None:
    with pytest.raises(InvalidInput):
        recipe_of_json(text)
