"""A scale per group and few whole numbers: any values become such, and training shows the very same ones."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from workers.compute.autograd.dtypes import to_floats
from workers.compute.autograd.parametrization import parametrize
from workers.compute.graph.constraints import Grid, behind, shrink, with_zeros, zeros_of
from workers.compute.graph.grids import Steps, fit

Float = NDArray[np.float32]
SHAPE, VIEW = (3, 8, 2), (3, 2, 4, 2)
weights = arrays.arrays(np.float32, SHAPE, elements=st.floats(-100, 100, width=32))
masks = arrays.arrays(np.bool_, SHAPE)


def grid(values: Float, kept: NDArray[np.bool_] | None = None, *, symmetric: bool = True) -> Grid:
    steps = fit(values.reshape(VIEW), (2,), 4, symmetric=symmetric)
    return Grid(VIEW, steps, np.ones(SHAPE, np.bool_) if kept is None else kept, values)


def normal(*shape: int) -> Float:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@example(values=np.full(SHAPE, 1e-45, np.float32), kept=np.ones(SHAPE, np.bool_), symmetric=False)
@given(values=weights, kept=masks, symmetric=st.booleans())
def test_values_stay_on_the_grid_when_projected(values: Float, kept: NDArray[np.bool_], *, symmetric: bool) -> None:
    promise = grid(values, kept, symmetric=symmetric)

    shown = promise.project(values)

    numbers = shown.reshape(VIEW) / promise.steps.scale + promise.steps.zero
    np.testing.assert_array_equal(numbers, np.rint(numbers))
    assert numbers.min() >= promise.steps.low
    assert numbers.max() <= promise.steps.high == promise.steps.low + 15
    assert promise.holds(shown)
    assert not shown[~kept].any()


@given(values=weights, kept=masks, symmetric=st.booleans())
def test_training_shows_the_same_bits_when_projected(
    values: Float, kept: NDArray[np.bool_], *, symmetric: bool
) -> None:
    promise = grid(values, kept, symmetric=symmetric)

    shown = to_floats(parametrize(promise, torch.from_numpy(promise.project(values)))())

    np.testing.assert_array_equal(shown.view(np.uint32), promise.project(values).view(np.uint32))


@pytest.mark.parametrize("symmetric", [False, True])
def test_error_is_less_than_by_rounding_to_the_range_when_fitted(*, symmetric: bool) -> None:
    view = normal(512, 32)

    shown = fit(view, (1,), 4, symmetric=symmetric).nearest(view)

    scale = (np.abs(view).max(1) / 7 if symmetric else (view.max(1) - view.min(1)) / 15)[:, None]
    zero = np.zeros_like(scale, np.int16) if symmetric else np.rint(-view.min(1)[:, None] / scale).astype(np.int16)
    low, high = (-8, 7) if symmetric else (0, 15)
    rounded = Steps(scale, zero, low, high).nearest(view)
    assert np.square(shown - view).sum() < 0.95 * np.square(rounded - view).sum()


def test_scales_fit_half_precision_when_fitted() -> None:
    scale = fit(normal(512, 32), (1,), 4, symmetric=True).scale

    np.testing.assert_array_equal(scale.astype(np.float16).astype(np.float32), scale)


def test_gradient_passes_the_kept_weights_straight_when_trained() -> None:
    kept = np.random.default_rng(1).random(SHAPE) > 0.3
    value = torch.nn.Parameter(torch.from_numpy(normal(*SHAPE)))

    weight = parametrize(grid(normal(*SHAPE), kept), value)
    torch.autograd.backward(weight().sum())

    assert value.grad is not None
    np.testing.assert_array_equal(value.grad.numpy(), kept)


def test_zeros_join_the_promise_when_pruned() -> None:
    values = normal(*SHAPE)
    kept = values > 0

    combined = with_zeros(grid(values), values, kept)

    assert combined.kind == "grid"
    np.testing.assert_array_equal(zeros_of(combined, values), ~kept)
    assert combined.holds(combined.project(values))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("blocked", [False, True])
def test_promise_holds_when_positions_are_cut(axis: int, *, blocked: bool) -> None:
    values = normal(*SHAPE)
    channels = Grid(SHAPE, fit(values, (1, 2), 4, symmetric=False), np.ones(SHAPE, np.bool_), values)
    promise = grid(values, symmetric=False) if blocked else channels
    places = np.asarray([1, SHAPE[axis] - 1])

    cut = shrink(promise, [places if place == axis else None for place in range(3)])

    shown = np.take(promise.project(values), places, axis)
    assert cut.holds(shown)
    np.testing.assert_array_equal(behind(cut, shown), np.take(values, places, axis))
