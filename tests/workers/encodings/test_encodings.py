"""Whatever an encoding accepts comes back from ONNX Runtime bit for bit."""

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workers.compute.encodings import ENCODINGS, digits
from workers.compute.encodings.base import Array, Contents, Encoded
from workers.compute.encodings.packer import decoder_file

DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64")
shapes = arrays.array_shapes(min_dims=0, max_dims=4, max_side=9)


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    """Tensors of every bit pattern, of few values, and of mostly zeros: those that encodings are made for."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(shapes)
    values = draw(arrays.arrays(dtype, draw(st.integers(1, 40)), elements=arrays.from_dtype(dtype)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    tensor = values[random.integers(0, values.size, shape)]
    zeros = random.random(shape) < draw(st.sampled_from([0, 0.3, 0.9, 0.99]))
    return np.where(zeros, np.zeros((), dtype), tensor)


@st.composite
def grids(draw: st.DrawFn) -> Array:
    """Tensors on a grid: small whole numbers times a scale for each row, column, channel or block of 16."""
    dtype = np.dtype(draw(st.sampled_from(("float32", "float16", "float64"))))
    shape = draw(st.sampled_from([(5, 7), (8, 32), (48, 6), (3, 64, 5), (6, 4, 3, 3), (1, 32), (32, 1)]))
    axis = draw(st.integers(0, len(shape) - 1))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    low, high = draw(st.sampled_from([(-1, 1), (0, 1), (-7, 7), (-8, 7), (-5, 10), (-127, 127), (-3, 252), (20, 30)]))
    numbers = random.integers(low, high + 1, shape) * random.choice([0, 1, -1, -0.0], shape[axis]).reshape(
        [-1 if place == axis else 1 for place in range(len(shape))]
    )
    blocked = draw(st.booleans()) and shape[axis] % 16 == 0
    spans = [1 if place != axis else shape[axis] // 16 if blocked else shape[axis] for place in range(len(shape))]
    scales = (random.random(spans) * 10.0 ** draw(st.integers(-4, 2))).astype(dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    repeats = np.repeat(scales, 16, axis) if blocked else scales
    return (numbers.astype(wide) * repeats.astype(wide)).astype(dtype)


@st.composite
def products(draw: st.DrawFn) -> Array:
    """Tensors of few sub-vectors in each block of rows, along any axis, some values of them zero."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.sampled_from([(16, 8), (33, 16), (40, 3, 8), (70, 12), (20, 2, 2, 2), (257, 8)]))
    width, kinds = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 5, 100, 256]))
    rows = np.empty((shape[0], int(np.prod(shape[1:]))), dtype)
    width = width if rows.shape[1] % width == 0 else 1
    for start in range(0, shape[0], draw(st.sampled_from([16, 32, 1000]))):
        part = rows[start:]
        parts = random.integers(-100, 100, (kinds, width)) * (random.random((kinds, width)) < 0.7)
        part[:] = parts[random.integers(0, kinds, part.size // width)].reshape(part.shape)
    return np.moveaxis(rows.reshape(shape), 0, draw(st.integers(0, len(shape) - 1)))


@st.composite
def numberings(draw: st.DrawFn) -> Array:
    """Integers that number some places from 0 on, the others one value, often one of the numbers."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kept = random.random(draw(st.integers(1, 60))) < draw(st.sampled_from([0.1, 0.5, 0.9, 1]))
    places = np.cumsum(kept) - 1
    rest = draw(st.integers(-2, int(kept.sum()) + 1))
    return np.where(kept, places, rest).astype(draw(st.sampled_from(["int32", "int64"])))


def decode(encoded: Encoded, opset: int) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    file = decoder_file(encoded, opset, ir_version=8)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    decoded: Array = session.run(None, {})[0]
    return decoded


@pytest.mark.parametrize("opset", [9, 11, 13, 21])
@pytest.mark.parametrize("name", sorted(set(ENCODINGS) - {"dense"}))
@given(values=tensors() | grids() | numberings() | products())
@example(values=np.asarray([[0, 0], [0, np.finfo(np.float32).max]], np.float32))
@settings(max_examples=80, deadline=None)
def test_bits_come_back_when_decoded(name: str, opset: int, values: Array) -> None:
    contents = Contents("w", values)
    encoded = ENCODINGS[name](contents, opset)
    if encoded is None:
        return

    decoded = decode(encoded, opset)

    assert decoded.dtype == values.dtype
    assert decoded.shape == values.shape
    np.testing.assert_array_equal(Contents("w", decoded).bits, contents.bits)


@given(base=st.integers(2, 256), count=st.integers(1, 5000))
def test_layout_holds_every_value_when_chosen(base: int, count: int) -> None:
    layout = digits.best_layout(base, count)

    assert base**layout.digits <= 256**layout.width
    assert layout.size(count) <= count
    assert layout.size(count) * 8 >= count * np.log2(base) - 1e-6


@pytest.mark.parametrize("density", [0.5, 0.2, 0.1, 0.03, 0.01, 0.002])
@pytest.mark.parametrize("opset", [11, 21])
def test_wide_gaps_are_bridged_when_zeros_run_long(density: float, opset: int) -> None:
    random = np.random.default_rng(3)
    values = np.where(random.random((300, 301)) < density, random.normal(size=(300, 301)), 0).astype(np.float32)
    values[100:200] = 0
    encoded = ENCODINGS["sparse"](Contents("w", values), opset)
    assert encoded is not None

    np.testing.assert_array_equal(decode(encoded, opset), values)


@pytest.mark.parametrize("clusters", [2, 3, 5, 6, 9, 16, 17, 24, 32, 64, 128, 129, 256])
@pytest.mark.parametrize("opset", [9, 13])
def test_bits_come_back_when_the_tensor_is_large(clusters: int, opset: int) -> None:
    random = np.random.default_rng(clusters)
    values = random.normal(size=clusters).astype(np.float32)[random.integers(0, clusters, (301, 303))]
    encoded = ENCODINGS["codebook"](Contents("w", values), opset)
    assert encoded is not None

    np.testing.assert_array_equal(decode(encoded, opset), values)


def test_negative_zero_is_kept_when_sparse() -> None:
    values = np.zeros((64, 64), np.float32)
    values[3, 4], values[5, 6] = -0.0, 1
    encoded = ENCODINGS["sparse"](Contents("w", values), 13)
    assert encoded is not None

    assert np.signbit(decode(encoded, 13)).sum() == 1


def test_sparse_refuses_when_operators_are_too_old() -> None:
    assert ENCODINGS["sparse"](Contents("w", np.eye(64, dtype=np.float32)), 10) is None


def test_codebook_refuses_when_values_are_many() -> None:
    assert ENCODINGS["codebook"](Contents("w", np.arange(257, dtype=np.float32)), 13) is None


def on_rows(shape: tuple[int, ...], low: int, high: int, dtype: str = "float32") -> Array:
    random = np.random.default_rng(2)
    scales = (0.01 + random.random((shape[0], *(1 for _ in shape[1:])))).astype(dtype)
    numbers = random.integers(low, high + 1, shape)
    numbers[1] = 0
    return (numbers.astype(dtype) * scales).astype(dtype)


def bits(name: str, values: Array, opset: int = 13) -> float:
    """Return the bits of all constants for each weight."""
    encoded = ENCODINGS[name](Contents("w", values), opset)
    assert encoded is not None
    np.testing.assert_array_equal(decode(encoded, opset), values)
    return 8 * encoded.constant_bytes / values.size


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("low", "high", "most"), [(-1, 1, 1.6), (0, 1, 1), (-7, 7, 4), (-127, 127, 8), (0, 255, 8)])
@pytest.mark.parametrize("transposed", [False, True])
def test_scale_of_a_row_is_stored_once_when_rows_are_on_a_grid(
    transposed: bool, low: int, high: int, most: float, dtype: str
) -> None:
    if dtype == "float16" and high > 7:
        pytest.skip("half precision does not hold products of 8 bits and a scale apart")
    values = on_rows((96, 768), low, high, dtype)

    found = bits("row_scales", values.T if transposed else values)

    assert found < most + 8 * values.itemsize / 768 + 0.3  # digits, one scale a row, tables


def test_channels_of_a_kernel_are_found_when_they_are_ternary() -> None:
    assert bits("row_scales", on_rows((32, 64, 3, 3), -1, 1)) < 1.75
    assert bits("row_scales", on_rows((32, 64, 3, 3), -1, 1).transpose(1, 0, 2, 3)) < 1.75


def test_positions_are_coded_when_most_numbers_are_zero() -> None:
    values = on_rows((96, 768), -1, 1)
    values[np.random.default_rng(0).random(values.shape) < 0.85] = 0

    assert bits("row_scales", values) < 0.95


def test_signs_of_zeros_come_back_when_a_scale_is_factored_out() -> None:
    values = on_rows((96, 768), -1, 1) * np.float32(-1)
    encoded = ENCODINGS["row_scales"](Contents("w", values), 13)
    assert encoded is not None

    assert np.signbit(values[values == 0]).any()
    np.testing.assert_array_equal(np.signbit(decode(encoded, 13)), np.signbit(values))


@pytest.mark.parametrize("block", [16, 32, 64, 128])
@pytest.mark.parametrize(("low", "high", "most"), [(-7, 7, 4), (-8, 7, 4), (-127, 127, 8)])
@pytest.mark.parametrize("axis", [0, 1])
def test_scales_of_blocks_are_found_when_weights_are_on_a_grid(
    axis: int, low: int, high: int, most: int, block: int
) -> None:
    values = np.ascontiguousarray(on_rows((256 * 256 // block, block), low, high).reshape(256, 256))

    found = bits("block_scales", values if axis else values.T)

    assert found < most + 32 / block + 0.15


def test_zero_points_are_kept_when_blocks_are_not_centred() -> None:
    random = np.random.default_rng(0)
    scales = (0.1 + random.random((2048, 1))).astype(np.float32)
    numbers = random.integers(0, 16, (2048, 32)) - random.integers(0, 16, (2048, 1))

    assert bits("block_scales", (scales * numbers.astype(np.float32)).reshape(256, 256)) < 4 + 5 / 4 + 0.05


@pytest.mark.parametrize("name", ["row_scales", "block_scales", "halves", "repeated_rows"])
def test_encoding_refuses_when_weights_are_arbitrary(name: str) -> None:
    values = np.random.default_rng(0).normal(size=(96, 128)).astype(np.float32)

    assert ENCODINGS[name](Contents("w", values), 21) is None


@pytest.mark.parametrize("short", ["float16", "bfloat16"])
def test_half_the_bits_do_when_the_values_fit_a_shorter_type(short: str) -> None:
    values = np.random.default_rng(0).normal(size=(96, 128)).astype(np.float32)
    short_values = values.astype(np.dtype(getattr(ml_dtypes, short, short))).astype(np.float32)

    assert bits("halves", short_values) == 16


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("distinct", [1, 2, 50, 300, 700])
def test_rows_are_stored_once_when_they_repeat(distinct: int, opset: int) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(distinct, 16)).astype(np.float32)[random.integers(0, distinct, 3000)]

    assert bits("repeated_rows", values, opset) < 32 * distinct / 3000 + 16 / 16 + 1


@pytest.mark.parametrize("rest", [-1, 0, 5, 400, 1_000_000])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_bit_for_each_place_does_when_integers_number_them(dtype: str, rest: int) -> None:
    kept = np.random.default_rng(0).random(9000) < 0.2
    kept[:10] = True
    values = np.where(kept, np.cumsum(kept) - 1, rest).astype(dtype)

    assert bits("ranks", values) < 1.1


def test_ranks_refuse_when_a_number_is_missing_or_out_of_order() -> None:
    for values in ([0, 1, 3, 4], [0, 2, 1, 3], [1, 2, 3], [5, 5, 1, 5, 0, 5]):
        assert ENCODINGS["ranks"](Contents("w", np.asarray(values, np.int32)), 13) is None


@pytest.mark.parametrize(
    ("width", "kinds", "most"), [(2, 256, 4.6), (4, 256, 2.6), (8, 200, 2), (16, 300, 3), (4, 2000, 8)]
)
def test_parts_of_rows_are_stored_once_when_they_repeat(width: int, kinds: int, most: float) -> None:
    random = np.random.default_rng(0)
    parts = random.normal(size=(kinds, width)).astype(np.float32)
    values = parts[random.integers(0, kinds, 384 * 768 // width)].reshape(384, 768)

    assert bits("repeated_rows", values) < most


def test_distinct_rows_are_shared_values_when_those_are_few() -> None:
    random = np.random.default_rng(0)
    values = random.choice([-0.5, 0, 0.5], (100, 64)).astype(np.float32)[random.integers(0, 100, 3000)]

    assert bits("repeated_rows", values) < 0.2


def of_blocks(width: int, block: int) -> Array:
    """Return 384 rows of 768 whose blocks have 16 sub-vectors each."""
    random = np.random.default_rng(0)
    parts = random.normal(size=(-(-384 // block), 16, width)).astype(np.float32)
    places = random.integers(0, 16, (len(parts), block * 768 // width))
    return np.concatenate([part[place] for part, place in zip(parts, places, strict=True)]).reshape(-1, 768)[:384]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("width", "block", "most"), [(1, 64, 4.1), (4, 64, 1.1), (8, 128, 0.55), (2, 256, 2.1)])
def test_entries_of_each_block_are_told_apart_when_codebooks_differ(
    width: int, block: int, most: float, transposed: bool
) -> None:
    values = of_blocks(width, block)

    assert bits("block_codebooks", values.T if transposed else values) < most


def test_codebooks_of_kernels_are_found_along_any_axis() -> None:
    kernels = of_blocks(4, 1000).reshape(384, 256, 3)

    for axis in range(3):
        assert bits("block_codebooks", np.moveaxis(kernels, 0, axis)) < 1.1
