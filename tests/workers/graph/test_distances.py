"""Distances of values from what they were."""

import math

import numpy as np
import pytest

from workers.compute.graph.distances import cosine, snr_db

VALUES = np.array([[3.0, -4.0], [0.5, 2.0]], np.float32)
ZEROS = np.zeros_like(VALUES)


def test_snr_is_twenty_decibels_when_the_noise_is_a_tenth() -> None:
    assert snr_db([(VALUES, VALUES * np.float32(0.9))]) == pytest.approx(20, abs=1e-4)


def test_snr_is_infinite_when_nothing_moved_or_there_was_nothing() -> None:
    assert snr_db([(VALUES, VALUES)]) == math.inf
    assert snr_db([(ZEROS, VALUES)]) == -math.inf


@pytest.mark.parametrize(
    ("after", "expected"),
    [(VALUES, 1), (VALUES * 2, 1), (-VALUES, -1), (np.array([[4.0, 3.0], [2.0, -0.5]]), 0), (ZEROS, 0)],
)
def test_cosine_is_that_of_the_angle(after: np.ndarray, expected: float) -> None:
    assert cosine(VALUES, after) == pytest.approx(expected)


def test_cosine_is_exactly_one_when_zeros_stay_zeros() -> None:
    assert cosine(ZEROS, ZEROS) == 1.0


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_cosine_is_a_number_when_squares_are_not(scale: float) -> None:
    large = VALUES.astype(np.float64) * scale
    assert cosine(large, large[::-1]) == pytest.approx(cosine(VALUES, VALUES[::-1]))
