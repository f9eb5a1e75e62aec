"""Half of every group goes, one group at a time and all at once, from networks as PyTorch exports them."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from tests.workers.graph.dimensions import architectures, cuts
from workers.compute.graph.costs import cost
from workers.compute.graph.dimensions import Coupling, couple, remove_units
from workers.compute.graph.model import Model

# Kind and number of units of each group.
EXPECTED = {
    "resnet": ["channels 8"] * 2 + ["channels 16"] * 3 + ["channels 24"] * 2,
    "mobilenet": ["channels 8", "channels 24", "channels 24", "channels 4", "channels 4", "channels 20"],
    "unet": [f"channels {width}" for width in (6, 10, 14, 8, 9, 7)],
    "densenet": [f"channels {width}" for width in (8, 4, 4, 4, 10)],
    "shufflenet": ["channels 3", "channels 8"],
    "bert": ["neurons 24", "heads 4", "neurons 40", "heads 4", "neurons 40", "neurons 24"],
    "vit": ["channels 24", "heads 3", "neurons 36", "heads 3", "neurons 36"],
    "attention": ["neurons 24", "heads 4", "heads 4"],
    "folded": ["neurons 24", "heads 4", "neurons 24"],
    "lstm": ["neurons 12", "hidden units 10", "hidden units 14"],
    "gru": ["neurons 12", "hidden units 10", "hidden units 14"],
}
BOTH = [(name, opset) for name, case in architectures.CASES.items() for opset in case.opsets]


@cache
def exported(name: str, opset: int) -> tuple[Model, Coupling]:
    model = architectures.export(architectures.CASES[name], opset)
    return model, couple(model)


def feeds(name: str) -> list[cuts.Feeds]:
    rng = np.random.default_rng(1)
    return [architectures.CASES[name].inputs(rng, rows) for rows in (3, 1)]


@pytest.mark.parametrize(("name", "opset"), BOTH)
def test_groups_are_those_that_the_architecture_has(name: str, opset: int) -> None:
    _, coupling = exported(name, opset)
    assert Counter(f"{group.kind} {group.units}" for group in coupling.groups) == Counter(EXPECTED[name])
    assert coupling.barriers == ()


@pytest.mark.parametrize(("name", "opset"), BOTH)
def test_half_of_each_group_goes(name: str, opset: int) -> None:
    model, coupling = exported(name, opset)
    for group, units in cuts.half(coupling).items():
        cuts.check(model, coupling, {group: units}, *feeds(name))


@pytest.mark.parametrize(("name", "opset"), BOTH)
def test_half_of_all_groups_goes_at_once_and_the_rest_again(name: str, opset: int) -> None:
    model, coupling = exported(name, opset)
    small = cuts.check(model, coupling, cuts.half(coupling), *feeds(name))
    again = couple(small)
    left = {group: units for group, units in cuts.half(again).items() if units}
    assert cost(remove_units(small, again, left)).parameters == again.parameters(left)
    cuts.check(small, again, left, *feeds(name))


def test_sequence_length_stays_free() -> None:
    model, coupling = exported("bert", 13)
    small = remove_units(model, coupling, cuts.half(coupling))
    long = {"ids": np.ones((2, 19), np.int64), "mask": np.ones((2, 19), np.int64)}
    assert cuts.answers(small, long)[0].shape == (2, architectures.CLASSES)
    assert [str(axis) for axis in small.graph.inputs[0].shape or ()] == ["rows", "tokens"]
