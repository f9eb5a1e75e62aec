"""Intervals against published values and against simulation."""

import numpy as np
import pytest

from workers.compute import intervals


def test_wilson_agrees_with_newcombes_table() -> None:
    # Newcombe 1998 (Statist. Med. 17, 857), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for hits, rows, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        estimate = intervals.wilson(hits, rows)
        assert [estimate.low, estimate.high] == pytest.approx([low, high], abs=1e-4)


def test_interval_says_nothing_when_there_are_no_rows() -> None:
    assert intervals.wilson(0, 0).high == 1.0


def test_paired_difference_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        before = generator.random(200) < 0.9
        after = np.where(generator.random(200) < 0.95, before, generator.random(200) < 0.5)
        truth = 0.05 * (0.5 - 0.9)
        estimate = intervals.paired_difference(before, after)
        covered += estimate.low <= truth <= estimate.high
    assert 0.92 <= covered / 400 <= 0.99


def test_paired_difference_keeps_its_width_when_nothing_differs() -> None:
    right = np.ones(50, bool)
    estimate = intervals.paired_difference(right, right)
    assert estimate.value == 0
    assert estimate.low < -0.01
    assert estimate.high > 0.01


def test_bootstrap_of_rows_covers_a_known_mean() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400)
    estimate = intervals.bootstrap_rows(400, lambda rows: float(values[rows].mean()), seed=0)
    assert estimate.low < 3.0 < estimate.high
    assert estimate.high - estimate.low == pytest.approx(4 * 1.0 / 20, rel=0.2)


def test_bootstrap_is_repeatable_when_the_seed_is_the_same() -> None:
    counts = np.array([50, 5, 3, 42])
    first, second = (intervals.bootstrap_cells(counts, lambda drawn: drawn[:, 0] / 100, 7) for _ in range(2))
    assert first == second
    assert first.low < 0.5 < first.high


def test_ratio_of_medians_holds_one_when_both_are_alike() -> None:
    generator = np.random.default_rng(2)
    one, other = generator.lognormal(0, 0.1, (25, 8)), generator.lognormal(0, 0.1, (25, 8))
    estimate = intervals.ratio_of_medians(one, other, 0)
    assert estimate.low < 1 < estimate.high
    assert intervals.ratio_of_medians(one, other / 2, 0).low > 1.8
