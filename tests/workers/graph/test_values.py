"""Selection, clustering and constraints: arrays in, arrays out."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from workers.compute.graph.clustering import Init, assign, cluster
from workers.compute.graph.constraints import Codebook, Mask, with_zeros, zeros_of
from workers.compute.graph.int8 import quantize
from workers.compute.graph.selection import keep_largest, keep_pattern

INITS: tuple[Init, ...] = ("linear", "density", "kmeans++")
Float = NDArray[np.float32]
floats = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-100, 100, width=32))


def error(values: Float, centroids: Float) -> float:
    return float(np.square(values - centroids[assign(values, centroids)]).sum(dtype=np.float64))


@given(values=floats, clusters=st.integers(1, 12), init=st.sampled_from(INITS))
def test_each_value_is_nearest_to_its_centroid_when_clustered(values: Float, clusters: int, init: Init) -> None:
    centroids = cluster(values, clusters, init, 0)

    assert 1 <= centroids.size <= clusters
    assert (np.diff(centroids) > 0).all()
    nearest = np.abs(values[:, None].astype(np.float64) - centroids).min(axis=1)
    chosen = np.abs(values.astype(np.float64) - centroids[assign(values, centroids)])
    np.testing.assert_allclose(chosen, nearest, atol=1e-4)


@pytest.mark.parametrize("init", INITS)
def test_separate_groups_are_found_when_clustered(init: Init) -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.asarray([-3, -1, 0, 2], np.float32), 500)
    values = groups + random.normal(scale=0.01, size=groups.size).astype(np.float32)

    centroids = cluster(values, 4, init, 1)

    np.testing.assert_allclose(centroids, [-3, -1, 0, 2], atol=0.01)


def test_density_fits_better_than_linear_when_tails_are_long() -> None:
    values = np.random.default_rng(0).standard_t(3, 20_000).astype(np.float32)

    assert error(values, cluster(values, 16, "density", 0)) < error(values, np.linspace(values.min(), values.max(), 16))


def test_distinct_values_are_kept_exactly_when_clusters_suffice() -> None:
    values = np.asarray([0.1, 0.2, 0.3], np.float32)[np.random.default_rng(0).integers(0, 3, 999)]

    centroids = cluster(values, 8, "linear", 0)

    np.testing.assert_array_equal(centroids[assign(values, centroids)], values)


@pytest.mark.parametrize("sparsity", [0, 0.25, 0.5, 0.9])
def test_exact_share_goes_when_pruned(sparsity: float) -> None:
    magnitudes = {"a": np.abs(np.random.default_rng(0).normal(size=(30, 10))), "b": np.ones((50, 10))}

    kept = keep_largest(magnitudes, sparsity)

    assert sum(int((~mask).sum()) for mask in kept.values()) == round(sparsity * 800)
    least_kept = min(magnitudes[name][mask].min() for name, mask in kept.items() if mask.any())
    assert all((magnitudes[name][~mask] <= least_kept).all() for name, mask in kept.items())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("keep", "group"), [(2, 4), (1, 4), (4, 8)])
def test_every_group_keeps_its_largest_when_pruned_by_pattern(keep: int, group: int, axis: int) -> None:
    magnitudes = np.random.default_rng(0).random((18, 19))

    kept = np.moveaxis(keep_pattern(magnitudes, axis, keep, group), axis, -1)

    whole = kept.shape[-1] // group * group
    groups = kept[:, :whole].reshape(-1, group)
    assert (groups.sum(axis=1) == keep).all()
    assert kept[:, whole:].all()
    values = np.moveaxis(magnitudes, axis, -1)[:, :whole].reshape(-1, group)
    assert (np.where(groups, values, np.inf).min(axis=1) > np.where(groups, 0, values).max(axis=1)).all()


def test_earlier_zeros_stay_when_a_mask_is_added() -> None:
    first = Mask(np.asarray([True, False, True]))

    combined = with_zeros(first, np.ones(3, np.float32), np.asarray([False, True, True]))

    assert isinstance(combined, Mask)
    np.testing.assert_array_equal(combined.kept, [False, False, True])


def test_emptied_cluster_becomes_the_zero_when_pruning_shared_weights() -> None:
    values = np.asarray([0.1, 0.1, 2, 3], np.float32)
    shared = Codebook(np.asarray([0, 0, 1, 2], np.uint8), 3)

    combined = with_zeros(shared, values, np.asarray([False, False, True, True]))

    assert isinstance(combined, Codebook)
    assert (combined.clusters, combined.zero) == (3, 0)
    np.testing.assert_array_equal(combined.project(values), np.asarray([0, 0, 2, 3], np.float32))


def test_new_cluster_holds_the_zeros_when_none_is_empty() -> None:
    shared = Codebook(np.asarray([0, 0, 1], np.uint8), 2)

    combined = with_zeros(shared, np.asarray([1, 1, 2], np.float32), np.asarray([True, False, True]))

    assert isinstance(combined, Codebook)
    assert (combined.clusters, combined.zero) == (3, 2)


def test_least_cluster_becomes_zero_when_all_are_taken() -> None:
    indices = np.repeat(np.arange(256, dtype=np.uint8), 2)
    values = indices.astype(np.float32) + 1
    kept = np.ones(512, np.bool_)
    kept[100] = False

    combined = with_zeros(Codebook(indices, 256), values, kept)

    assert isinstance(combined, Codebook)
    assert (combined.clusters, combined.zero) == (256, 0)
    np.testing.assert_array_equal(np.flatnonzero(zeros_of(combined, values)), [0, 1, 100])


@example(values=np.full((5, 7), 1e-45, np.float32), axis=0)  # a subnormal scale would be zero
@given(
    values=arrays.arrays(np.float32, (5, 7), elements=st.floats(-1000, 1000, width=32)),
    axis=st.sampled_from([0, 1, None]),
)
def test_error_is_half_a_step_and_zero_is_exact_when_int8(values: Float, axis: int | None) -> None:
    quantized, scales = quantize(values, axis)

    decoded = quantized * scales
    assert (np.abs(decoded - values) <= scales * 0.501 + 1e-6).all()
    assert not decoded[values == 0].any()
