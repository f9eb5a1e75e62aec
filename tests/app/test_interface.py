"""Which model can take another's place."""

from dataclasses import dataclass

import pytest

from app.contracts.interface import difference
from app.contracts.model import TensorSpec

Shape = list[int | str | None]


@dataclass(frozen=True)
class Ports:
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


def ports(given: Shape, found: Shape, dtype: str = "float", name: str = "x") -> Ports:
    return Ports([TensorSpec(name=name, dtype=dtype, shape=given)], [TensorSpec(name="y", dtype="float", shape=found)])


MODEL = ports(["batch", 4], ["batch", 2])


@pytest.mark.parametrize("other", [ports(["N", 4], ["N", 2]), ports([None, 4], ["N", 2]), ports(["a", 4], ["b", 2])])
def test_names_of_free_axes_do_not_matter(other: Ports) -> None:
    assert difference(MODEL, other) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ports(["N", 4], ["N", 2], name="z"), "its inputs are z, those of the model x"),
        (ports(["N", 4], ["N", 2], dtype="int64"), "its input x is int64[N, 4], that of the model float[batch, 4]"),
        (ports(["N", 5], ["N", 2]), "its input x is float[N, 5], that of the model float[batch, 4]"),
        (ports(["N", "w"], ["N", 2]), "its input x is float[N, w], that of the model float[batch, 4]"),
        (ports([1, 4], [1, 2]), "its input x is float[1, 4], that of the model float[batch, 4]"),
        (ports(["N", 4, 1], ["N", 2]), "its input x is float[N, 4, 1], that of the model float[batch, 4]"),
        (ports(["N", 4], ["N", 3]), "its output y is float[N, 3], that of the model float[batch, 2]"),
    ],
)
def test_difference_is_named(other: Ports, said: str) -> None:
    assert difference(MODEL, other) == said


def test_axes_that_the_other_makes_one_are_a_difference() -> None:
    model, other = ports(["rows", "columns"], ["rows"]), ports(["n", "n"], ["n"])

    assert difference(model, other) == "its input x is float[n, n], that of the model float[rows, columns]"
