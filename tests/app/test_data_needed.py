import pytest

from app.contracts.steps import SPECS


@pytest.mark.parametrize(
    ("technique", "options", "needed"),
    [
        ("retrain", {}, True),
        ("distill", {}, True),
        ("prune_weights", {}, False),
        ("prune_weights", {"epochs": 0}, False),
        ("prune_weights", {"importance": "movement"}, True),
        ("prune_weights", {"schedule": "iterative"}, True),
        ("share_weights", {"epochs": 0.5}, True),
        ("quantize_int8", {}, False),
        ("quantize_int8", {"mode": "static"}, True),
    ],
)
def test_data_needed_follows_the_options(technique: str, options: dict[str, object], needed: bool) -> None:
    step = SPECS[technique].model_validate({"technique": technique, **options})
    assert step.data_needed is needed
