"""One magnitude per channel and its signs: any values become such, and training shows the very same ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from workers.compute.autograd.dtypes import to_floats
from workers.compute.autograd.parametrization import parametrize
from workers.compute.graph.constraints import Signs, shrink, with_zeros, zeros_of

Float = NDArray[np.float32]
weights = arrays.arrays(np.float32, (4, 3, 5), elements=st.floats(-100, 100, width=32, allow_subnormal=False))
masks = arrays.arrays(np.bool_, (4, 3, 5))
axes = st.sampled_from([None, 0, 1, 2])
thresholds = st.sampled_from([None, 0.3, 0.7, 0.99])


@given(values=weights, kept=masks, axis=axes, threshold=thresholds)
def test_promise_holds_and_stays_when_projected(
    values: Float, kept: NDArray[np.bool_], axis: int | None, threshold: float | None
) -> None:
    promise = Signs(axis, kept, threshold)

    shown = promise.project(values)

    assert promise.holds(shown)
    assert promise.project(shown) is shown
    assert not shown[~kept].any()
    assert np.isfinite(shown).all()


@given(values=weights, kept=masks, axis=axes, threshold=thresholds)
def test_training_shows_the_same_bits_when_projected(
    values: Float, kept: NDArray[np.bool_], axis: int | None, threshold: float | None
) -> None:
    promise = Signs(axis, kept, threshold)
    expected = promise.project(values)

    shown = to_floats(parametrize(promise, torch.nn.Parameter(torch.from_numpy(values.copy())))())

    np.testing.assert_allclose(shown, expected, rtol=1e-3)  # the last of 11 bits
    assert promise.holds(shown)
    np.testing.assert_array_equal(np.signbit(shown), np.signbit(expected))


@pytest.mark.parametrize("threshold", [None, 0.7])
def test_gradient_passes_the_kept_weights_straight_when_trained(threshold: float | None) -> None:
    value = torch.nn.Parameter(torch.tensor([[0.1, -0.9, 0.8], [0.0, 2.0, 0.5]]))
    kept = np.asarray([[True, True, True], [True, False, True]])

    weight = parametrize(Signs(0, kept, threshold), value)
    torch.autograd.backward((weight() * torch.arange(6.0).reshape(2, 3)).sum())

    assert value.grad is not None
    np.testing.assert_array_equal(value.grad.numpy(), [[0, 1, 2], [3, 0, 5]])


def test_magnitude_gets_the_sum_of_its_channels_gradients_when_learned() -> None:
    value = torch.tensor([[1.0, -1.0, 0.01], [2.0, 2.0, 2.0]])

    weight = parametrize(Signs(0, np.ones((2, 3), bool), 0.7, learned=True), value)
    torch.autograd.backward((weight() * torch.tensor([[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]])).sum())

    scale = dict(weight.named_parameters())["scale"]
    assert scale.grad is not None
    np.testing.assert_array_equal(scale.grad.numpy(), [[-1.0], [3.0]])


def test_zeros_join_the_promise_when_pruned() -> None:
    promise = Signs(0, np.asarray([[True, False, True]]))

    combined = with_zeros(promise, np.ones((1, 3), np.float32), np.asarray([[False, True, True]]))

    assert combined.kind == "binary"
    np.testing.assert_array_equal(zeros_of(combined, np.ones((1, 3), np.float32)), [[True, True, False]])


def test_promise_holds_when_positions_are_cut() -> None:
    values = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    promise = Signs(0, values < 1, 0.7, latent=values)
    rows, columns = np.asarray([0, 2, 5]), np.asarray([1, 7])

    cut = shrink(promise, [rows, columns])

    assert isinstance(cut, Signs)
    assert cut.holds(promise.project(values)[np.ix_(rows, columns)])
    assert cut.latent is not None
    np.testing.assert_array_equal(cut.latent, values[np.ix_(rows, columns)])


def test_latent_weights_are_dropped_when_a_step_changed_what_is_shown() -> None:
    values = np.asarray([[1.0, -2.0, 0.1]], np.float32)
    promise = Signs(0, np.ones((1, 3), bool), 0.7, latent=values)

    changed = np.asarray([[1.5, 1.5, 0.0]], np.float32)

    assert promise.behind(promise.project(values)) is values
    assert promise.behind(changed) is changed
